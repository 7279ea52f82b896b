"""How a check ends when it does not pass."""

from labkit.brokers import InfrastructureError

__all__ = ["CheckFailed", "CheckTimedOut", "InfrastructureError", "NotApplicable", "TooSlow"]


class CheckFailed(Exception):
    """The submission did not do what the check asks. Its text is the story, as the student reads it."""

    def __init__(self, story: str, *, schedule: dict | None = None) -> None:
        super().__init__(story)
        self.schedule = schedule or {}  # the faults that were injected, for --replay


class CheckTimedOut(CheckFailed):
    """The submission did nothing more, or never stopped, within the check's limit."""


class TooSlow(Exception):
    """The machine held something up for so long that the scene shows nothing about the submission: play it again."""


class NotApplicable(Exception):
    """The check cannot be made here, such as killing a broker that is not ours. Its text is the reason."""
