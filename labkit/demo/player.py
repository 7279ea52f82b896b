"""Plays a script: says its lines, has the lab's act do things, and waits until they are seen.

A word of the script is a method of the act: `do_NAME` does something and may return the story of what went wrong,
`see_NAME` returns a Sight.
"""

import contextlib
import time

from labkit.demo.act import Act
from labkit.demo.presenter import Quit
from labkit.demo.script import Script, Step
from labkit.demo.sight import Sight
from labkit.demo.stage import NOT_SEEN, NOTE, SAY, SEEN
from labkit.demo.watch import Watch
from labkit.grader.failure import CheckFailed
from labkit.resp import ReplyError

EXPECTANT = ("...", "?")  # after a line that ends so the room reads first, otherwise while the thing happens
LAST_LOOK_SECONDS = 1.5
LEFT_OUT = "(left out: the steps that build on what was not seen)"
TO_BE_SEEN = "This was to be seen: "
BROKER_SAYS = "The broker says: "


class Player:
    """One performance. `passed` stays true while everything is seen; `story` tells of the first thing that was not."""

    def __init__(self, script: Script, act: Act, watch: Watch) -> None:
        self.script, self.act, self.watch = script, act, watch
        self.passed, self.story = True, ""
        self._left_out = False

    def play(self, first: int = 1) -> None:
        """Play all steps; after one that failed, only those that are always played.

        first: the step to show, from 1; those before it are hurried through, since it needs what they have done.
        """
        self.watch.show()  # the stage has a moment to show before the first words
        if first > 1:
            self.watch.presenter.tell(f"on the way to step {first}: all before it, played fast")
        read_until = 0.0
        for step in self.script.steps:
            self.watch.read(read_until)
            self._hurry(step.number < first and self.passed)
            if not (self.passed or step.always):
                self._leave_out()
                continue
            if step.say:
                if step.number > first and not step.at_once:
                    self.watch.cue(0)
                self.watch.stage.step(step.number)
            if step.own_broker and not self.act.owns_broker:
                self.watch.line(NOTE, "(left out: the broker was given by URL, and is not ours to kill)")
            else:
                read_until = self._play(step)
        with contextlib.suppress(Quit):  # all is played: the verdict is told all the same
            self.watch.read(read_until)
            if self.watch.presenter.auto:
                self.watch.pause(LAST_LOOK_SECONDS / self.watch.speed)
            else:
                self.watch.cue(0)

    def _leave_out(self) -> None:
        """Tell, once, why the room sees no more of the steps."""
        if not self._left_out:
            self._left_out = True
            self.watch.line(NOTE, LEFT_OUT)

    def _hurry(self, hurries: bool) -> None:
        if hurries != self.watch.hurries:
            self.watch.hurries = hurries
            self.act.do_pace(self.act.pace)
            if not hurries:
                self.watch.presenter.goes_on()  # what was pressed on the way was not meant for this step
                self.watch.presenter.tell("")

    def _play(self, step: Step) -> float:
        """Play one step; return the moment up to which the room reads its last line."""
        read_until = self._say(step)
        for name, *args in step.do:
            self._do(name, args)
            if not self.passed and not step.always:
                return read_until
        for name, *args in step.see:
            self._see(name, args)
            if not self.passed and not step.always:
                break
        return read_until

    def _say(self, step: Step) -> float:
        """Say the lines of a step; return the moment up to which the room reads the last of them."""
        read_until = 0.0
        for place, line in enumerate(step.say):
            if place:  # its first words come at once: a recording names the step after them
                self.watch.read(read_until)
            words = line.format(**self.act.words())
            read_until = time.monotonic() + self.watch.line(SAY, words)
            if words.endswith(EXPECTANT):
                (self.watch.read if step.at_once else self.watch.cue)(read_until)
        return read_until

    def _do(self, name: str, args: list[str]) -> None:
        try:
            self._fail(getattr(self.act, f"do_{name}")(*args) or "")
        except (CheckFailed, ReplyError) as failure:
            self._fail(str(failure))
            self.watch.line(NOT_SEEN, _first_line(failure))

    def _see(self, name: str, args: list[str]) -> None:
        """Wait for a sight and say whether it came; one that need not be waited for is looked for once."""
        sight, instead = Sight(" ".join([name, *args]), lambda: None, within=0), ""
        try:
            sight = getattr(self.act, f"see_{name}")(*args)
            expected, task = TO_BE_SEEN + sight.words, self.act.task
            seen = (
                self.watch.expect(sight.there, expected, sight.within, task)
                if sight.within
                else sight.there()
            )
        except CheckFailed as failure:
            seen, instead = None, _first_line(failure)
            self._fail(str(failure))
        except ReplyError as error:  # such as WRONGTYPE: the code on stage has put something else there
            seen, instead = None, f"{BROKER_SAYS}{error}"
            self._fail(instead)
        self.watch.show()
        if seen:
            self.watch.line(SEEN, seen if isinstance(seen, str) else sight.words)
            return
        self.passed = False
        self._hurry(False)  # on the way to a step, too: the room is told why it does not get there
        self.watch.line(NOT_SEEN, sight.words)
        if not instead.startswith(BROKER_SAYS) and (not sight.within or instead.startswith(TO_BE_SEEN)):
            instead = sight.instead()
        if instead:
            self.watch.line(NOTE, instead)

    def _fail(self, story: str) -> None:
        """Note what went wrong; an empty story is none."""
        self.passed = self.passed and not story
        self.story = self.story or story


def _first_line(failure: Exception) -> str:
    return str(failure).partition("\n")[0]
