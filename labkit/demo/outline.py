"""The steps of a demonstration by number, with the words that begin each: for a presenter's notes, and for jumps."""

from labkit.course import Lab
from labkit.demo import script


def outline(lab: Lab) -> list[str]:
    """A line for each step. What is known only during the play, such as a task's number, stays in braces.

    Raises:
        NoScript: the lab has no demonstration.
    """
    return [f"{step.number:>3}  {step.say[0]}" for step in script.read(lab).steps if step.say]
