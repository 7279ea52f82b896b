"""Dead letters, and what dlq.py does with them, as one sees it who types its commands in a terminal."""

import json

from labkit.demo.sight import SOON, Sight, judged
from labkit.demo.stage import NOTE
from labkit.demo.view import STRONG, Panel, Words
from labkit.demo.watch import Watch
from labkit.grader.actor import Actor
from labkit.grader.material.lab04_dead_letters import letters
from labkit.grader.scene import Scene
from labkit.grader.words import clean, names

REASON_SHOWN = 60  # characters of a reason that a list shows at least
MOST_ROWS = 3
SHOW, REPLAY = "show", "replay"


class DeadLetters:
    """See the module. replayed: the tasks that have left the dead letters."""

    def __init__(self, scene: Scene, watch: Watch) -> None:
        self.scene, self.watch = scene, watch
        self.replayed: list[int] = []
        self._dlq: Actor | None = None
        self._before: list[int] = []  # the letters that there were when it was run
        self._command = ""
        self._asked: list[int] = []

    def now(self) -> dict[int, dict]:
        """The letters by the numbers of their tasks."""
        return letters(self.scene)

    def run(self, command: str, *words: str) -> None:
        """Run dlq.py to its end; words: numbers of tasks, or options."""
        self._before = list(self.now())
        self._command, self._asked = command, [int(word) for word in words if word.isdigit()]
        ids = [self.scene.tasks[number].id for number in self._asked]
        options = [word for word in words if not word.isdigit()]
        typed = " ".join(["python dlq.py", command, *(f"{each[:8]}-..." for each in ids), *options])
        self.watch.line(NOTE, f"$ {typed}")
        self._dlq = self.scene.start("dlq.py", command, *ids, *options, name="dlq")
        self.watch.until(lambda: not self._dlq.running)

    def said(self) -> list[str]:
        """What dlq.py printed last, line by line."""
        return [clean(line) for line in self._dlq.process.output().splitlines()] if self._dlq else []

    # ---- what there is to see -----------------------------------------------------------------------------

    def panel(self) -> Panel | None:
        """The letter that dlq.py has shown, or all, the last ones if they are many; None while there are none."""
        found = self.now()
        if self._command == SHOW and self._asked[0] in found:
            return self._shown_panel(self._asked[0])
        return self._panel(found) if found else None

    def _panel(self, found: dict[int, dict]) -> Panel:
        rows = []
        for number, letter in sorted(found.items())[-MOST_ROWS:]:
            reason = clean(str(letter.get("reason", ""))) if isinstance(letter, dict) else ""
            attempts = letter.get("attempts", 0) if isinstance(letter, dict) else 0
            rows.append((f"{number:>4}", f"{attempts:>8}", Words(reason, STRONG)))
        heads = ("task", "attempts", "reason")
        return Panel("dead letters", (4, 8, 0), tuple(rows), heads, note=f"{len(found)} in all", lines=2)

    def _shown_panel(self, task: int) -> Panel:
        """What dlq.py printed about one letter: the fields that matter, and where in the code it happened."""
        fields = self._printed()
        rows = [
            (Words(name), _shown(fields[name])) for name in ("reason", "died_at", "body") if name in fields
        ]
        where = [line.strip() for line in self.said() if line.strip().startswith("File ")]
        rows += [("where", where[-1].rpartition("/")[2].replace('"', ""))] if where else []
        return Panel(f"dlq.py show: task {task}", (8, 0), tuple(rows), note="one dead letter", lines=4)

    def _printed(self) -> dict[str, object]:
        """The JSON object that stands at the beginning of what dlq.py printed, as far as there is one."""
        try:
            fields, _ = json.JSONDecoder().raw_decode(self._dlq.process.output())
        except (ValueError, RecursionError):
            return {}
        return fields if isinstance(fields, dict) else {}

    # ---- what must be seen --------------------------------------------------------------------------------

    def listed(self) -> Sight:
        """dlq.py tells of each dead letter, with its reason."""
        dead, said = self.now(), self.said()
        ids = {number for number in dead if self.scene.tasks[number].id}
        by_id = {number for line in said for number in self._tasks_in(line)}
        reasons = [str(letter["reason"])[:REASON_SHOWN] for letter in dead.values()]
        right = (
            len(said) == len(dead)
            and by_id == ids
            and all(any(each in line for line in said) for each in reasons)
        )
        words = f"dlq.py lists {names(dead)}, each with its reason"
        return judged(right, words, "dlq.py lists each dead letter", self._instead(), within=SOON)

    def shown(self, task: int) -> Sight:
        """dlq.py tells all about this letter."""

        def there() -> str:
            letter, said = self.now().get(task) or {}, "\n".join(self.said())
            traced = [line for line in str(letter.get("traceback", "")).splitlines() if line.strip()]
            wanted = [clean(str(letter.get("reason", "?"))), *map(clean, traced)]
            right = traced and self._tasks_in(said) == (task,) and all(each in said for each in wanted)
            return (
                f"dlq.py shows task {task}: its reason, its body, and {len(traced)} lines of traceback"
                if right
                else ""
            )

        return Sight(f"dlq.py shows all about task {task}", there, SOON, self._instead)

    def are_replayed(self, task: int) -> Sight:
        """dlq.py says so, and the letter is gone."""

        def there() -> str:
            said = any("not" not in line and task in self._tasks_in(line) for line in self.said())
            if not said or task in self.now():
                return ""
            self.replayed = sorted({*self.replayed, task})
            return f"dlq.py: task {task} {self.said()[0].split()[-1]}, as if it were new"

        return Sight(f"task {task} is replayed", there, SOON, self._instead)

    def all_are_replayed(self, left: set[int]) -> Sight:
        """Whatever can be tried again has left the dead letters; of the rest dlq.py says why not."""
        before = set(self._before)

        def there() -> str:
            if set(self.now()) != left:
                return ""
            self.replayed = sorted({*self.replayed, *(before - left)})
            return f"dlq.py replays {names(before - left)}, not {names(left)}: it would die again"

        return Sight(f"all are replayed, but {names(left)}", there, SOON, self._instead)

    def _instead(self) -> str:
        return "; ".join(self.said())[:70]

    def _tasks_in(self, text: str) -> tuple[int, ...]:
        return self.scene.tasks.numbers_in(text.encode())


def _shown(value: object) -> str:
    return clean(" ".join(str(value).split()))
