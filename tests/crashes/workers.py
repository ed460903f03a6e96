"""Processes that work for the job watch as badly as can be; each writes what it does to the file `lines` in the folder of the store."""

import os
import signal
import time
from pathlib import Path

from jobs import aside
from jobs.line import Line


def begun(config, first, before, connection):
    """The line, and how many were there before this one."""
    with Path(config.store.uri, "lines").open("a") as file:
        file.write(f"{'first' if first else 'later'}:{before.replace(' ', '-')}\n")
    line = Line(connection)
    line.tell("ready")
    return line, len(Path(config.store.uri, "lines").read_text().split()) - 1


def dies_twice(config, first, before, connection):
    line, number = begun(config, first, before, connection)
    with line.at_work():
        if number == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 1:
            os._exit(3)


def hangs_once(config, first, before, connection):
    line, number = begun(config, first, before, connection)
    with line.at_work():
        if number == 0:
            time.sleep(1000)
        for _ in range(8):  # longer than the patience in all
            time.sleep(0.5)
            line.beat()


def refuses(config, first, before, connection):
    Line(connection).tell("refused", "no scorer")


def breaks(config, first, before, connection):
    os._exit(3)


def wrote(config, *words):
    Path(config.store.uri, "pid").write_text(str(os.getpid()))
    with Path(config.store.uri, "lines").open("a") as file:
        file.write("".join(f"{word}\n" for word in words))


def finishes(config, first, before, connection):
    line = Line(connection)
    with line.at_work():
        wrote(config, "begun")
        while not line.stopping:
            time.sleep(0.05)
        time.sleep(1)
        wrote(config, "finished")


def abandons(config, first, before, connection):
    line = Line(connection)
    try:
        with line.at_work():
            wrote(config, "begun")
            time.sleep(1000)
    except KeyboardInterrupt:
        wrote(config, "abandoned")


def is_deaf(config, first, before, connection):
    line = Line(connection)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with line.at_work():
        wrote(config, "begun")
        time.sleep(1000)


def lingers(config, line):
    """Work beside a watcher that does not end by itself."""
    aside.begin(line)
    Path(config.store.uri, "aside").write_text(str(os.getpid()))
    time.sleep(10_000)
