"""The mails that have arrived: the evidence of lab 1, and what its demonstration keeps."""

import functools
from dataclasses import dataclass

from labkit.demo.view import Panel
from labkit.grader.history import WORK_FINISHED
from labkit.grader.mail import TASK_HEADER, Mail
from labkit.grader.scene import Scene
from labkit.grader.words import clean


@dataclass(frozen=True)
class Arrived:
    """A mail that a worker sent. task: the id that it names; content: the whole of it."""

    sender: str
    to: str
    subject: str
    task: str
    content: bytes


class Inbox:
    """All workers' mail servers, seen as one."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def mails(self) -> dict[int, Arrived]:
        """The mails by number of their task, in the order in which they arrived; one that names no task is left out."""
        by_id = {mail.task: mail for mail in map(_read, self.scene.mails())}
        order = [number for event in self.scene.history.events(WORK_FINISHED) for number in event.tasks]
        ids = {number: self.scene.tasks[number].id for number in order}
        return {number: by_id[id] for number, id in ids.items() if id in by_id}

    def is_right(self, number: int, mail: Arrived) -> bool:
        """Whether this is the mail that the task asks for."""
        task = self.scene.json(self.scene.tasks[number].body)
        return isinstance(task, dict) and (mail.to, mail.subject) == (task.get("to"), task.get("subject"))

    def panel(self, lines: int) -> Panel:
        """A line for each mail, the newest last."""
        mails = self.mails()
        rows = tuple(
            (f"{number:>3}", f"from {mail.sender}", f"to {mail.to}", mail.subject)
            for number, mail in mails.items()
        )
        return Panel("inbox", (3, 12, 24, 0), rows, note=f"{len(mails)} mails", lines=lines, log=True)

    def lay_out(self) -> None:
        """Put each mail into the scene's output folder, under the id of its task."""
        for mail in self.mails().values():
            (self.scene.outputs / f"{mail.task}.eml").write_bytes(mail.content)


@functools.lru_cache(maxsize=1000)
def _read(mail: Mail) -> Arrived:
    content = mail.read()
    task = str(content.get(TASK_HEADER, "")).strip()
    to, subject = ", ".join(mail.recipients), clean(str(content.get("Subject", "")))
    return Arrived(mail.sender, clean(to), subject, task, mail.content)
