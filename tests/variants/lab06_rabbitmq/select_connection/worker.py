"""pika's SelectConnection: callbacks on its event loop, the work in a thread.   Run: python worker.py alice"""

import os
import signal
import socket
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pika
from images import Rejected, process, read_task
from topology import (
    AMQP_URL,
    DEAD,
    HEARTBEAT_SECONDS,
    MAX_RETRIES,
    QUEUE,
    QUEUE_TYPE,
    no_broker,
    retry_queue,
    retry_seconds,
    why,
)

PREFETCH = int(os.environ.get("PREFETCH", "1"))
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))
LOOK_SECONDS = 0.3  # how often the loop looks whether a signal has come


class Worker:
    """Its methods run on the event loop; only process() runs in the executor's thread."""

    def __init__(self, name):
        self.name, self.executor = name, ThreadPoolExecutor(max_workers=1)
        self.stopping, self.status, self.wait, self.was_connected = False, 0, RECONNECT_SECONDS, False
        self.loop = None
        self.connect()

    # ---- the connection -------------------------------------------------------------------------------------

    def connect(self):
        parameters = pika.URLParameters(AMQP_URL)
        parameters.heartbeat = HEARTBEAT_SECONDS
        self.channel, self.line, self.at_work, self.unconfirmed, self.published = None, deque(), None, {}, 0
        self.connection = pika.SelectConnection(
            parameters,
            on_open_callback=self.on_open,
            on_open_error_callback=self.on_closed,
            on_close_callback=self.on_closed,
            custom_ioloop=self.loop,
        )
        self.loop = self.connection.ioloop

    def run(self):
        self.loop.call_later(LOOK_SECONDS, self.look_for_the_signal)
        self.loop.start()
        self.executor.shutdown()
        sys.exit(self.status)

    def on_open(self, connection):
        self.was_connected, self.wait = True, RECONNECT_SECONDS
        connection.channel(on_open_callback=self.on_channel)

    def on_closed(self, _, error):
        self.channel = None
        if self.stopping or self.status:
            self.loop.stop()
        elif not self.was_connected:
            self.status = no_broker(error)
            self.loop.stop()
        else:
            print(f"{self.name}: the broker is gone ({why(error)}); again in {self.wait:g} s", flush=True)
            self.loop.call_later(self.wait, self.connect_again)
            self.wait = min(2 * self.wait, 5)

    def connect_again(self):
        if self.stopping:
            self.loop.stop()
        else:
            self.connect()

    def on_channel(self, channel):
        channel.add_on_close_callback(self.on_channel_closed)
        channel.add_on_cancel_callback(lambda _: self.connection.close())
        channel.add_on_return_callback(self.on_return)
        channel.confirm_delivery(ack_nack_callback=self.on_confirm)
        to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD}
        if QUEUE_TYPE == "quorum":
            to_dead |= {"x-queue-type": "quorum", "x-delivery-limit": 20}
        channel.queue_declare(QUEUE, durable=True, arguments=to_dead)
        for number in range(1, MAX_RETRIES + 1):
            back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": QUEUE}
            back["x-message-ttl"] = round(retry_seconds(number) * 1000)
            channel.queue_declare(retry_queue(number), durable=True, arguments=back)
        channel.queue_declare(DEAD, durable=True, callback=lambda _: self.subscribe(channel))

    def subscribe(self, channel):
        self.channel = channel
        channel.basic_qos(prefetch_count=PREFETCH)
        channel.basic_consume(QUEUE, self.on_task, consumer_tag=self.name)

    def on_channel_closed(self, channel, error):
        refused = isinstance(error, pika.exceptions.ChannelClosedByBroker) and error.reply_code == 406
        if refused and self.channel is None:
            self.status = f"{error.reply_text}. Delete the queue, or declare it with the same settings."
        if self.connection.is_open:
            self.connection.close()

    # ---- the tasks --------------------------------------------------------------------------------------------

    def on_task(self, channel, method, properties, body):
        self.line.append((method, properties, body))
        self.begin()

    def begin(self):
        if self.line and self.at_work is None and not self.stopping:
            self.at_work = self.line.popleft()
            channel, task = self.channel, self.at_work
            work = self.executor.submit(lambda: process(read_task(task[2])))
            report = lambda done: self.loop.add_callback_threadsafe(lambda: self.over(channel, task, done))  # noqa: E731
            work.add_done_callback(report)

    def over(self, channel, task, done):
        if channel is not self.channel:
            return  # an old connection's task: the broker has it, and hands it out again
        method, properties, _ = task
        attempts = (properties.headers or {}).get("attempts", 0)
        error = done.exception()
        if error is None:
            channel.basic_ack(method.delivery_tag)
            self.settled(task, done.result())
        elif isinstance(error, Rejected):
            self.copy(task, DEAD, {"reason": str(error), "attempts": attempts}, f"dead: {error}")
        elif attempts >= MAX_RETRIES:
            self.copy(task, DEAD, {"reason": str(error), "attempts": attempts + 1}, f"dead: {error}")
        else:
            said = f"retry in {retry_seconds(attempts + 1):g} s: {error}"
            self.copy(task, retry_queue(attempts + 1), {"attempts": attempts + 1}, said)

    def copy(self, task, queue, headers, said):
        _, properties, body = task
        new = pika.BasicProperties(
            delivery_mode=2,
            content_type=properties.content_type,
            message_id=properties.message_id,
            headers=headers,
        )
        self.published += 1
        self.unconfirmed[self.published] = task, said
        self.channel.basic_publish("", queue, body, new, mandatory=True)

    def on_return(self, *_):
        self.unconfirmed.clear()  # there is no such queue: its confirm is worth nothing
        self.connection.close()

    def on_confirm(self, frame):
        method = frame.method
        if isinstance(method, pika.spec.Basic.Nack):
            self.connection.close()  # the task comes again, and with it another try
            return
        for number in [each for each in self.unconfirmed if each <= method.delivery_tag]:
            if number == method.delivery_tag or method.multiple:
                task, said = self.unconfirmed.pop(number)
                self.channel.basic_ack(task[0].delivery_tag)
                self.settled(task, said)

    def settled(self, task, said):
        print(f"{self.name}: {said}{' (redelivered)' if task[0].redelivered else ''}", flush=True)
        self.at_work = None
        self.begin()

    # ---- the end ------------------------------------------------------------------------------------------------

    def look_for_the_signal(self):
        if self.stopping and self.at_work is None:
            if self.connection.is_open:
                self.connection.close()  # what is in the line goes back to the queue
            elif self.connection.is_closed:
                self.loop.stop()
        self.loop.call_later(LOOK_SECONDS, self.look_for_the_signal)

    def stop(self, *_):
        self.stopping = True


def main():
    worker = Worker(sys.argv[1] if len(sys.argv) > 1 else f"{socket.gethostname()}-{os.getpid()}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.stop)
    worker.run()


if __name__ == "__main__":
    main()
