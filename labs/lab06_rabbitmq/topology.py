"""The queues of this lab, and the way to the broker that has them. Used by every other script."""

import logging
import os
import sys
from urllib.parse import urlsplit

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException

AMQP_URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")
QUEUE = os.environ.get("QUEUE", "images")
QUEUE_TYPE = os.environ.get("QUEUE_TYPE", "classic")  # or quorum, which has a copy on several nodes
MAX_RETRIES = int(os.environ.get("MAX_RETRIES", "3"))
RETRY_SECONDS = float(os.environ.get("RETRY_SECONDS", "1"))  # the first wait; it doubles each time
HEARTBEAT_SECONDS = int(os.environ.get("HEARTBEAT_SECONDS", "60"))  # silent for 2 to 3 times as long: dead
DEAD = f"{QUEUE}.dead"
# the last two are for a broker that does not answer, and for a host name that nobody knows
BROKER_GONE = (pika.exceptions.AMQPError, AMQPConnectorException, OSError)

logging.getLogger("pika").setLevel(logging.CRITICAL)  # it would print pages where we say one line


def retry_queue(attempts):
    """The name of the queue in which a task waits that has failed so often."""
    return f"{QUEUE}.retry.{attempts}"


def retry_seconds(attempts):
    """How long a task waits that has failed so often."""
    return RETRY_SECONDS * 2 ** (attempts - 1)


def connect():
    """Open a connection to the broker at AMQP_URL, with a heartbeat of HEARTBEAT_SECONDS. May raise BROKER_GONE."""
    raise NotImplementedError(
        "TODO 1: open a connection to the broker at AMQP_URL, with a heartbeat of HEARTBEAT_SECONDS"
    )


def declare(channel):
    """Declare every queue of this lab, durable. What is there already, with the same arguments, stays as it is."""
    raise NotImplementedError(
        "TODO 2: declare QUEUE, a retry queue for each of MAX_RETRIES waits, and DEAD, all durable, "
        "each with its arguments"
    )


def open_channel(connection):
    """Open a channel on which each publish returns when it is confirmed, and declare the queues."""
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        declare(channel)
    except pika.exceptions.ChannelClosedByBroker as error:
        if error.reply_code != 406:  # 406: a queue of this name is there, with other arguments
            raise
        sys.exit(f"{error.reply_text}. Delete that queue, or give the settings it was declared with.")
    return channel


def why(error):
    """What went wrong, in a few words. Of a refused connection pika's own error says nothing, the one inside does."""
    inner = getattr(error.args[0], "exception", None) if error.args else None
    return str(inner or error) or type(error).__name__


def no_broker(error):
    """The line for a user without a broker; it shows no password."""
    url = urlsplit(AMQP_URL)
    place = f"{url.scheme}://{url.hostname}:{url.port or 5672}{url.path}"
    return f"No broker at {place} ({why(error)}). Start one with: ./lab broker up 6"
