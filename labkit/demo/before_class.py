"""Before class: `./lab demo --check` tries everything that the demonstrations need on this machine, for real."""

import contextlib
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console

from labkit import course
from labkit.brokers import choose, choose_rabbitmq
from labkit.brokers.base import Broker, InfrastructureError
from labkit.brokers.server import HOST, free_port
from labkit.demo import tmux
from labkit.demo.acts.image_work import Photographs
from labkit.demo.live import HEIGHT, WIDTH
from labkit.demo.script import read
from labkit.janitor import remove_folder, temporary_folder

READY, NOT_READY = 0, 3
LEAST_FREE_MEGABYTES = 500  # of the disk, for brokers, pictures and timelines
WIDE, HIGH = 120, 36  # at this size there is room to spare
BUSY = 1.5  # the processes that want to run, for each processor, from which a demonstration may stutter


@dataclass(frozen=True)
class Found:
    """What one look found: whether it will do, and what there is; `advice` is for what will not do, or hardly."""

    good: bool
    words: str
    advice: str = ""


def check(brokers: str = "embedded") -> int:
    """Print a line for each thing; return 0 when a class can begin, and 3 when something is missing."""
    ready = True
    for name, look in _looks(brokers):
        try:
            found = look()
        except (InfrastructureError, OSError, ValueError) as trouble:
            found = Found(False, str(trouble).partition("\n")[0])
        ready = ready and found.good
        print(f"{'ok ' if found.good else 'NO '} {name:<12} {found.words}", flush=True)
        if found.advice:
            print(f"{'':16} {found.advice}", flush=True)
    print("Ready: ./lab demo 1" if ready else "Not ready yet: see the lines with NO.")
    return READY if ready else NOT_READY


def _looks(brokers: str) -> Iterator[tuple[str, Callable[[], Found]]]:
    yield "terminal", _terminal
    yield "tmux", _tmux
    yield "processors", _processors
    yield "disk", _disk
    yield "ports", _ports
    known = False
    for name, chosen in (("Valkey", choose), ("RabbitMQ", choose_rabbitmq)):
        with contextlib.suppress(ValueError):  # a URL is that of one of them
            broker = chosen(brokers)
            known = True
            yield name, lambda broker=broker: _broker(broker)
    if not known:
        yield (
            "brokers",
            lambda: Found(False, f"none is called {brokers!r}", "see --brokers: ./lab demo --help"),
        )
    yield "photographs", _photographs


def _terminal() -> Found:
    if not sys.stdout.isatty():
        return Found(
            True, "none: the demonstrations print plain lines", "run this in the terminal of the class"
        )
    width, height = shutil.get_terminal_size()
    size = f"{width} x {height} characters"
    if "utf" not in (sys.stdout.encoding or "").lower():
        return Found(
            False, f"{size}, encoding {sys.stdout.encoding}", "set LANG to a UTF-8 locale, such as C.UTF-8"
        )
    if width < WIDTH or height < HEIGHT:
        return Found(False, size, f"it needs {WIDTH} x {HEIGHT}: make the window larger, or the type smaller")
    if Console().is_dumb_terminal:
        term = os.environ.get("TERM", "")
        return Found(
            False, f"{size}, TERM {term!r}: it cannot move its cursor", "set TERM, such as xterm-256color"
        )
    larger = width > WIDE and height > HIGH
    return Found(True, size, "there is room for larger type: can the last row read this?" if larger else "")


def _tmux() -> Found:
    program = tmux.find()
    if program is None:
        return Found(
            True, "not installed: everything is shown in one terminal", "install tmux for several of them"
        )
    return Found(True, tmux.require(program))


def _processors() -> Found:
    count, (load, *_) = os.cpu_count() or 1, os.getloadavg()
    words = f"{count}, {load:.1f} processes want to run"
    return Found(True, words, "end what else is running, or it may stutter" if load > BUSY * count else "")


def _disk() -> Found:
    folder = temporary_folder()
    try:
        free = shutil.disk_usage(folder).free // 1_000_000
    finally:
        remove_folder(os.fsencode(folder), "-")
    words = f"{free:,} MB are free for temporary files"
    return Found(
        free >= LEAST_FREE_MEGABYTES, words, "" if free >= LEAST_FREE_MEGABYTES else "make some room"
    )


def _ports() -> Found:
    """Whether a port of the loopback can be opened, and reached: a firewall, or a VPN, may forbid that."""
    with (
        socket.create_server((HOST, free_port())) as server,
        socket.create_connection(server.getsockname(), timeout=5),
    ):
        return Found(True, f"can be opened on {HOST}, and are reached")


def _broker(broker: Broker) -> Found:
    began = time.monotonic()
    with broker:
        took = time.monotonic() - began
        return Found(True, f"{broker.kind} {broker.version}, {broker.source}, answers after {took:.1f} s")


def _photographs() -> Found:
    """Have the labs' own photographs drawn now, and not in front of the class."""
    drawn = 0
    for lab in (course.lab(3), course.lab(6)):
        with contextlib.closing(Photographs(lab, read(lab), None)) as photographs:
            photographs.open()
            photographs.drawing.wait(_wait)
            drawn += len(list(photographs.folder.iterdir()))
    return Found(True, f"{drawn} are drawn")


def _wait(there: Callable[[], bool]) -> None:
    while not there():
        time.sleep(0.05)
