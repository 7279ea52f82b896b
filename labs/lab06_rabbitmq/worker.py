"""Do the image tasks that the broker hands out, and lose none when killed.   Run: python worker.py alice

Two threads: the main thread speaks with the broker, heartbeats included, and the other one does the work.
"""

import os
import signal
import socket
import sys
import threading
from contextlib import suppress

import pika
import second_thread
from images import Rejected, process, read_task
from retries import Delivery, attempts_of, bury, retry_or_bury
from topology import BROKER_GONE, QUEUE, connect, no_broker, open_channel, why

PREFETCH = int(os.environ.get("PREFETCH", "1"))  # tasks held and not acknowledged, at most; 0: no limit
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))  # the first wait; it doubles up to 5 s

stopping = threading.Event()


def subscribe(channel, name, line):
    """Have the broker hand tasks to this worker, PREFETCH at a time; each is put in line for `handle`."""
    raise NotImplementedError(
        "TODO 5: let the broker hand out PREFETCH tasks at a time to this worker, and put each in "
        "line for handle()"
    )


def handle(name, delivery):
    """In the second thread: do the work of one task, then have the main thread settle it."""
    raise NotImplementedError(
        "TODO 6: do the work of the task, unless it is of no use now; then have the main thread "
        "settle it with the outcome"
    )


def in_main_thread(connection, call):
    """Have the connection's own thread make this call. Nobody makes it if the connection is lost."""
    raise NotImplementedError(
        "TODO 7: have the connection's own thread make the call, and let it be when the connection is lost"
    )


def settle(name, delivery, outcome):
    """In the main thread: tell the broker what has become of the task, and print it."""
    raise NotImplementedError(
        "TODO 8: acknowledge the task when it is done, bury it when it is rejected, else retry or "
        "bury it; and print a line"
    )


def finish(connection, channel, name, line):
    """Take no further task; return when the one in hand, if there is one, is settled."""
    raise NotImplementedError(
        "TODO 9: cancel the subscription, and go on serving the connection until the task in hand is settled"
    )


def work(connection, name, line):
    """Take tasks until told to stop. Raises one of BROKER_GONE when there is nothing more to be had."""
    channel = open_channel(connection)
    subscribe(channel, name, line)
    while not stopping.is_set():
        connection.process_data_events(time_limit=1)  # a signal does not cut this short
        if not channel.consumer_tags:  # the channel was closed, or the queue deleted: pika raises nothing
            raise pika.exceptions.ConsumerCancelled("it has ended the subscription")
    finish(connection, channel, name, line)


def reconnect(name, error):
    """Return a new connection when there is a broker again; None when told to stop."""
    print(f"{name}: the broker is gone ({why(error)}); trying again", flush=True)
    wait = RECONNECT_SECONDS
    while not stopping.wait(wait):
        with suppress(*BROKER_GONE):
            return connect()
        wait = min(2 * wait, 5)


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else f"{socket.gethostname()}-{os.getpid()}"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())  # no more: it may come in the middle of a frame
    try:
        connection = connect()
    except BROKER_GONE as error:
        sys.exit(no_broker(error))
    line = second_thread.start()
    while connection and not stopping.is_set():
        try:
            with connection:  # closed at its end: what is not acknowledged goes back to the queue
                work(connection, name, line)
        except BROKER_GONE as error:
            connection = reconnect(name, error)


if __name__ == "__main__":
    main()
