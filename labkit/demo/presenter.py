"""What the person at the keyboard wants: to go on, to go to another step, to lay hands on the scene, or to end.

Keys are only noted when they are typed; the player asks what was wanted whenever it waits for something.
"""

from collections.abc import Callable

from labkit.demo.stage import Stage

ON = "\r\n "  # the keys that go on, or to the step whose number was typed
TAKE_BACK = "\x1b\x7f\b"
END = "q"
KILL, PAUSE, BROKER, MORE, FEWER = "k", "p", "b", "+", "-"
HANDS = (KILL, PAUSE, BROKER, MORE, FEWER)
HELP = "Enter on · 1-{last} step · k kill · p pause · b broker · + - workers · q end"


class Jump(Exception):
    """The demonstration is to go on at another step."""

    def __init__(self, step: int) -> None:
        """step: its number, from 1."""
        super().__init__(f"step {step}")
        self.step = step


class Quit(Exception):
    """The presenter has seen enough."""


class Presenter:
    """hand: what a key of HANDS does, set when there is a scene; auto: nobody is waited for, though keys are heard."""

    hand: Callable[[str], None]

    def __init__(self, stage: Stage, steps: int, *, auto: bool) -> None:
        self.stage, self.auto = stage, auto
        self._steps = steps
        self._digits = ""
        self._goes_on = False
        self._told = ""
        self.hand = lambda key: None

    def look(self) -> None:
        """Hear what was typed since the last look.

        Raises:
            Jump: to another step.
            Quit: the end is wanted.
        """
        for key in self.stage.typed():
            self._press(key)

    def goes_on(self) -> bool:
        """Whether it was asked to go on since the last time that this was true."""
        goes_on, self._goes_on = self._goes_on, False
        return goes_on

    def tell(self, words: str) -> None:
        """Say what is waited for: in the place where the keys are told."""
        self._told = words
        if self._digits:  # Enter would go there: that is what has to be told
            words = f"to step {self._digits}: Enter; Esc: stay here"
        self.stage.prompt(words or HELP.format(last=self._steps))

    def _press(self, key: str) -> None:
        digits, self._digits = self._digits, ""
        if key == END:
            raise Quit
        if key.isascii() and key.isdigit():
            self._digits = (digits + key).lstrip("0")[-len(str(self._steps)) :]
            self.tell(self._told)
        elif key in ON and digits:
            if int(digits) <= self._steps:
                raise Jump(int(digits))
            self.stage.prompt(f"there is no step {digits}: the last is {self._steps}")
        elif key in ON:
            self._goes_on = True
        elif key in TAKE_BACK:
            self.tell(self._told)
        elif key in HANDS:
            self.hand(key)
