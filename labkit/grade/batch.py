"""Grade many submissions, some at a time; one that goes wrong spoils none of the others.

What has ended is in the gradebook at once, so that a batch that is killed leaves a readable one, and goes on where it
stopped when the same command is given again.
"""

import concurrent.futures
import contextlib
import errno
import fcntl
import itertools
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit import reports
from labkit.commands.check import leave, shown
from labkit.grade import names, one
from labkit.grade.gradebook import Gradebook, Row, row_of
from labkit.grade.one import Request
from labkit.grade.progress import Shown
from labkit.grade.sources import told_as
from labkit.grade.taken_over import finished, stamp
from labkit.grader.schedule import INFRASTRUCTURE
from labkit.grader.words import clean, counted

WRITE_EVERY_SECONDS = 1.0  # the gradebook, in the middle of a batch
LOCK = ".lock"

Grade = Callable[[str, str, Request, Path], dict]


@dataclass(frozen=True)
class Order:
    """One submission to be graded: its source as it was given, and its name in this batch."""

    source: str
    name: str


Ended = tuple[
    Order, dict | None, str
]  # an order with its grade record, or with what went wrong of the grader's own


def run(
    sources: Sequence[str],
    request: Request,
    out: Path,
    *,
    jobs: int = 1,
    formats: Sequence[str] = (),
    fresh: bool = False,
    celery: str = "",
    grade: Grade = one.grade,
) -> int:
    """Grade all sources into out/NAME/, `jobs` at a time; return the exit status.

    fresh: take nothing over from an earlier run. celery: the URL of a broker whose workers are to do it. grade: what
    grades one submission on this machine.

    Returns 0 when everything was graded, 2 if another batch is writing to `out`, 3 if something of the grader's own
    failed for some. Ctrl-C ends the process with status 130, and with it everything that it has started.
    """
    with _ending_at_sigterm():
        try:
            out.mkdir(parents=True, exist_ok=True)
            with _alone(out):
                return _Batch(sources, request, out, formats, grade).run(jobs, celery, fresh=fresh)
        except BlockingIOError:
            print(f"lab: another ./lab grade is writing to {shown(out)}; wait for it, or name another --out.",
                  file=sys.stderr)  # fmt: skip
            return 2
        except OSError as trouble:
            print(f"lab: {shown(out)} cannot be written to: {trouble.strerror or trouble}.", file=sys.stderr)
            return 3


