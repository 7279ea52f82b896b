"""start_consuming, and a thread for each task that is handed out, of which one works at a time.

Run: python worker.py alice
"""

import functools
import os
import signal
import socket
import sys
import threading
import time

import pika
from images import Rejected, process, read_task
from retries import Delivery, attempts_of, bury, retry_or_bury
from topology import BROKER_GONE, QUEUE, connect, no_broker, open_channel, why

PREFETCH = int(os.environ.get("PREFETCH", "1"))
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))
NAME = sys.argv[1] if len(sys.argv) > 1 else f"{socket.gethostname()}-{os.getpid()}"


class Worker:
    """One subscription: it ends with its connection, or when the process is told to stop."""

    def __init__(self, connection):
        self.connection, self.channel = connection, open_channel(connection)
        self.threads = []
        self.turn = threading.Condition()
        self.next, self.begun = 1, 0  # whose turn it is, by delivery tag; how many are at work
        self.stopped = False

    def run(self):
        self.channel.basic_qos(prefetch_count=PREFETCH)
        self.channel.basic_consume(QUEUE, self.on_task, consumer_tag=NAME)
        self.look_for_the_signal()
        self.channel.start_consuming()
        if not self.stopped:
            raise pika.exceptions.ConsumerCancelled("the subscription has ended")

    def on_task(self, channel, method, properties, body):
        delivery = Delivery(channel, method, properties, body)
        threading.Thread(target=self.do, args=(delivery,), daemon=True).start()

    def do(self, delivery):
        """In its own thread."""
        with self.turn:
            self.turn.wait_for(lambda: self.next == delivery.method.delivery_tag)
            if asked_to_stop or self.channel.is_closed:
                return
            self.begun += 1
        try:
            outcome = process(read_task(delivery.body))
        except (Rejected, OSError) as error:
            outcome = error
        try:
            self.connection.add_callback_threadsafe(functools.partial(self.settle, delivery, outcome))
        except pika.exceptions.ConnectionWrongStateError:
            print(f"{NAME}: done too late, the connection is lost", flush=True)

    def settle(self, delivery, outcome):
        """In the thread of the connection."""
        if isinstance(outcome, Rejected):
            text = bury(delivery, outcome, attempts_of(delivery))
        elif isinstance(outcome, OSError):
            text = retry_or_bury(delivery, outcome)
        else:
            text = str(outcome)
            delivery.channel.basic_ack(delivery.method.delivery_tag, multiple=True)
        print(f"{NAME}: {text}" + " (redelivered)" * delivery.method.redelivered, flush=True)
        with self.turn:
            self.next += 1
            self.begun -= 1
            self.turn.notify_all()
        if asked_to_stop:
            self.stop()

    def look_for_the_signal(self):
        with self.turn:
            idle = not self.begun
        if asked_to_stop and idle:
            self.stop()
        else:
            self.connection.call_later(0.2, self.look_for_the_signal)

    def stop(self):
        if not self.stopped:
            self.stopped = True
            self.channel.stop_consuming()


asked_to_stop = []


def main():
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked_to_stop.append(number))
    try:
        connection = connect()
    except BROKER_GONE as error:
        sys.exit(no_broker(error))
    waits = 0
    while not asked_to_stop:
        try:
            connection = connection or connect()
            waits = 0
            Worker(connection).run()
            connection.close()
        except BROKER_GONE as error:
            print(f"{NAME}: lost the broker: {why(error)}", flush=True)
            connection = None
            until = time.monotonic() + min(RECONNECT_SECONDS * 2**waits, 5)
            waits += 1
            while not asked_to_stop and time.monotonic() < until:
                time.sleep(0.05)


if __name__ == "__main__":
    main()
