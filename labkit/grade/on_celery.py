"""A batch on several machines, with Celery: this machine hands the submissions out, workers anywhere grade them.

On each machine that is to grade (the same version of the course, and a broker that all of them reach):

    ./lab grade --celery-worker redis://broker:6379/0

and on the one that has the submissions:

    ./lab grade submissions/* --celery redis://broker:6379/0

A task carries a submission, and its result comes back as one message, so that no disk need be shared. Tasks are
acknowledged when they are done. A worker says every BEAT_SECONDS that it lives; when nothing has been heard of a
submission for LEASE_SECONDS, its task is sent again: with Redis as the broker, Celery itself would hand it out again
only after the visibility timeout, which has to be longer than any grading. A submission that two workers have graded
after all counts once.

Everything is JSON. All names on the broker begin with PREFIX, and at the end of a batch nothing of it is left there.
"""

import os
import signal
import sys

from labkit.brokers import InfrastructureError
from labkit.course import ROOT
from labkit.janitor import janitor


def work(url: str, jobs: int = 1) -> int:
    """Be a worker, or `jobs` of them, until Ctrl-C or SIGTERM; return the exit status.

    The submissions in hand are finished first; a second Ctrl-C gives them back.

    Raises:
        InfrastructureError: the broker does not answer.
    """
    from labkit.grade.celery_worker import run

    if jobs <= 1:
        return run(url)
    command = [sys.executable, "-m", "labkit.grade.on_celery", url]
    workers = [
        janitor().start_process(command, env=os.environ | {"PYTHONPATH": str(ROOT)}) for _ in range(jobs)
    ]

    def pass_on(number: int, frame: object) -> None:
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    return max(abs(worker.wait()) for worker in workers)


def main(words: list[str]) -> int:
    if len(words) != 1:
        print("usage: python -m labkit.grade.on_celery BROKER_URL", file=sys.stderr)
        return 2
    try:
        return work(words[0])
    except InfrastructureError as trouble:
        print(f"lab: {trouble}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
