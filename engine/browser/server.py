"""The page and its answers as one program, and the process that serves it."""

import ipaddress
import logging
import secrets
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from engine.browser.answers import Answers
from engine.browser.guard import Guard, is_here
from engine.browser.looks import GoneError
from engine.files import placeless
from engine.refusals import RefusedError
from engine.settings import BrowseConfig

log = logging.getLogger("engine.browser")
PAGE = Path(__file__).parent / "page"
CODES: dict[type[Exception], int] = {
    GoneError: 410, LookupError: 404, RefusedError: 400, PermissionError: 403, OSError: 503, RuntimeError: 503,
}  # fmt: skip
AWAY = "the store cannot be read or written just now; the terminal where browse runs says why"
BUGS = (KeyError, IndexError, NotImplementedError, RecursionError)  # kinds of the above that nobody at the page can mend


def program(answers: Answers, token: str = "", host: str = "") -> Starlette:
    """The page at /, its files at /page, what it asks at /api; `token` is asked of everybody where it is not "", see Guard."""

    def page(request: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    routes = [Route("/", page), *answers.routes(), Mount("/page", StaticFiles(directory=PAGE))]
    handlers = dict.fromkeys(CODES, partial(told, answers.store.uri)) | dict.fromkeys(BUGS, raised)
    return Starlette(routes=routes, middleware=[Middleware(Guard, token=token, host=host)], exception_handlers=handlers)


def told(uri: str, request: Request, error: Exception) -> Response:
    """What a person can mend, in one sentence, without the address of the store.

    What Lance or the disk say goes to the terminal.
    """
    code = next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
    sentence = placeless(" ".join(str(error).split()))
    if code == 503 and not isinstance(error, TimeoutError):
        log.warning("%s: %s", request.url.path, sentence)
        sentence = AWAY
    return JSONResponse({"error": sentence.replace(f"the store {uri}", "the store").replace(uri, "the store")}, code)


def raised(request: Request, error: Exception) -> Response:
    """Raise it again: a bug is not told to the page."""
    raise error


def serve(config: BrowseConfig, answers: Answers, say: Callable[[str], None]) -> None:
    """Answer until the process is told to end; `say` is given the address to open. OSError, in one sentence, where the port is taken."""
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((config.host, config.port), family=family)
    except OSError as error:
        raise OSError(f"browse.host={config.host} browse.port={config.port} cannot be listened at: {error.strerror or error}") from error
    token = "" if is_here(config.host) else secrets.token_urlsafe(24)
    name = named(config.host)
    say(f"http://{name}:{listening.getsockname()[1]}/" + (f"?token={quote(token)}" if token else ""))
    quiet = uvicorn.Config(program(answers, token, config.host), log_level="warning", access_log=False, lifespan="off", server_header=False)
    with listening:
        uvicorn.Server(quiet).run(sockets=[listening])


def named(host: str) -> str:
    """A host as it stands in an address; the name of this machine for one that means all of its addresses."""
    try:
        known = socket.gethostname() if ipaddress.ip_address(host).is_unspecified else host
    except ValueError:
        known = host
    return f"[{known}]" if ":" in known else known
