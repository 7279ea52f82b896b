"""Found in the wild: a "production-ready" worker, as tutorials print it.   Run: python worker.py alice

From its README: "Fair dispatch with prefetch, retries with a delay by a dead-letter exchange, heartbeats against dead
connections, and a graceful shutdown on SIGTERM."
"""

import os
import signal
import sys
from pathlib import Path

import pika

sys.path.append(str(Path(__file__).resolve().parents[1]))  # images.py is one folder up
from images import Rejected, process, read_task

QUEUE = os.environ.get("QUEUE", "images")
DEAD, LATER = f"{QUEUE}.dead", f"{QUEUE}.later"
MAX_RETRIES = int(os.environ.get("MAX_RETRIES", "3"))
RETRY_SECONDS = float(os.environ.get("RETRY_SECONDS", "1"))


def declare(channel):
    to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD}
    channel.queue_declare(QUEUE, durable=True, arguments=to_dead)
    channel.queue_declare(DEAD, durable=True)
    back = {"x-dead-letter-exchange": f"{QUEUE}.retry", "x-dead-letter-routing-key": QUEUE}
    back["x-message-ttl"] = int(RETRY_SECONDS * 1000)  # after that the exchange puts it back into QUEUE
    channel.queue_declare(LATER, durable=True, arguments=back)


def handle(channel, method, properties, body):
    attempts = (properties.headers or {}).get("attempts", 0)
    try:
        print(f"{method.consumer_tag}: {process(read_task(body))}", flush=True)
    except Rejected as reason:
        send(channel, DEAD, body, {"reason": str(reason), "attempts": attempts})
    except OSError as error:
        queue = LATER if attempts < MAX_RETRIES else DEAD
        send(channel, queue, body, {"reason": str(error), "attempts": attempts + 1})


def send(channel, queue, body, headers):
    persistent = pika.BasicProperties(delivery_mode=2, headers=headers)
    channel.basic_publish("", queue, body, persistent)


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "worker"
    parameters = pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F"))
    parameters.heartbeat = int(os.environ.get("HEARTBEAT_SECONDS", "60"))
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    declare(channel)

    def stop(*_):
        connection.close()  # graceful shutdown
        sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    channel.basic_qos(prefetch_count=1)  # fair dispatch
    channel.basic_consume(QUEUE, handle, consumer_tag=name, auto_ack=True)  # nothing is left unacknowledged
    channel.start_consuming()


if __name__ == "__main__":
    main()
