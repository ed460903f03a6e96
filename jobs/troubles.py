"""What a job may meet that a person can mend, told from what is a bug."""

from collections.abc import Iterator
from contextlib import contextmanager

from engine import files, flow, tracking

BUGS = (KeyError, IndexError, NotImplementedError, RecursionError)  # kinds of what is mendable that are none: only we can mend these


class CommandError(ValueError):
    """What was typed cannot be done, whatever there is elsewhere."""


@contextmanager
def typed() -> Iterator[None]:
    """Raise what is refused in here as a CommandError: a wrong command, before anything was done."""
    try:
        yield
    except ValueError as error:
        raise CommandError(str(error)) from error


def away(*more: type[BaseException]) -> tuple[type[BaseException], ...]:
    """What is raised where a file system, a bucket or a server does not answer, or a cluster has lost its nodes, and `more`."""
    return *files.unreadable(), *tracking.troubles(), flow.ClusterError, *more


def mendable(*more: type[BaseException]) -> tuple[type[BaseException], ...]:
    """What a person can mend: input, settings, disk, network, and `more`; but for BUGS."""
    return away(ValueError, LookupError, RuntimeError, *more)


def said(error: BaseException | None) -> str:
    """What an error says, on one line and without the places in Lance's source; its kind where it says nothing."""
    return files.placeless(" ".join(str(error).split())) or type(error).__name__
