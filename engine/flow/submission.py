"""Jobs that are run by the job server of a cluster, which is asked over HTTP; nothing of Ray runs here.

An id is given to the server once: whoever asks twice follows what runs already.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

from engine.flow.cluster import SECRET
from engine.flow.question import beside
from engine.flow.tls import mismatch

log = logging.getLogger("jobs.submit")
PATIENCE = 10.0  # seconds for the server to take a connection
ANSWER = 60.0  # seconds for it to answer: of its nodes it tells what it has after 30
QUIET = 20.0  # seconds without a word in a log after which the server is asked whether it and the job are there
LOOK = 1.0  # seconds between two looks at a job whose log has ended
LOST = 60.0  # seconds without an answer after which a server that did answer is given up, and its job with it
OVER = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class Request:
    """What the server is asked to run, in what its image holds: no code is sent along."""

    id: str
    entrypoint: str
    cpus: float = 0.0  # reserved for the entrypoint, which else runs on the head
    gpus: float = 0.0
    metadata: tuple[tuple[str, str], ...] = ()


def server() -> Any:
    """A client of the job server that RAY_ADDRESS names; ValueError for none, OSError in a sentence where it is silent or refuses."""
    at = address()
    parts = urlsplit(at)
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        socket.create_connection((str(parts.hostname), port), PATIENCE).close()  # Ray's own client would wait for minutes
    except (OSError, ValueError) as error:
        raise OSError(f"no job server answers at {at}: {error}") from error
    from engine.flow.client import Client

    token = headers()
    try:
        with answered("tell its version"):
            return Client(at, token, (PATIENCE, ANSWER))
    except RuntimeError as error:
        raise OSError(f"what answers at {at} is no job server of Ray: {brief(error)}") from error


def asked() -> tuple[str, str]:
    """The variable of the environment that names the address of Ray, as Ray's own client looks for it, and that address; "" for none."""
    name = "RAY_API_SERVER_ADDRESS" if os.environ.get("RAY_API_SERVER_ADDRESS") else "RAY_ADDRESS"
    return name, os.environ.get(name, "")


def is_named() -> bool:
    """Whether what `asked` finds is a job server; it may also name a cluster to join, or be empty."""
    try:
        parts = urlsplit(asked()[1])
    except ValueError:  # brackets that are no address of IPv6
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def address() -> str:
    """The address of the job server; ValueError where the variable names none, or holds a password, which is not repeated."""
    name, at = asked()
    if "@" in at:
        raise ValueError(SECRET.format(name))
    if not is_named():
        raise ValueError(f"{name}={at!r} is no job server; expected its address, as in {name}=http://127.0.0.1:8265")
    return at.rstrip("/")


def headers() -> dict[str, str]:
    """The token of RAY_AUTH_TOKEN, or of the file RAY_AUTH_TOKEN_PATH, as HTTP says it; ValueError where that cannot be read, or said.

    Ray's own client would say it only where RAY_AUTH_MODE=token is set too, and a process that has asked once goes on with that token.
    """
    path = os.environ.get("RAY_AUTH_TOKEN_PATH", "")
    try:
        given = os.environ.get("RAY_AUTH_TOKEN", "").strip()
        token = given or (Path(path).read_text().strip() if path else "")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"RAY_AUTH_TOKEN_PATH={path!r} is no file with a token: {getattr(error, 'strerror', '') or 'it is no text'}"
        ) from error
    if not (token.isascii() and token.isprintable()):  # requests would repeat it in its error
        name = "RAY_AUTH_TOKEN" if given else f"RAY_AUTH_TOKEN_PATH={path!r}"
        raise ValueError(f"{name} holds no token: HTTP takes one line of plain letters, digits and signs")
    return {"Authorization": f"Bearer {token}"} if token else {}


