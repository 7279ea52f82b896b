"""A worker of `./lab grade --celery`: takes one submission after another from the broker, and sends back its results.

It acknowledges a task when its result has been sent. While it grades, a thread says that it lives.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import sys
import tarfile
import threading
import traceback
import warnings

import kombu
from celery.exceptions import SecurityWarning
from celery.signals import worker_ready
from kombu.exceptions import OperationalError

from labkit.brokers import InfrastructureError
from labkit.brokers.base import without_password
from labkit.course import NoSuchLab
from labkit.grade import one
from labkit.grade.celery_app import (
    ALIVE,
    BEAT_SECONDS,
    BEGUN,
    CONNECT_SECONDS,
    DONE,
    PREFIX,
    REFUSED,
    TASK,
    application,
    packed_to_text,
    replies_queue,
    request_from,
    tasks_queue,
    text_to_packed,
)
from labkit.grade.packed import TooLarge, pack_result, unpack
from labkit.grade.taken_over import course_version
from labkit.janitor import janitor, temporary_folder

SENT_WITHIN_TRIES = 10
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


class Replies:
    """What a worker has to say about one task, to the coordinator that sent it. Safe to use from several threads."""

    def __init__(self, app, task: dict, worker: str) -> None:
        self._app, self._queue = app, replies_queue(task["replies"])
        self._about = {"batch": task["batch"], "name": task["name"], "worker": worker}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="beats", daemon=True)

    def say(self, kind: str, **more: str) -> None:
        """Send one reply; OSError and the like if the broker does not take it after some tries."""
        with self._lock, self._app.connection_for_write() as connection:
            producer = kombu.Producer(connection, serializer="json")
            producer.publish(
                self._about | {"kind": kind} | more,
                exchange="",
                routing_key=self._queue.name,
                declare=[self._queue],
                retry=True,
                retry_policy={"max_retries": SENT_WITHIN_TRIES, "interval_start": 0.2, "interval_max": 2},
            )

    def __enter__(self) -> "Replies":
        self.say(BEGUN)
        self._beats.start()
        return self

    def __exit__(self, *exception) -> None:
        self._over.set()
        self._beats.join()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            with contextlib.suppress(Exception):  # the next one may get through
                self.say(ALIVE)


def grade_task(app, task: dict, worker: str) -> None:
    """Grade the submission that a task carries, and send back its folder."""
    if not NAME.fullmatch(task["name"]) or not task["replies"].startswith(PREFIX):
        raise ValueError(f"no task of ours: {task['name']!r:.80}")  # names become folders
    replies = Replies(app, task, worker)
    if task["course"] != course_version():
        replies.say(REFUSED, why="it has another version of the course")
        return
    place = temporary_folder()
    try:
        with replies:
            print(f"{worker}: {task['name']} begun", flush=True)
            try:
                unpack(text_to_packed(task["submission"]), place / "handed-in")
                [submission] = (place / "handed-in").iterdir()
                one.grade(str(submission), task["name"], request_from(task["request"]), place / "out")
                packed = pack_result(place / "out" / task["name"])
            except (OSError, ValueError, TypeError, NoSuchLab, TooLarge, tarfile.TarError) as trouble:
                replies.say(REFUSED, why=f"it could not grade this ({type(trouble).__name__}: {trouble})")
                return
        replies.say(DONE, folder=packed_to_text(packed))
    finally:
        shutil.rmtree(place, ignore_errors=True)
        janitor().forget_folder(place)
    print(f"{worker}: {task['name']} done", flush=True)


def run(url: str) -> int:
    """Work until SIGTERM or Ctrl-C: the submission in hand is finished first; a second Ctrl-C gives it back.

    Raises:
        InfrastructureError: the broker does not answer.
    """
    app = application(url)
    with app.connection_for_read() as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=CONNECT_SECONDS)
        except (*connection.connection_errors, OperationalError, OSError) as trouble:
            told = f"the broker at {without_password(url)} does not answer ({trouble})"
            raise InfrastructureError(f"{told}; start it, or check the URL") from None
    name = f"{socket.gethostname()}:{os.getpid()}"

    @app.task(name=TASK, acks_late=True, reject_on_worker_lost=True, ignore_result=True)
    def grade_one(task: dict) -> None:
        try:
            grade_task(app, task, name)
        except Exception:  # the coordinator hears nothing, and hands it out again
            traceback.print_exc()

    warnings.filterwarnings(
        "ignore", category=SecurityWarning
    )  # as root it is safe: the tasks are JSON, no pickle

    def say_that_it_waits(**_: object) -> None:
        print(f"{name}: waiting for submissions at {without_password(url)}; Ctrl-C ends it", flush=True)

    worker_ready.connect(say_that_it_waits)
    for number in (signal.SIGINT, signal.SIGTERM):  # until Celery has its own for them
        signal.signal(number, lambda *_: sys.exit(0))
    worker = app.Worker(
        hostname=name,
        pool="solo",
        concurrency=1,
        loglevel="ERROR",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    _leave_no_queue(app, url)
    return worker.exitcode or 0


def _leave_no_queue(app, url: str) -> None:
    """The last one out takes the empty queue away."""
    connection = app.connection_for_write()
    with (
        contextlib.suppress(
            *connection.connection_errors, *connection.channel_errors, OperationalError, OSError
        ),
        connection,
    ):
        tasks_queue(url)(connection.default_channel).delete(if_unused=True, if_empty=True)


if __name__ == "__main__":
    sys.exit("start it with: python -m labkit.grade.on_celery BROKER_URL")
