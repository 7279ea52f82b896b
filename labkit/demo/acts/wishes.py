"""Password resets that are queued as the newsletters are: behind ten thousand of them."""

import json
import uuid
from datetime import UTC, datetime

from labkit.demo.acts.levels import Levels
from labkit.demo.sight import Sight, judged
from labkit.grader.history import WORK_FINISHED
from labkit.grader.scene import Scene

LIST = "low"
MEASURED = 5  # mails by which the pace is reckoned


class Wishes:
    """See the module. made: their tasks, the first one first; newsletters: how many were queued before them."""

    def __init__(self, scene: Scene, levels: Levels, newsletters: int) -> None:
        self.scene, self.levels, self.newsletters = scene, levels, newsletters
        self.made: list[int] = []
        self._place = 0  # how many were before the last one when it came

    def make(self) -> None:
        """Queue one more."""
        mail = {
            "id": str(uuid.uuid4()),
            "to": "ada@example.com",
            "subject": "Reset your password",
            "body": "Dear Ada,\n\nhere is your link.\n",
            "priority": LIST,
            "created_at": datetime.now(UTC).isoformat(),
        }
        task = self.scene.adopt(json.dumps(mail).encode())
        self.scene.ask("LPUSH", self.levels.key(LIST), task.body)
        self.made.append(task.number)
        self._place = self.before(task.number)

    def before(self, number: int) -> int:
        """How many tasks will be taken before this one in the one list; 0 for one that is not there."""
        key = self.levels.key(LIST)
        place = self.scene.ask("LPOS", key, self.scene.tasks[number].body, "RANK", -1)
        return 0 if place is None else self.scene.ask("LLEN", key) - 1 - place

    def before_the_first(self) -> int:
        return self.before(self.made[0]) if self.made else 0

    def note(self) -> str:
        """What a panel says of the first one."""
        return f"task {self.made[0]}: {self.before_the_first():,} before it" if self.made else ""

    # ---- what must be seen --------------------------------------------------------------------------------

    def far_back(self) -> Sight:
        """The last one has nearly all newsletters before it, and the wishes that came earlier."""
        number, ahead = self.made[-1], self._place - (len(self.made) - 1)
        earlier = f" and task {self.made[-2]}" if len(self.made) > 1 else ""
        words = f"task {number}, a reset, is queued behind {ahead:,} newsletters{earlier}"
        expected = "the reset is queued behind the newsletters"
        return judged(ahead > self.newsletters / 2, words, expected)

    def still_far_back(self) -> Sight:
        """It waits; how long it will, is reckoned from what was just measured."""
        left = self.before_the_first()
        ends = [event.at for event in self.scene.history.events(WORK_FINISHED)][-MEASURED:]
        each = (ends[-1] - ends[0]) / (MEASURED - 1) if len(ends) == MEASURED else 0.0
        minutes = left * each / 60
        words = f"{left:,} are still before task {self.made[0]}: {minutes:.0f} minutes, at this pace"
        expected = "the reset still waits behind newsletters"
        return judged(0 < left < self._place, words, expected, self.levels.last_mails())

    def still_wait(self) -> Sight:
        first, left = self.made[0], self.before_the_first()
        words = f"task {first} still waits, behind {left:,} newsletters"
        return judged(0 < left < self._place, words, f"task {first} still waits", "It does not.")
