"""A thread that makes calls, one after the other, in the order in which they were put in line. Given.

A worker does its work there: its main thread stays free to answer the broker's heartbeats.
"""

import os
import queue
import threading
import traceback


def start():
    """Start the thread; return the line: line.put((function, argument, ...)) has the thread make that call."""
    line = queue.SimpleQueue()
    threading.Thread(target=make_calls, args=(line,), daemon=True).start()
    return line


def make_calls(line):
    """Make the calls in the line, forever."""
    try:
        while True:
            function, *arguments = line.get()
            function(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # a mistake in worker.py: better no worker than one that holds tasks and does none
