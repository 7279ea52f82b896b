"""The grader's mail server: real SMTP, real evidence. A mail is the start and the finish of its task's work."""

import contextlib
import smtplib
import threading
import uuid
from email.message import EmailMessage

import pytest

from labkit.grader.history import WORK_FAILED, WORK_FINISHED, WORK_STARTED, History
from labkit.grader.ledger import WorkControl
from labkit.grader.loop import Loop
from labkit.grader.mail import MailLane
from labkit.grader.tasks import Tasks

WITHIN_SECONDS = 10


class Play:
    """What a mail lane needs of a scene: its history, its tasks, and the control of the work on them."""

    def __init__(self, loop):
        self.loop, self.history, self.tasks = loop, History(), Tasks("mail", "mail")
        self.work = WorkControl(loop, self.history, self.tasks)
        self.ids = [str(uuid.uuid4()) for _ in range(3)]
        for each in self.ids:
            self.tasks.add(f'{{"id": "{each}"}}'.encode())

    def happened(self):
        return [(event.what, *event.tasks) for event in self.history.events()]

    def wait_for(self, *what):
        assert self.history.wait_until(lambda: what in self.happened(), WITHIN_SECONDS), self.happened()


@pytest.fixture
def play():
    loop = Loop()
    yield Play(loop)
    loop.close()


@pytest.fixture
def lane(play):
    opened = play.loop.call(MailLane(play, "alice").open())
    yield opened
    play.loop.call(opened.close())


def send(lane, task_id="", timeout=WITHIN_SECONDS):
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "shop@example.com", "ada@example.com", "Grüße"
    if task_id:
        mail["X-Task-Id"] = task_id
    mail.set_content("Dear Ada,\n\nwelcome.\n")
    with smtplib.SMTP("127.0.0.1", lane.port, "localhost", timeout=timeout) as smtp:
        smtp.send_message(mail)


@contextlib.contextmanager
def sending(lane, task_id):
    """Send in a thread; yields the list in which its error ends up."""
    errors = []

    def run():
        try:
            send(lane, task_id)
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield errors
    thread.join(WITHIN_SECONDS)
    assert not thread.is_alive()


def test_a_mail_is_the_work_on_its_task(play, lane):
    send(lane, play.ids[1])
    assert play.happened() == [(WORK_STARTED, 2), (WORK_FINISHED, 2)]
    (mail,) = lane.taken
    assert (mail.sender, mail.recipients) == ("alice", ("ada@example.com",))
    assert mail.read()["Subject"] == "Grüße"
    assert mail.read().get_content().splitlines() == ["Dear Ada,", "", "welcome."]


def test_a_mail_without_a_task_is_unexpected_work(play, lane):
    send(lane)
    send(lane, str(uuid.uuid4()))
    assert play.happened() == [(WORK_STARTED,), (WORK_FINISHED,)] * 2


def test_a_mail_that_is_held_is_answered_when_it_is_released(play, lane):
    play.work.hold(1)
    with sending(lane, play.ids[0]) as errors:
        play.wait_for(WORK_STARTED, 1)
        assert play.history.at_work() == {"alice"}
        send(lane, play.ids[1])  # the others go on
        assert lane.taken and (WORK_FINISHED, 1) not in play.happened()
        play.work.release()
        play.wait_for(WORK_FINISHED, 1)
    assert not errors


def test_a_mail_is_refused_with_the_reason(play, lane):
    play.work.fail(1, "no such mailbox")
    with pytest.raises(smtplib.SMTPDataError, match="no such mailbox"):
        send(lane, play.ids[0])
    assert play.happened() == [(WORK_STARTED, 1), (WORK_FAILED, 1)]
    assert not lane.taken


def test_who_hangs_up_while_the_server_keeps_it_waiting_has_failed(play, lane):
    play.work.hold(1)
    with pytest.raises(OSError):
        send(lane, play.ids[0], timeout=0.2)
    play.wait_for(WORK_FAILED, 1)
    assert play.history.at_work() == set() and not lane.taken


def test_after_the_cut_nothing_is_taken_or_recorded(play, lane):
    play.work.hold(1)
    with sending(lane, play.ids[0]) as errors:
        play.wait_for(WORK_STARTED, 1)
        play.loop.loop.call_soon_threadsafe(lane.cut)
        assert play.history.wait_until(lambda: errors, WITHIN_SECONDS)
        play.work.release()
    with pytest.raises(OSError):
        send(lane, play.ids[1])
    assert play.happened() == [(WORK_STARTED, 1)] and not lane.taken
