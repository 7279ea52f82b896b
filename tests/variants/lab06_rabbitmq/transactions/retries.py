"""The copy and the acknowledgement are one transaction: never one without the other. Used by worker.py."""

from typing import Any, NamedTuple

import pika
from topology import DEAD, MAX_RETRIES, retry_queue, retry_seconds


class Delivery(NamedTuple):
    """A task as the broker hands it to a worker, on a channel with transactions."""

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
        return bury(delivery, error, attempts)
    move(delivery, retry_queue(attempts), {"attempts": attempts})
    return f"retry in {retry_seconds(attempts):g} s: {error}"


def bury(delivery, reason, attempts):
    """Make the task a dead letter; return what to print."""
    move(delivery, DEAD, {"reason": str(reason)[:1000], "attempts": attempts})
    return f"dead: {reason}"


def move(delivery, queue, headers):
    """The acknowledgement and the copy, in any order: nothing happens before the commit, and then all."""
    properties = pika.BasicProperties(
        delivery_mode=2,
        content_type=delivery.properties.content_type,
        message_id=delivery.properties.message_id,
        headers=headers,
    )
    delivery.channel.basic_ack(delivery.method.delivery_tag)
    delivery.channel.basic_publish("", queue, delivery.body, properties)
    delivery.channel.tx_commit()
