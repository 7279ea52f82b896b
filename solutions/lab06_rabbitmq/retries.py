"""What becomes of a task that failed: another try after a while, or a dead letter. Used by worker.py."""

from typing import Any, NamedTuple

import pika
from topology import DEAD, MAX_RETRIES, retry_queue, retry_seconds

LONGEST_REASON = 1000  # characters; headers that do not fit into one frame would end the connection


class Delivery(NamedTuple):
    """A task as the broker hands it to a worker. Its delivery tag means something only on its own channel."""

    channel: Any
    method: Any  # has the delivery tag, and says whether the task is redelivered
    properties: Any  # have the headers
    body: bytes


def attempts_of(delivery):
    """How often the work on this task has failed so far; a header that is no such number counts as 0."""
    attempts = (delivery.properties.headers or {}).get("attempts")
    return attempts if isinstance(attempts, int) and attempts > 0 else 0


def retry_or_bury(delivery, error):
    """The work failed, and may work later: have the task wait in a retry queue; with its retries used up, bury it."""
    attempts = attempts_of(delivery) + 1
    reason = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
    if attempts > MAX_RETRIES:
        return bury(delivery, reason, attempts)
    move(delivery, retry_queue(attempts), {"attempts": attempts})
    return f"retry in {retry_seconds(attempts):g} s: {reason}"


def bury(delivery, reason, attempts):
    """Make the task a dead letter, with the reason and its attempts as headers; return what to print."""
    reason = str(reason)[:LONGEST_REASON]
    move(delivery, DEAD, {"reason": reason, "attempts": attempts})
    return f"dead: {reason}"


def move(delivery, queue, headers):
    """Publish the task, its body as it is, to this queue; once that is confirmed, acknowledge the original."""
    properties = pika.BasicProperties(  # not the old ones: an expiration among them would end a dead letter
        delivery_mode=pika.DeliveryMode.Persistent,
        content_type=delivery.properties.content_type,
        message_id=delivery.properties.message_id,
        headers=headers,
    )
    delivery.channel.basic_publish("", queue, delivery.body, properties, mandatory=True)
    delivery.channel.basic_ack(delivery.method.delivery_tag)  # last: a crash above repeats the task