@contextmanager
def answered(what: str) -> Iterator[None]:
    """An error in one sentence, with the server's address and what it was asked, where it does not do that.

    PermissionError of the token, TimeoutError where it says nothing, ConnectionError where it is gone, RuntimeError where it says that it
    failed, OSError where the answer is none of Ray's.
    """
    import requests
    from ray.exceptions import AuthenticationError

    def asked_to() -> str:
        return f"the job server at {address()}, asked to {what},"

    try:
        yield
    except AuthenticationError as error:  # Ray's, no OSError
        raise PermissionError(refusal(address())) from error
    except requests.ConnectTimeout as error:
        raise TimeoutError(f"{asked_to()} took no connection in {PATIENCE:g} s") from error
    except requests.Timeout as error:
        raise TimeoutError(f"{asked_to()} says nothing: {ANSWER:g} s were not enough for an answer") from error
    except (requests.ConnectionError, ConnectionError) as error:
        seen = error.__context__ if type(error) is ConnectionError else error  # of its version Ray's client repeats the address alone
        raise ConnectionError(f"{asked_to()} does not answer: {brief(seen or error)}{mismatch(*asked(), PATIENCE)}") from error
    except (requests.RequestException, AttributeError, KeyError, TypeError, ValueError) as error:  # Ray's client, of a strange answer
        other = mismatch(*asked(), PATIENCE)
        raise OSError(f"{asked_to()} gives an answer that is none of Ray's: {type(error).__name__}: {brief(error)}{other}") from error
    except RuntimeError as error:
        raise RuntimeError(f"{asked_to()} fails: {brief(error)}") from error


def brief(error: BaseException) -> str:
    """What an error says, on one line; of a traceback the end, where the reason stands."""
    told = " ".join(str(error).split())
    return told if len(told) <= 200 else f"{told[:60]} ... {told[-135:]}"


def refusal(at: str) -> str:
    """Why a job server did not let us in, and what to set."""
    if headers():
        return f"the job server at {at} refuses the token of RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH: it is not this cluster's"
    return f"the job server at {at} asks for a token: set RAY_AUTH_TOKEN to the one in the cluster's Secret"


def room() -> dict[str, float]:
    """Processors and GPUs of all nodes that the cluster of RAY_ADDRESS has now, and how many "nodes" these are.

    OSError where it does not tell, of which PermissionError where it refuses the token.
    """
    import requests

    asked = {"detail": "true", "limit": "10000", "filter_keys": "state", "filter_predicates": "=", "filter_values": "ALIVE"}
    at, token = f"{address()}/api/v0/nodes", headers()
    with answered("tell its nodes"):
        answer = requests.get(at, params=asked, headers=token, timeout=(PATIENCE, ANSWER))
    if answer.status_code in (401, 403):
        raise PermissionError(refusal(address()))
    try:
        answer.raise_for_status()
        nodes = answer.json()["data"]["result"]["result"]
        found = {kind: sum(float(node["resources_total"].get(kind, 0)) for node in nodes) for kind in ("CPU", "GPU")}
        return found | {"nodes": float(len(nodes))}
    except (AttributeError, KeyError, TypeError, ValueError, requests.HTTPError) as error:
        told = f"{answer.status_code} {answer.text[:200]!r}"
        raise OSError(f"the job server at {address()} does not tell what nodes its cluster has: {told}") from error


def status(client: Any, name: str) -> str:
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED; "" where the server knows no such id. OSError and RuntimeError as of `answered`."""
    return str(found.status.value) if (found := details(client, name)) else ""


def details(client: Any, name: str) -> Any:
    """All that the server knows of a job; None where it knows no such id. OSError and RuntimeError as of `answered`."""
    with answered(f"tell of {name}"):
        try:
            return client.get_job_info(name)
        except RuntimeError as error:  # all that the client raises, whatever the server answered
            if "status code 404" not in str(error):  # not any 404: a 500 comes with a traceback and its numbers of lines
                raise
            return None


def begin(client: Any, request: Request) -> bool:
    """Have a request run; False where the server has its id already. PermissionError where it refuses the token.

    OSError where it does not say whether it took it, RuntimeError where it failed, KeyboardInterrupt: all three say that the job may run.
    """
    unsure = f"{request.id} may run: the same command follows it"
    try:
        with answered(f"run {request.id}"):
            return taken(client, request)
    except PermissionError:
        raise
    except (OSError, RuntimeError) as error:
        raise type(error)(f"{error}; {unsure}") from error
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(unsure) from error


def taken(client: Any, request: Request) -> bool:
    """Give a request to the server; False where it has its id already. What Ray's client raises else."""
    try:
        client.submit_job(
            entrypoint=request.entrypoint,
            submission_id=request.id,
            entrypoint_num_cpus=request.cpus or None,
            entrypoint_num_gpus=request.gpus or None,
            metadata=dict(request.metadata),
        )
    except RuntimeError as error:  # 500 with a traceback, where another asked in the same moment
        if "already exists" not in str(error):
            raise
        return False
    return True


