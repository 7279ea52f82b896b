"""What the coordinator and the workers of `./lab grade --celery` have in common: names, messages, the application."""

import base64
import dataclasses
import os

import celery
import kombu

from labkit.brokers import InfrastructureError
from labkit.brokers.base import without_password
from labkit.grade.one import Request

PREFIX = "task-queue-labs-grade."
TASK = PREFIX + "one"
TASKS = PREFIX + "tasks"
UNACKED = PREFIX + "unacked"  # on Redis: what workers have taken
BEAT_SECONDS = 1.0
LEASE_SECONDS = float(os.environ.get("LAB_GRADE_LEASE_SECONDS", "20"))
VISIBILITY_SECONDS = (
    6 * 3600
)  # longer than any grading may last: until then Redis hands no task out again by itself
UNUSED_SECONDS = 3600  # a queue of ours that nobody has used for so long goes away, whatever became of us
AHEAD = 4  # tasks that wait at the broker: enough for workers that come, and little for the broker to keep
MOST_TRIES = 4  # so often a worker is lost with one submission, or refuses it, before it is given up
CONNECT_SECONDS = 5
NOBODY_SECONDS = 10  # without a worker, before it is said
BEGUN, ALIVE, DONE, REFUSED = "begun", "alive", "done", "refused"

Exchange = kombu.Exchange("")  # the default one, which leads to the queue of the name that is given


def is_redis(url: str) -> bool:
    return url.partition("://")[0] in ("redis", "rediss")


def tasks_queue(url: str) -> kombu.Queue:
    expires = None if is_redis(url) else UNUSED_SECONDS
    return kombu.Queue(TASKS, Exchange, routing_key=TASKS, durable=True, expires=expires)


def replies_queue(name: str) -> kombu.Queue:
    return kombu.Queue(name, Exchange, routing_key=name, durable=True, expires=UNUSED_SECONDS)


def application(url: str) -> celery.Celery:
    """The Celery application that both sides use.

    Raises:
        InfrastructureError: the URL is none of a broker that is meant for this.
    """
    if not is_redis(url) and url.partition("://")[0] not in ("amqp", "amqps"):
        raise InfrastructureError(
            f"{without_password(url)} is no broker for Celery: redis:// or amqp:// is needed"
        )
    app = celery.Celery("task-queue-labs-grade", broker=url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        task_queues=[tasks_queue(url)],
        task_default_queue=TASKS,
        task_default_exchange="",
        task_default_routing_key=TASKS,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_heartbeat=0,  # a worker that grades answers none; who is gone, our own beats tell
        broker_connection_timeout=CONNECT_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_transport_options=(
            {
                "unacked_key": UNACKED,
                "unacked_index_key": f"{UNACKED}_index",
                "unacked_mutex_key": f"{UNACKED}_mutex",
                "visibility_timeout": VISIBILITY_SECONDS,
                "socket_keepalive": True,
            }
            if is_redis(url)
            else {}
        ),
    )
    return app


def packed_to_text(packed: bytes) -> str:
    return base64.b64encode(packed).decode()


def text_to_packed(text: str) -> bytes:
    return base64.b64decode(text)


def request_from(fields: dict) -> Request:
    """The request that a task carries.

    Raises:
        TypeError, NoSuchLab: it is none that this version of the course can do.
    """
    from labkit import course

    known = {each.name for each in dataclasses.fields(Request)}
    if set(fields) != known:
        raise TypeError(f"unknown: {', '.join(sorted(set(fields) ^ known))}")
    return Request(**fields | {"labs": tuple(course.lab(number) for number in fields["labs"])})