class _Batch:
    """One run: the orders, the gradebook, and what is said on the way."""

    def __init__(
        self, sources: Sequence[str], request: Request, out: Path, formats: Sequence[str], grade: Grade
    ):
        self.request, self.out, self.formats, self.grade = request, out, list(formats), grade
        there = [path.name for path in out.iterdir()]
        named = names.unique_names(sources, names.read_kept(out), there)
        given = {names.identity(source): source for source in reversed(sources)}
        self.orders = [Order(given[each], name) for each, name in named.items()]
        self.twice = len(sources) - len(self.orders)
        names.keep(out, named)
        self.book = Gradebook(out, [order.name for order in self.orders])
        self.shown = Shown(len(self.orders))
        self.written, self.rows_written = 0.0, 0
        self.unwritten = ""

    def run(self, jobs: int, celery: str, *, fresh: bool) -> int:
        self._write(at_once=True)
        ended = self._here([], 1)
        try:
            with self.shown:
                if self.twice:
                    self.shown.say(f"{counted(self.twice, 'submission')} named twice, graded once.")
                left = self.orders if fresh else list(self._left())
                ended = self._on_celery(left, celery) if celery else self._here(left, jobs)
                for each in ended:
                    if each is not None:
                        self._enter(*each)
                    self._write()
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough
            ended.close()  # nothing stays on a broker
            self._write(at_once=True)
            print(f"lab: stopped; {len(self.book.rows)} of {len(self.orders)} are graded and kept in "
                  f"{shown(self.out)}. The same command goes on from there.", file=sys.stderr)  # fmt: skip
            leave(130)
        self._write(at_once=True)
        return self._close()

    def _left(self) -> Iterator[Order]:
        """Take over what an earlier run has finished; return the others."""
        began = time.monotonic()
        over = 0
        for order in self.orders:
            folder = self.out / order.name
            grade = finished(order.source, folder, self.request)
            if grade is None or grade["name"] != order.name:
                yield order
                continue
            over += 1
            self._keep(order, grade, self._report(grade))
            self.shown.taken_over(1)
        if over:
            self.shown.say(f"{over} of {len(self.orders)} taken over from an earlier run: the same was handed in "
                           "and asked for (--fresh grades them again).")  # fmt: skip
        self.shown.began += time.monotonic() - began
        self._write(at_once=True)

    def _here(self, orders: list[Order], jobs: int) -> Iterator[Ended | None]:
        """Grade on this machine, `jobs` at a time: threads that wait for the processes that grade."""
        pool = concurrent.futures.ThreadPoolExecutor(max(1, jobs), "grading")  # never waited for: see `leave`
        waiting = iter(orders)
        at_work = {pool.submit(self._grade, order) for order in itertools.islice(waiting, max(1, jobs))}
        while at_work:
            ended, at_work = concurrent.futures.wait(at_work, WRITE_EVERY_SECONDS, "FIRST_COMPLETED")
            if not ended:
                yield None
            at_work |= {pool.submit(self._grade, order) for order in itertools.islice(waiting, len(ended))}
            for future in ended:
                yield future.result()

    def _grade(self, order: Order) -> Ended:
        try:
            return order, self.grade(order.source, order.name, self.request, self.out), ""
        except Exception as trouble:  # a fault of ours must not end the batch
            return order, None, f"{type(trouble).__name__}: {trouble}"

    def _on_celery(self, orders: list[Order], url: str) -> Iterator[Ended | None]:
        from labkit.grade.coordinator import Coordinator

        with Coordinator(url, self.request, self.out, say=self.shown.say, here=self._grade) as coordinator:
            yield from coordinator.grade(orders)

    def _enter(self, order: Order, grade: dict | None, trouble: str) -> None:
        """Write the reports of a submission that has ended, and enter it in the gradebook."""
        if grade is not None:
            trouble = self._report(grade)
            if not trouble and grade["outcome"] != INFRASTRUCTURE:
                with contextlib.suppress(OSError):  # without its stamp, it is graded again the next time
                    stamp(self.out / order.name, self.request)
        self._keep(order, grade, trouble)
        self.shown.add(self.book.rows[order.name])

    def _report(self, grade: dict) -> str:
        """Write the formats of one grade record; return what was in the way, or ""."""
        try:
            reports.write(grade, self.out / grade["name"], self.formats)
        except OSError as error:
            return f"its reports could not be written: {error.strerror or error}"
        except Exception as error:  # a fault of ours must not end the batch
            return f"its reports could not be written: {type(error).__name__}: {error}"
        return ""

    def _keep(self, order: Order, grade: dict | None, trouble: str) -> None:
        if grade is None:
            row = Row(
                order.name, told_as(order.source), None, 0, INFRASTRUCTURE, clean(f"not graded: {trouble}")
            )
        else:
            row = row_of(grade, self.out / order.name)
        if grade is not None and trouble:
            row = Row(**vars(row) | {"outcome": INFRASTRUCTURE, "look": clean(trouble)})
        self.book.add(row, grade)

    def _write(self, *, at_once: bool = False) -> None:
        """Write the gradebook, if it has new rows and was not just written. What is in the way is told in the end."""
        new = (
            len(self.book.rows) > self.rows_written and time.monotonic() - self.written > WRITE_EVERY_SECONDS
        )
        if not (at_once or new):
            return
        try:
            self.book.write()
            self.unwritten = ""
        except OSError as error:
            self.unwritten = error.strerror or str(error)
        self.written, self.rows_written = time.monotonic(), len(self.book.rows)

    def _close(self) -> int:
        """Say what came of it all; return the exit status."""
        rows = self.book.in_order
        troubled = [row for row in rows if row.outcome == INFRASTRUCTURE]
        missing = len(self.orders) - len(rows)
        kinds = [row.outcome for row in rows]
        told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(sorted(kinds)) if kinds)
        print(f"{counted(len(rows), 'submission')}: {told or 'nothing to grade'}.")
        if mistakes := self.book.mistakes.commonest_first()[:3]:
            print("Most often:")
            for one_kind in mistakes:
                print(
                    f"  {len(one_kind.names):3} × {one_kind.lab.partition('_')[0]}, {clean(one_kind.title)}"
                )
        if self.unwritten:
            print(
                f"lab: the gradebook in {shown(self.out)} could not be written: {self.unwritten}.",
                file=sys.stderr,
            )
        else:
            print(f"{shown(self.out / 'index.html')}, gradebook.csv, groups.md")
        if troubled or missing:
            print(f"lab: {counted(len(troubled) + missing, 'submission')} could not be graded; it is not their fault. "
                  "The same command tries them again.", file=sys.stderr)  # fmt: skip
        return 3 if troubled or missing or self.unwritten else 0


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other batches from writing to the same folder; BlockingIOError if one does."""
    with open(out / LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise
        yield


@contextlib.contextmanager
def _ending_at_sigterm() -> Iterator[None]:
    """SIGTERM ends a batch as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
