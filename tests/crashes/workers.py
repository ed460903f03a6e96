"""Processes that work for the job watch as badly as can be; each writes what it does to the file `lines` in the folder of the store.

Nothing heavy is imported for all of them: an interpreter with torch in it takes seconds to end, on a busy machine more than the patience.
"""

import os
import signal
import time
from pathlib import Path

from jobs import aside, shortage
from jobs.line import Line, again


def begun(config, past, connection):
    """The line, and how many were there before this one."""
    with Path(config.store.uri, "lines").open("a") as file:
        file.write(f"{'first' if past.first else 'later'}:{past.ended.replace(' ', '-')}\n")
    line = Line(connection)
    line.tell("ready")
    return line, len(Path(config.store.uri, "lines").read_text().split()) - 1


def dies_twice(config, past, connection):
    line, number = begun(config, past, connection)
    with line.at_work():
        if number == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 1:
            os._exit(3)


def hangs_once(config, past, connection):
    line, number = begun(config, past, connection)
    with line.at_work():
        if number == 0:
            time.sleep(1000)
        for _ in range(8):  # longer than the patience in all
            time.sleep(0.5)
            line.beat()


def hangs_idly(config, past, connection):
    """Nothing is under way, as in a look at an inbox that does not answer."""
    _, number = begun(config, past, connection)
    if number < 3:
        time.sleep(1000)


def takes_in_and_dies(config, past, connection):
    """Each time after a batch, with nothing under way."""
    line, number = begun(config, past, connection)
    line.tell("committed")
    if number < 4:
        os._exit(3)


def hangs_at_a_step(config, past, connection):
    """What follows a batch hangs, the first time within the batch and then without one."""
    line, number = begun(config, past, connection)
    with Path(config.store.uri, "lines").open("a") as file:
        file.write("".join(f"{step}:{one.tries}:{one.deaths}:{one.reason.replace(' ', '-')}\n" for step, one in past.setbacks.items()))
    if number == 0:
        line.tell("busy")
    if "drift:2:2" not in Path(config.store.uri, "lines").read_text():
        line.tell("follows", "drift")
        time.sleep(1000)


def remembers(config, past, connection):
    """A step of what follows that took three seconds, and a death afterwards."""
    line, number = begun(config, past, connection)
    with Path(config.store.uri, "lines").open("a") as file:
        file.write("".join(f"{step}:{seconds}\n" for step, seconds in past.took.items()))
    if number == 0:
        line.tell("busy")
        line.tell("took", {"drift": 3.0})
        os.kill(os.getpid(), signal.SIGKILL)


def stands_by(config, past, connection):
    """It waits for longer than the patience, and says so."""
    line, _ = begun(config, past, connection)
    with again(line.beat, 0.5, range(10)):
        time.sleep(5)


def awaits_nodes(config, past, connection):
    """Its pools wait for a node for longer than the patience, and then hang, the first time."""
    line, number = begun(config, past, connection)
    shortage.SILENCE, shortage.ASKED, until = 0.5, 0.2, time.monotonic() + 5
    with line.at_work(), shortage.nodes_awaited(line, lambda: ["DecodeFrames"] if time.monotonic() < until else []):
        time.sleep(5)
        with Path(config.store.uri, "lines").open("a") as file:
            file.write("there\n")
        if number == 0:
            time.sleep(1000)


def imports_slowly(config, past, connection):
    signal.raise_signal(signal.SIGINT)  # a Ctrl-C while it imports
    time.sleep(5)  # longer than the patience
    begun(config, past, connection)


def refuses(config, past, connection):
    Line(connection).tell("refused", "no scorer")


def breaks(config, past, connection):
    os._exit(3)


def dies_at_the_start(config, past, connection):
    """By a signal before it is ready, the first two times."""
    wrote(config, "first" if past.first else "later")
    if len(Path(config.store.uri, "lines").read_text().split()) < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    Line(connection).tell("ready")


def wrote(config, *words):
    Path(config.store.uri, "pid").write_text(str(os.getpid()))
    with Path(config.store.uri, "lines").open("a") as file:
        file.write("".join(f"{word}\n" for word in words))


def finishes(config, past, connection):
    line = Line(connection)
    with line.at_work():
        line.tell("batch", {**dict.fromkeys(("videos", "patches"), 1), "refused": 0, "frames": 2, "at": "", "reasons": {}, "latencies": []})
        wrote(config, "begun")
        while not line.stopping:
            time.sleep(0.05)
        time.sleep(1)
        wrote(config, "finished")


def abandons(config, past, connection):
    line = Line(connection)
    try:
        with line.at_work():
            wrote(config, "begun")
            time.sleep(1000)
    except KeyboardInterrupt:
        wrote(config, "abandoned")


def is_deaf(config, past, connection):
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


def keeps_up(config, line):
    """Upkeep that takes until the videos are taken in, which came when it had begun: in the way of these it would never end."""
    from engine.store import PatchStore

    aside.begin(line)
    folder = Path(config.store.uri).parent
    (folder / "inbox" / "late.mp4").write_bytes(b"late")
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and PatchStore(config.store.uri).open("videos").count_rows() < 3:
        time.sleep(0.1)
    (folder / "kept up").write_text(str(PatchStore(config.store.uri).open("videos").count_rows()))


def is_stopped(config, line):
    """Work beside a watcher that stands still."""
    aside.begin(line)
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGSTOP)


def does_nothing(config, line):
    """Work beside a watcher that was done before."""


def says_why(config, line):
    aside.begin(line)
    line.send("there is no room")
