"""The coordinator of a batch on several machines: hands submissions out to workers, and takes in what came of them."""

import contextlib
import json
import secrets
import shutil
import socket
import tarfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import kombu
from kombu.exceptions import ChannelError, OperationalError

from labkit.brokers import InfrastructureError
from labkit.brokers.base import without_password
from labkit.grade.celery_app import (
    AHEAD,
    CONNECT_SECONDS,
    DONE,
    LEASE_SECONDS,
    MOST_TRIES,
    NOBODY_SECONDS,
    PREFIX,
    REFUSED,
    TASK,
    TASKS,
    UNACKED,
    Exchange,
    application,
    is_redis,
    packed_to_text,
    replies_queue,
    tasks_queue,
    text_to_packed,
)
from labkit.grade.one import Request
from labkit.grade.packed import TooLarge, pack_submission, unpack
from labkit.grade.sources import BadSource, Handed, fetch
from labkit.grade.taken_over import asked, course_version
from labkit.grader.record import replace
from labkit.grader.words import clean
from labkit.janitor import janitor, temporary_folder

if TYPE_CHECKING:
    from labkit.grade.batch import Ended, Order


@dataclass
class Sent:
    """A submission whose task is out. heard: when something was last heard of it (monotonic); worker: who has it."""

    order: "Order"
    handed: Handed
    heard: float
    task: dict = field(repr=False)
    tries: int = 1
    worker: str = ""


