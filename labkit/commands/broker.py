"""`./lab broker up|down|status [N]`: the broker that stays up between commands."""

import sys

from labkit import course, standing
from labkit.course import RABBITMQ, STATE, VALKEY

FOLDER = STATE / "broker"


def run(what: str, which: str = VALKEY) -> int:
    """Do it and say so; the line to copy into a terminal goes to standard output.

    which: the lab that it is for, by its number, or "valkey" or "rabbitmq".
    """
    if which.isdecimal():
        which = course.lab(int(which)).broker
    if what not in ("up", "down", "status"):
        print(f"lab: broker knows up, down and status, not {what!r}.", file=sys.stderr)
        return 2
    if which not in (VALKEY, RABBITMQ):
        print(f"lab: no broker {which!r}: say a lab's number, {VALKEY} or {RABBITMQ}.", file=sys.stderr)
        return 2
    _rabbitmq(what) if which == RABBITMQ else _valkey(what)
    return 0


def _valkey(what: str) -> None:
    if what == "up":
        broker = standing.up(FOLDER)
        print(
            f"The broker {'was started' if broker.started else 'is up'}. In each terminal:", file=sys.stderr
        )
        print(f"export VALKEY_URL={broker.url}")
    elif what == "down":
        print(
            "The broker was stopped; its data are kept."
            if standing.down(FOLDER)
            else "The broker was not running."
        )
    else:
        broker = standing.status(FOLDER)
        print(
            f"The broker is up: {broker.url}"
            if broker
            else "The broker is not running. Start it: ./lab broker up"
        )


def _rabbitmq(what: str) -> None:
    from labkit import standing_rabbitmq  # the other labs have no need of it

    folder = standing_rabbitmq.FOLDER
    if what == "up":
        broker = standing_rabbitmq.up(folder)
        print(
            f"RabbitMQ {'was started' if broker.started else 'is up'}; in a browser: {broker.pages} "
            f"(user and password as in the line below). In each terminal:",
            file=sys.stderr,
        )
        print(f"export AMQP_URL={broker.url}")
    elif what == "down":
        print(
            "RabbitMQ was stopped; its data are kept."
            if standing_rabbitmq.down(folder)
            else "RabbitMQ was not running."
        )
    else:
        broker = standing_rabbitmq.status(folder)
        print(
            f"RabbitMQ is up: {broker.url}\nIn a browser: {broker.pages}"
            if broker
            else "RabbitMQ is not running. Start it: ./lab broker up 6"
        )
