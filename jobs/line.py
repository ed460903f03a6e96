"""The line between the process that watches and the one that sees to it: signs of life one way, when to end the other way."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

FINISH, ABANDON = "finish", "abandon"  # what the one that works is told: its batch, or what it does
STOP = signal.SIGUSR1  # from a thread of that process to itself: of SIGTERM and SIGINT Ray has its own idea


class Line:
    """The end of the one that works; KeyboardInterrupt comes up in its main thread where it is to stop.

    It ends with the other one, also where that is killed.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection, self.busy, self.stopping = connection, False, False
        self.also: list[Callable[[str, Any], None]] = []  # who hears what is told, beside the other end
        signal.signal(STOP, interrupt)
        for told in (signal.SIGTERM, signal.SIGINT):  # a terminal and systemd send them to both
            signal.signal(told, signal.SIG_IGN)
        threading.Thread(target=self.listen, daemon=True).start()

    def tell(self, word: str, said: Any = "") -> None:
        for hear in self.also:
            hear(word, said)
        with suppress(ConnectionError):  # `listen` is about to end this process
            self.connection.send((word, said))

    def beat(self) -> None:
        self.tell("alive")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Be busy: silence counts, and what ends the process in here is to blame for it. An exception leaves it so."""
        self.busy = True
        self.tell("busy")
        yield
        self.busy = False
        self.tell("idle")

    def listen(self) -> None:
        try:
            while True:
                word = self.connection.recv()
                self.stopping = True
                if word == ABANDON or not self.busy:
                    os.kill(os.getpid(), STOP)
        except (EOFError, OSError):
            os._exit(1)


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
