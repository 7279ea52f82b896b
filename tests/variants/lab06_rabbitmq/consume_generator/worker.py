"""A loop over channel.consume(), the work in an executor's thread.   Run: python worker.py alice"""

import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pika
from images import Rejected, process, read_task
from retries import Delivery, attempts_of, bury, retry_or_bury
from topology import BROKER_GONE, QUEUE, connect, no_broker, open_channel, why

PREFETCH = int(os.environ.get("PREFETCH", "1"))
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))
LOOK_SECONDS = 0.5  # how long a signal may go unnoticed

stopping = threading.Event()


def wake(connection):
    """Have the wait of this connection's own thread end, if the connection is still there."""
    with suppress(pika.exceptions.ConnectionWrongStateError):
        connection.add_callback_threadsafe(lambda: None)


def outcome_of(executor, connection, body):
    """Do the work in the executor, and serve the connection meanwhile; return what came of it."""
    work = executor.submit(lambda: process(read_task(body)))
    work.add_done_callback(lambda _: wake(connection))
    while not work.done():
        connection.process_data_events(time_limit=LOOK_SECONDS)
    return work.exception() or work.result()


def settle(name, delivery, outcome):
    """Say what has become of the task, to the broker first."""
    if isinstance(outcome, Rejected):
        line = bury(delivery, outcome, attempts_of(delivery))
    elif isinstance(outcome, Exception):
        line = retry_or_bury(delivery, outcome)
    else:
        line = outcome
        delivery.channel.basic_ack(delivery.method.delivery_tag)
    again = " (redelivered)" if delivery.method.redelivered else ""
    print(f"{name}: {line}{again}", flush=True)


def work(executor, connection, name):
    """Do tasks until told to stop, or until the broker ends the subscription."""
    channel = open_channel(connection)
    channel.basic_qos(prefetch_count=PREFETCH)
    deliveries = channel.consume(QUEUE, inactivity_timeout=LOOK_SECONDS, consumer_tag=name)
    for method, properties, body in deliveries:
        if method and stopping.is_set():
            channel.basic_nack(method.delivery_tag, requeue=True)  # came with the signal, and was not begun
        elif method:
            delivery = Delivery(channel, method, properties, body)
            settle(name, delivery, outcome_of(executor, connection, body))
        if stopping.is_set():
            channel.cancel()  # gives back what was handed out and not begun
            return
    raise pika.exceptions.ConsumerCancelled("the subscription has ended")


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else f"{socket.gethostname()}-{os.getpid()}"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        connection = connect()
    except BROKER_GONE as error:
        sys.exit(no_broker(error))
    executor, wait = ThreadPoolExecutor(max_workers=1), RECONNECT_SECONDS
    while not stopping.is_set():
        try:
            connection = connection or connect()
            wait = RECONNECT_SECONDS
            work(executor, connection, name)
            connection.close()
        except BROKER_GONE as error:
            print(f"{name}: the broker is gone ({why(error)})", flush=True)
            connection = None
            stopping.wait(wait)
            wait = min(2 * wait, 5)


if __name__ == "__main__":
    main()
