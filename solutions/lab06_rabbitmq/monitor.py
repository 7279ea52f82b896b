"""Show how many tasks wait, are to be retried, are dead, each second.   Run: python monitor.py [--once --json]"""

import argparse
import json
import os
import sys

import pika
from topology import BROKER_GONE, DEAD, MAX_RETRIES, QUEUE, connect, no_broker, retry_queue

EVERY_SECONDS = float(os.environ.get("EVERY_SECONDS", "1"))


def look_at(connection, queue):
    """The tasks that are ready in a queue, and its consumers; 0 and 0 if it is not there."""
    channel = connection.channel()  # one for each question: the broker closes it when there is no such queue
    try:
        found = channel.queue_declare(queue, passive=True).method
    except pika.exceptions.ChannelClosedByBroker:
        return 0, 0
    channel.close()
    return found.message_count, found.consumer_count


def snapshot(connection):
    """Count what waits, what waits for another try, what is dead, and the workers."""
    waiting, workers = look_at(connection, QUEUE)
    retrying = sum(look_at(connection, retry_queue(number))[0] for number in range(1, MAX_RETRIES + 1))
    dead, _ = look_at(connection, DEAD)
    return {"waiting": waiting, "retrying": retrying, "dead": dead, "workers": workers}


def table(seen):
    """The snapshot as lines of text."""
    return "\n".join(f"{what:9} {count:5}" for what, count in seen.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="print one snapshot and stop")
    parser.add_argument("--json", action="store_true", help="as one JSON object a line")
    asked = parser.parse_args()
    try:
        connection = connect()
        while True:
            seen = snapshot(connection)
            clear = "\x1b[2J\x1b[H" if sys.stdout.isatty() and not asked.json else ""
            print(clear + (json.dumps(seen) if asked.json else table(seen)), flush=True)
            if asked.once:
                break
            connection.sleep(EVERY_SECONDS)  # time.sleep would leave the broker's heartbeats unanswered
    except BROKER_GONE as error:
        sys.exit(no_broker(error))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