def follow(client: Any, name: str, tell: Callable[[str], None]) -> int:
    """Give what a job writes to `tell` until it is over; its exit code, 1 where it has none because it was stopped or lost.

    OSError, in a sentence, where the server is silent for LOST seconds, or came back and does not know the job: its head is gone, or was,
    and every job of it with it. PermissionError where it refuses the token.
    """
    told, over = 0, False
    while True:
        told, ended = asyncio.run(listen(client, name, tell, told))
        found = asked_again(client, name)
        before, over = over, str(found.status.value) in OVER
        if over and (ended or before):
            break  # a log that broke off when the job ended is listened to once more
        sleep(LOOK)
    if found.driver_exit_code is None:
        log.warning("%s: %s", name, found.message or str(found.status.value))
        return 1
    return int(found.driver_exit_code)


def asked_again(client: Any, name: str) -> Any:
    """All that is known of a job that was there; a server that does not answer is asked for LOST seconds.

    OSError where it began anew without the job, or stays away.
    """
    began, anew = monotonic(), f"the same command follows {name}, or begins it anew from what was committed"
    while True:
        try:
            found = details(client, name)
        except PermissionError:
            raise  # asking again would not help
        except (RuntimeError, OSError) as error:
            if monotonic() - began > LOST:
                gone = f"the job server at {address()} does not answer any more; when it does, {anew} where {name} is gone"
                raise OSError(f"{gone} ({brief(error)})") from error
            sleep(LOOK)
            continue
        if not found:
            raise OSError(f"the job server at {address()} began anew and does not know {name}; {anew}")
        return found


async def listen(client: Any, name: str, tell: Callable[[str], None], told: int) -> tuple[int, bool]:
    """Tell what a job wrote beyond its first `told` letters; how many are told then, and whether its log ended or broke off."""
    import aiohttp

    passed, parts = 0, aiter(client.tail_job_logs(name))
    while True:
        try:
            part = await coming(client, name, parts)
        except PermissionError:
            raise
        except (RuntimeError, OSError, aiohttp.ClientError) as error:
            log.warning("the log of %s broke off: %s", name, " ".join(str(error).split())[:200])
            return max(told, passed), False
        if part is None:
            return max(told, passed), True
        fresh = part[max(told - passed, 0) :]
        passed += len(part)
        if fresh:
            tell(fresh)  # outside of try: where nobody reads what we write, it is not the log that broke off


async def coming(client: Any, name: str, parts: AsyncIterator[str]) -> str | None:
    """The next part of a log; None at its end. OSError where none comes and the server does not answer either, or the job is over.

    No ping of the log's own connection would do: Ray's job server never reads from it, so it answers none. Its job is asked for instead,
    every QUIET seconds. Of one that is over the end of the log is waited for as long once more: the server looks for it each second.
    """
    part, found = asyncio.ensure_future(anext(parts, None)), "RUNNING"
    while not (await asyncio.wait([part], timeout=QUIET))[0]:
        if found in (*OVER, ""):
            part.cancel()
            raise OSError(f"it says nothing more, and the job is {found or 'unknown'}")
        found = await beside(partial(status, client, name))
    return part.result()
