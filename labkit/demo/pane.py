"""Runs in one pane of a stage: shows the bytes that it is sent, and sends what is typed and how large the pane is.

    python pane.py SOCKET NAME

It sends lines: `name NAME`, `size COLUMNS ROWS`, `keys HEX`. It ends when the other side does, in whatever way.
This needs the standard library alone, and little of it: there are several, and the room waits for them.
"""

import os
import select
import signal
import socket
import sys
import termios
import tty

STDIN, STDOUT = 0, 1


def main(path: str, name: str) -> None:
    director = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    director.connect(path)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGWINCH, lambda *_: None)
    tty.setraw(STDIN, termios.TCSANOW)
    director.sendall(f"name {name}\n{size()}".encode())
    while True:
        ready, _, _ = select.select([director, STDIN, woken], [], [])
        if woken in ready:
            os.read(woken, 1024)
            director.sendall(size().encode())
        if STDIN in ready:
            typed = os.read(STDIN, 1024)
            if not typed:
                return
            director.sendall(f"keys {typed.hex()}\n".encode())
        if director in ready:
            shown = director.recv(65536)
            if not shown:
                return
            while shown:
                shown = shown[os.write(STDOUT, shown) :]


def size() -> str:
    columns, rows = os.get_terminal_size(STDOUT)
    return f"size {columns} {rows}\n"


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OSError:
        sys.exit(1)  # the other side, or the terminal, is gone
