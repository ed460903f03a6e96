"""A question that takes long, asked amid an event loop: the loop goes on, and Ctrl-C ends it at once."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from threading import Thread


async def beside(question: Callable[[], str]) -> str:
    """The answer to a question, which a daemon thread asks: neither who is interrupted nor the end of the process waits for it.

    OSError and RuntimeError are those of the question.
    """
    answer = Future[str]()

    def ask() -> None:
        with suppress(InvalidStateError):  # nobody waits for it any more
            try:
                answer.set_result(question())
            except (OSError, RuntimeError) as error:
                answer.set_exception(error)
            finally:
                answer.cancel()  # where it met a bug, which the thread tells; else nothing

    Thread(target=ask, daemon=True).start()
    return await asyncio.wrap_future(answer)
