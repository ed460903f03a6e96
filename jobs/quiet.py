"""What a process of a job says, and what its libraries do not."""

import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal

log = logging.getLogger("jobs.quiet")


def begin(form: Literal["text", "json"] = "text") -> None:
    """Let the jobs tell what they do, with the time of day or as JSON, and libraries only what is wrong."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("jobs").setLevel(logging.INFO)
    logging.getLogger("jobs.videos").setLevel(logging.INFO if form == "json" else logging.WARNING)  # a line a video is for programs
    if form == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(Lines())
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # a damaged image is a row with a reason
    os.environ.setdefault("LANCE_LOG", "error")  # building an index, it tells of every cell that k-means left empty
    warnings.filterwarnings("ignore", message="lance is not fork-safe")  # Ray's own helpers fork; nothing of ours reads after a fork
    warnings.filterwarnings("ignore", category=FutureWarning)  # of libraries among themselves


def complain(text: str) -> None:
    """The last sentence of a job, in the form of what it said before."""
    if any(isinstance(handler.formatter, Lines) for handler in logging.getLogger().handlers):
        log.error("%s", text, extra={"event": "ended"})
    else:
        print(text, file=sys.stderr)


class Lines(logging.Formatter):
    """A record as a JSON object on one line: time, level, event, what was `told` with it, and its text."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record; its time is in UTC."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        event = getattr(record, "event", record.name.rpartition(".")[2])
        told = {"time": when, "level": record.levelname.lower(), "event": event, **getattr(record, "told", {})}
        return json.dumps({**told, "text": record.getMessage()}, ensure_ascii=False)


class Withhold(logging.Filter):
    """Lets no text through that names what a patient's file is called, whoever wrote it; that there was one is told."""

    def __init__(self, is_named: Callable[[str], bool]) -> None:
        super().__init__()
        self.is_named = is_named

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a record through, always: one that names a file of the inbox without its text."""
        record.exc_info = record.exc_text = record.stack_info = None  # a traceback ends with what the exception says
        ours = record.name.split(".")[0] in ("jobs", "engine")  # whose own words name nobody: what is put into them may
        if self.is_named(" ".join(map(str, record.args)) if ours and isinstance(record.args, tuple) else record.getMessage()):
            record.msg, record.args = f"(a line of {record.name} is withheld: it names a file of the inbox)", ()
        return True


def withhold(is_named: Callable[[str], bool]) -> None:
    """From now on, in place of what was withheld before; of Python's warnings, too."""
    logging.captureWarnings(True)
    for handler in logging.getLogger().handlers:
        handler.filters = [one for one in handler.filters if not isinstance(one, Withhold)]
        handler.addFilter(Withhold(is_named))


def without_names(text: str) -> str:
    """The text, for others than the log, or that it is withheld."""
    filters = [one for handler in logging.getLogger().handlers for one in handler.filters if isinstance(one, Withhold)]
    return "withheld: it names a file of the inbox" if any(one.is_named(text) for one in filters) else text


class Surprises:
    """Around the work of a process: an exception that nobody expected ends it with code 1, told without what it may hold of a name."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt | SystemExit):
            return
        tell_surprise("a surprise ends this process", error)
        raise SystemExit(1) from None


def tell_surprise(what: str, error: BaseException | None) -> None:
    """Where a bug was met, and what it says, in lines of their own: what it says may be withheld."""
    frames = traceback.extract_tb(error.__traceback__ if error else None)
    places = " < ".join(f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in reversed(frames))
    log.critical("%s: %s at %s", what, type(error).__name__, places, extra={"event": "surprise"})
    log.critical("it says: %s", " ".join(str(error).split()), extra={"event": "surprise"})
