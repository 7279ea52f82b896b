"""Copies go over connections of their own: the worker's channel only consumes and acknowledges. Used by worker.py."""

from typing import Any, NamedTuple

import pika
from topology import DEAD, MAX_RETRIES, connect, retry_queue, retry_seconds


class Delivery(NamedTuple):
    """A task as the broker hands it to a worker."""

    channel: Any
    method: Any
    properties: Any
    body: bytes


def attempts_of(delivery):
    """How often the work on this task has failed so far."""
    return (delivery.properties.headers or {}).get("attempts", 0)


def retry_or_bury(delivery, error):
    """Have the task wait in a retry queue, or bury it when there is none left for it; return what to print."""
    attempts = attempts_of(delivery) + 1
    if attempts > MAX_RETRIES:
        return bury(delivery, repr(error), attempts)
    copy(delivery, retry_queue(attempts), attempts=attempts)
    return f"retry in {retry_seconds(attempts):g} s: {error!r}"


def bury(delivery, reason, attempts):
    """Make the task a dead letter; return what to print."""
    copy(delivery, DEAD, reason=str(reason)[:500], attempts=attempts)
    return f"dead: {reason}"


def copy(delivery, queue, **headers):
    """Publish the task to this queue, over a new connection; once that is confirmed, acknowledge the original."""
    properties = pika.BasicProperties(delivery_mode=2, headers=headers)
    with connect() as connection:  # failures are rare: it is not worth while to keep one
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", queue, delivery.body, properties, mandatory=True)
    delivery.channel.basic_ack(delivery.method.delivery_tag)
