"""The worker with transactions instead of confirms: each outcome is committed.   Run: python worker.py alice"""

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
    channel.basic_qos(prefetch_count=PREFETCH)

    def put_in_line(channel, method, properties, body):
        line.put((handle, name, Delivery(channel, method, properties, body)))

    channel.basic_consume(QUEUE, put_in_line, consumer_tag=name)  # acknowledged by us, after the work


def handle(name, delivery):
    """In the second thread: do the work of one task, then have the main thread settle it."""
    if stopping.is_set() or delivery.channel.is_closed:
        return  # not begun, not acknowledged: the broker hands it to somebody else
    try:
        outcome = process(read_task(delivery.body))
    except Exception as error:  # also a mistake in the work: nothing that a task does stops a worker
        outcome = error
    in_main_thread(delivery.channel.connection, lambda: settle(name, delivery, outcome))


def in_main_thread(connection, call):
    """Have the connection's own thread make this call. Nobody makes it if the connection is lost."""
    with suppress(pika.exceptions.ConnectionWrongStateError):
        connection.add_callback_threadsafe(call)


def settle(name, delivery, outcome):
    """In the main thread: tell the broker what has become of the task, and print it."""
    if isinstance(outcome, Rejected):
        said = bury(delivery, outcome, attempts_of(delivery))
    elif isinstance(outcome, Exception):
        said = retry_or_bury(delivery, outcome)
    else:
        said = outcome
        delivery.channel.basic_ack(delivery.method.delivery_tag)
        delivery.channel.tx_commit()
    print(f"{name}: {said}{' (redelivered)' if delivery.method.redelivered else ''}", flush=True)


def finish(connection, channel, name, line):
    """Take no further task; return when the one in hand, if there is one, is settled."""
    channel.basic_cancel(name)
    over = threading.Event()
    line.put((in_main_thread, connection, over.set))  # behind the task in hand, so after it is settled
    while not over.is_set():
        connection.process_data_events(time_limit=1)


def work(connection, name, line):
    """Take tasks until told to stop. Raises one of BROKER_GONE when there is nothing more to be had."""
    open_channel(connection).close()  # it has declared the queues
    channel = connection.channel()
    channel.tx_select()
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
