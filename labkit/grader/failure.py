"""How a check ends when it does not pass."""

from typing import TYPE_CHECKING, Self

from labkit.brokers import InfrastructureError

if TYPE_CHECKING:
    from labkit.grader.scene import Scene

__all__ = ["CheckFailed", "CheckTimedOut", "GivenUp", "InfrastructureError", "NotApplicable", "TooSlow"]


class CheckFailed(Exception):
    """The submission did not do what the check asks. Its text is the story, as the student reads it.

    schedule: the faults that were injected, for --replay. in_doubt: the scene, if the machine held it up for so long
    that the failure counts only when it comes twice.
    """

    def __init__(self, story: str, *, schedule: dict | None = None, in_doubt: "Scene | None" = None) -> None:
        super().__init__(story)
        self.schedule, self.in_doubt = schedule or {}, in_doubt

    def told_as(self, story: str) -> Self:
        """The same failure with another story."""
        return type(self)(story, schedule=self.schedule, in_doubt=self.in_doubt)


class CheckTimedOut(CheckFailed):
    """The submission did nothing more, or never stopped, within the check's limit."""


class GivenUp(Exception):
    """The check is played no further: one that it waits for has failed."""


class TooSlow(Exception):
    """The machine held something up for so long that the scene shows nothing about the submission: play it again."""


class NotApplicable(Exception):
    """The check cannot be made here, such as killing a broker that is not ours. Its text is the reason."""
