"""What a demonstration has ready before its scene is set: files beside the submission's, things to work on."""

from pathlib import Path

from labkit.course import Lab
from labkit.demo.script import Script


class BadProps(Exception):
    """What the user gave to work on cannot be used. Its text is one line for the user."""


class Props:
    """Nothing at all: a lab whose demonstration needs something has a subclass.

    files: laid beside the submission's scripts, by name.
    """

    files: dict[str, bytes]

    def __init__(self, lab: Lab, script: Script, photos: Path | None) -> None:
        """photos: the folder that the user wants to see worked on, if any. Nothing is started yet.

        Raises:
            BadProps: it cannot be worked on.
        """
        if photos is not None:
            raise BadProps(f"The demonstration of lab {lab.number} does not work on photographs.")
        self.files = {}

    def open(self) -> None:
        """Begin to make what takes time."""

    def settings(self) -> dict[str, object]:
        """Environment of the lab's scripts."""
        return {}

    def close(self) -> None:
        """End what is still under way. Closing twice is allowed, and closing without opening."""
