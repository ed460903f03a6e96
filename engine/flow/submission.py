"""Jobs that are run by the job server of a cluster, which is asked over HTTP; nothing of Ray runs here.

An id is given to the server once: whoever asks twice follows what runs already.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

from engine.flow.cluster import SECRET

log = logging.getLogger("jobs.submit")
PATIENCE = 10.0  # seconds for the server to take a connection
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
    import requests
    from ray.job_submission import JobSubmissionClient

    try:
        with let_in():
            return JobSubmissionClient(at, headers=headers())
    except PermissionError:
        raise
    except (ConnectionError, requests.RequestException, RuntimeError) as error:
        raise OSError(f"what answers at {at} is no job server of Ray: {' '.join(str(error).split())[:200]}") from error


def asked() -> str:
    """The address of Ray that the environment names; "" where it names none."""
    return os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS", "")


def is_named() -> bool:
    """Whether RAY_ADDRESS names a job server; it may also name a cluster to join, or be empty."""
    parts = urlsplit(asked())
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def address() -> str:
    """The address of the job server; ValueError where RAY_ADDRESS is none, or holds a password, which is not repeated."""
    at = asked()
    if "@" in at:
        raise ValueError(SECRET)
    if not is_named():
        raise ValueError(f"RAY_ADDRESS={at!r} is no job server; expected its address, as in RAY_ADDRESS=http://127.0.0.1:8265")
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
def let_in() -> Iterator[None]:
    """PermissionError, in a sentence, where the server refuses the token or that there is none: Ray's error is no OSError."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise PermissionError(refusal(address())) from error


def refusal(at: str) -> str:
    """Why a job server did not let us in, and what to set."""
    if headers():
        return f"the job server at {at} refuses the token of RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH: it is not this cluster's"
    return f"the job server at {at} asks for a token: set RAY_AUTH_TOKEN to the one in the cluster's Secret"


def room() -> dict[str, float]:
    """Processors and GPUs of all nodes that the cluster of RAY_ADDRESS has now; OSError where it does not tell."""
    import requests

    asked = {"detail": "true", "limit": "10000", "filter_keys": "state", "filter_predicates": "=", "filter_values": "ALIVE"}
    answer = requests.get(f"{address()}/api/v0/nodes", params=asked, headers=headers(), timeout=60)
    answer.raise_for_status()
    try:
        nodes = answer.json()["data"]["result"]["result"]
        return {kind: sum(float(node["resources_total"].get(kind, 0)) for node in nodes) for kind in ("CPU", "GPU")}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise OSError(f"the job server at {address()} does not tell what nodes its cluster has: {answer.text[:200]!r}") from error


def status(client: Any, name: str) -> str:
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED; "" where the server knows no such id."""
    try:
        with let_in():
            return str(client.get_job_status(name).value)
    except RuntimeError as error:  # all that the client raises, whatever the server answered
        if "status code 404" in str(error):  # not any 404: a 500 comes with a traceback and its numbers of lines
            return ""
        raise


def begin(client: Any, request: Request) -> bool:
    """Have a request run; False where the server has its id already."""
    try:
        with let_in():
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
    told = 0
    while True:
        told = asyncio.run(listen(client, name, tell, told))
        if asked_again(client, name) in OVER:
            break
        sleep(LOOK)
    with let_in():
        found = client.get_job_info(name)
    if found.driver_exit_code is None:
        log.warning("%s: %s", name, found.message or str(found.status.value))
        return 1
    return int(found.driver_exit_code)


def asked_again(client: Any, name: str) -> str:
    """The status of a job that was there; a server that does not answer is asked for LOST seconds."""
    began, anew = monotonic(), f"the same command follows {name}, or begins it anew from what was committed"
    while True:
        try:
            found = status(client, name)
        except PermissionError:
            raise  # asking again would not help
        except (RuntimeError, OSError) as error:
            if monotonic() - began > LOST:
                raise OSError(
                    f"the job server at {address()} does not answer any more; when it does, {anew} where {name} is gone"
                ) from error
            sleep(LOOK)
            continue
        if not found:
            raise OSError(f"the job server at {address()} began anew and does not know {name}; {anew}")
        return found


async def listen(client: Any, name: str, tell: Callable[[str], None], told: int) -> int:
    """Tell what a job wrote beyond its first `told` letters, until its log ends or breaks off; how many are told then."""
    import aiohttp

    passed = 0
    try:
        async for part in client.tail_job_logs(name):
            fresh = part[max(told - passed, 0) :]
            passed += len(part)
            if fresh:
                tell(fresh)
    except (RuntimeError, OSError, aiohttp.ClientError) as error:
        log.warning("the log of %s broke off: %s", name, " ".join(str(error).split())[:200])
    return max(told, passed)