class Coordinator:
    """Hands out the submissions of one batch, and takes in what came of them. To be entered; it leaves nothing behind.

    say: prints a line. here: grades a submission on this machine, for one that cannot travel.
    """

    def __init__(
        self,
        url: str,
        request: Request,
        out: Path,
        *,
        say: Callable[[str], None],
        here: Callable[["Order"], "Ended"],
        lease: float = LEASE_SECONDS,
    ) -> None:
        self.url, self.request, self.out, self.say, self.here, self.lease = (
            url,
            request,
            out,
            say,
            here,
            lease,
        )
        self.batch = secrets.token_hex(6)
        self.app = application(url)
        self.replies = f"{PREFIX}replies.{self.batch}"
        self.sent: dict[str, Sent] = {}
        self.at_home: set[Future] = set()
        self.arrived: deque[dict] = deque()
        self.workers: set[str] = set()
        self.alone = ThreadPoolExecutor(1, "not-sent")
        self.said_nobody = False

    def __enter__(self) -> Self:
        try:
            self._connect()
        except self.errors as trouble:
            raise InfrastructureError(
                f"the broker at {without_password(self.url)} does not answer ({trouble}); start it, or check the URL"
            ) from None
        return self

    def __exit__(self, *exception) -> None:
        self.alone.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(*self.errors, OSError):
            self._tidy_up()
        with contextlib.suppress(Exception):
            self.connection.close()

    @property
    def errors(self) -> tuple[type[BaseException], ...]:
        """What a broker that is gone raises."""
        connection = self.app.connection_for_write()
        return (*connection.connection_errors, *connection.channel_errors, OperationalError, OSError)

    def _connect(self) -> None:
        self.connection = self.app.connection_for_write()
        self.connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=CONNECT_SECONDS)
        self.channel = self.connection.channel()
        self.consumer = kombu.Consumer(
            self.channel,
            [replies_queue(self.replies)],
            callbacks=[self._arrive],
            accept=["json"],
            no_ack=True,
        )
        self.consumer.consume()

    # ---- the batch ----

    def grade(self, orders: Iterable["Order"]) -> Iterator["Ended | None"]:
        """Have all orders graded; yield each as it ends, once, and None now and then.

        A broker that is away for a while is waited for; one that stays away ends the batch, and what is left of it
        comes as the grader's own trouble.
        """
        left, away_since, began = iter(orders), 0.0, time.monotonic()
        more = True
        while more or self.sent or self.at_home:
            try:
                if away_since:
                    self._connect()
                    away_since = 0.0
                while more and self._waiting() < AHEAD:
                    order = next(left, None)
                    more = order is not None
                    if more:
                        self._hand_out(order)
                self._drain()
                self._send_again_what_is_lost()
            except self.errors as trouble:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > self.lease * 3:
                    yield from self._given_up(left, f"the broker of --celery went away: {trouble}")
                    return
                time.sleep(0.5)  # before it is tried again
            yield from self._ended()
            yield None
            if not self.workers and not self.said_nobody and time.monotonic() - began > NOBODY_SECONDS:
                self.said_nobody = True
                self.say("No worker has taken a submission yet. On each machine that is to grade: "
                         f"./lab grade --celery-worker {without_password(self.url)}")  # fmt: skip

    def _waiting(self) -> int:
        """How many submissions nobody has begun yet, as far as is known."""
        return sum(not sent.worker for sent in self.sent.values()) + len(self.at_home)

    def _hand_out(self, order: "Order") -> None:
        """Send a submission as a task; one that is refused, or does not fit, is graded here."""
        place = temporary_folder()
        try:
            handed = fetch(order.source, place)
            packed = pack_submission(handed.folder)
        except (BadSource, TooLarge, InfrastructureError, OSError):
            self.at_home.add(self.alone.submit(self.here, order))
            return
        finally:
            shutil.rmtree(place, ignore_errors=True)
            janitor().forget_folder(place)
        task = {
            "batch": self.batch,
            "name": order.name,
            "request": {key: value for key, value in asked(self.request).items() if key != "course"},
            "course": course_version(),
            "replies": self.replies,
            "submission": packed_to_text(packed),
        }
        self.sent[order.name] = Sent(order, handed, time.monotonic(), task)
        self._send(self.sent[order.name])

    def _send(self, sent: Sent) -> None:
        sent.heard, sent.worker = time.monotonic(), ""
        self.app.send_task(
            TASK,
            args=[sent.task],
            task_id=f"{self.batch}.{sent.order.name}.{sent.tries}",
            connection=self.connection,
            queue=tasks_queue(self.url),
            argsrepr=sent.order.name,
            retry=False,
        )

    # ---- what the workers say ----

    def _arrive(self, reply: dict, message: kombu.Message) -> None:
        if isinstance(reply, dict) and reply.get("batch") == self.batch:
            self.arrived.append(reply)
            if sent := self.sent.get(reply.get("name", "")):
                sent.heard = time.monotonic()  # at once: a slow git server holds up all that comes after

    def _drain(self) -> None:
        """Take in all that has arrived; wait a moment if nothing has."""
        timeout = 0.5
        with contextlib.suppress(socket.timeout, TimeoutError):
            while True:
                self.connection.drain_events(timeout=timeout)
                timeout = 0.01
                if len(self.arrived) >= AHEAD and any(reply["kind"] == DONE for reply in self.arrived):
                    return  # results are large: they are written before more are taken in

    def _ended(self) -> Iterator["Ended"]:
        while self.arrived:
            reply = self.arrived.popleft()
            sent = self.sent.get(reply.get("name", ""))
            worker = clean(str(reply.get("worker", "")))[:80]
            if worker not in self.workers:
                self.workers.add(worker)
                self.say(f"{worker} grades, too.")
            if sent is None:
                continue  # a second result, or a beat that comes late
            sent.worker = worker
            if reply["kind"] == DONE:
                del self.sent[sent.order.name]
                yield self._take_in(sent, reply)
            elif reply["kind"] == REFUSED:
                why = clean(str(reply.get("why", "")))[:200]
                if ended := self._again(sent, f"{worker}: {why}"):
                    yield ended
        for future in [future for future in self.at_home if future.done()]:
            self.at_home.remove(future)
            yield future.result()
        for sent in [sent for sent in self.sent.values() if sent.tries > MOST_TRIES]:
            yield self._give_up(sent, f"{MOST_TRIES} workers were lost while they graded it")

    def _take_in(self, sent: Sent, reply: dict) -> "Ended":
        """Put a result into its folder, with what only this machine knows: where the submission came from."""
        order, handed = sent.order, sent.handed
        folder = self.out / order.name
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            unpack(text_to_packed(reply["folder"]), folder)
            grade = json.loads((folder / "grade.json").read_text())
            there = grade["source"]
            grade |= {"name": order.name, "source": clean(handed.source), "digest": handed.digest}
            grade |= {"commit": handed.commit, "committed": handed.committed}
            notes = [*handed.notes, *(note.replace(there, handed.source) for note in grade["notes"])]
            grade["notes"] = [clean(note) for note in dict.fromkeys(notes)]
            grade["labs"] = [lab | {"submission": clean(handed.source)} for lab in grade["labs"]]
            replace(folder / "grade.json", json.dumps(grade, indent=2, ensure_ascii=False) + "\n")
        except (OSError, ValueError, LookupError, TypeError, tarfile.TarError, TooLarge) as trouble:
            (folder / "grade.json").unlink(missing_ok=True)
            return order, None, f"what {sent.worker} sent back cannot be used ({trouble})"
        return order, grade, ""

    # ---- what was lost ----

    def _send_again_what_is_lost(self) -> None:
        now = time.monotonic()
        for sent in list(self.sent.values()):
            if now - sent.heard < self.lease:
                continue
            if not sent.worker and self._at_the_broker():
                sent.heard = now  # it waits there, most likely
                continue
            self.say(f"Nothing was heard of {sent.worker or 'who took it'} for {now - sent.heard:.0f} s; "
                     f"{sent.order.name} is handed out again.")  # fmt: skip
            sent.tries += 1
            if sent.tries <= MOST_TRIES:
                self._send(sent)

    def _at_the_broker(self) -> int:
        """How many tasks wait there, of whichever batch."""
        with self.connection.channel() as channel:
            try:
                return tasks_queue(self.url)(channel).queue_declare(passive=True).message_count
            except ChannelError:
                return 0  # no such queue: nothing waits

    def _again(self, sent: Sent, why: str) -> "Ended | None":
        """Hand a submission out again that a worker would not grade; with the reason, once that was often enough."""
        sent.tries += 1
        if sent.tries > MOST_TRIES:
            return self._give_up(sent, why)
        self.say(f"{why}; {sent.order.name} is handed out again.")
        self._send(sent)
        return None

    def _give_up(self, sent: Sent, why: str) -> "Ended":
        self.sent.pop(sent.order.name, None)
        return sent.order, None, why

    def _given_up(self, left: Iterator["Order"], why: str) -> Iterator["Ended"]:
        for sent in list(self.sent.values()):
            yield self._give_up(sent, why)
        for order in left:
            yield order, None, why

    # ---- the end ----

    def _tidy_up(self) -> None:
        """Take away what is ours on the broker: waiting tasks, those of dead workers, the replies, and the queues."""
        with contextlib.suppress(*self.errors):
            self.consumer.cancel()
        with self.connection.channel() as channel:
            queue = tasks_queue(self.url)(channel)
            others = []
            with contextlib.suppress(ChannelError):
                for _ in range(queue.queue_declare(passive=True).message_count):
                    if (message := queue.get(no_ack=False, accept=["json"])) is None:
                        break
                    if str(message.headers.get("id", "")).startswith(f"{self.batch}."):
                        message.ack()
                    else:
                        others.append(message)
            for message in others:
                message.requeue()
        if is_redis(self.url):
            self._forget_unacknowledged()
        for name, options in ((self.replies, {}), (TASKS, {"if_unused": True, "if_empty": True})):
            with contextlib.suppress(*self.errors), self.connection.channel() as channel:
                kombu.Queue(name, Exchange, routing_key=name)(channel).delete(**options)

    def _forget_unacknowledged(self) -> None:
        """Celery keeps what a worker has taken until it is acknowledged; of a worker that is gone, nobody does."""
        import redis

        with redis.Redis.from_url(self.url, socket_timeout=CONNECT_SECONDS) as client:
            for tag, kept in client.hscan_iter(UNACKED, count=10):
                with contextlib.suppress(ValueError, LookupError, TypeError):
                    if json.loads(kept)[0]["headers"]["id"].startswith(f"{self.batch}."):
                        client.hdel(UNACKED, tag)
                        client.zrem(f"{UNACKED}_index", tag)
