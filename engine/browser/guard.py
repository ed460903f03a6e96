"""Who may look: on this machine whoever is on it, from elsewhere whoever has the token; and what a browser may do with the pages.

The `Host` of a request is checked, since a page of somebody else could have its own name lead here; pages of others may neither read nor
write, and nothing is kept in the browser's cache on disk.
"""

import hmac
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "endocurate"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
HERE = ("127.0.0.1", "localhost", "::1")
LARGEST = 1 << 20  # bytes of a request


def is_here(host: str) -> bool:
    """Whether an address can only be reached from this machine; one that is no number is not, but for localhost."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass
class Guard:
    """Answers what may not be answered, and adds what every answer says to the browser.

    `token` is "" where none is asked for; then `host`, which is listened at, is a name of this machine as those of HERE are.
    """

    app: ASGIApp
    token: str
    host: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        answer = self.refusal(Request(scope))
        await (answer or self.app)(scope, receive, guarded)

    def refusal(self, request: Request) -> Response | None:
        """The answer to a request that gets no other one."""
        headers = request.headers
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return PlainTextResponse("the pages of others may not ask here", 403)
        if request.method not in ("GET", "HEAD") and not is_own(headers):
            return PlainTextResponse("only the page itself may write, as JSON of at most 1 MB", 403)
        if not self.token:
            return (
                None
                if place(headers)[0] in (*HERE, self.host.lower())
                else PlainTextResponse("asked for under a name that is not this machine's", 421)
            )
        return self.known(request)

    def known(self, request: Request) -> Response | None:
        """Nothing for whoever has the token; it comes once in the address, and from then on as a cookie."""
        if given := request.query_params.get("token"):
            if not same(given, self.token):
                return PlainTextResponse("this is not the token that was printed when the job browse began", 403)
            answer = RedirectResponse("/", 303)
            answer.set_cookie(cookie(request.headers), self.token, httponly=True, samesite="strict", path="/")
            return answer
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if any(same(one, self.token) for one in (request.cookies.get(cookie(request.headers), ""), bearer)):
            return None
        return PlainTextResponse("open the address with the token that was printed when the job browse began", 401)


def same(given: str, token: str) -> bool:
    """Whether they are the same, in a time that does not tell how much of one is right."""
    return hmac.compare_digest(given.encode(), token.encode())


def place(headers: Headers) -> tuple[str, int]:
    """The name and the port that were asked for; "" for what is none."""
    try:
        found = urlsplit(f"//{headers.get('host', '')}")
        return found.hostname or "", found.port or 80
    except ValueError:
        return "", 0


def cookie(headers: Headers) -> str:
    """Its name: a browser sends a cookie to every port of a machine, where another store may be open."""
    return f"{COOKIE}-{place(headers)[1]}"


def is_own(headers: Headers) -> bool:
    """Whether a request that writes comes from the page: JSON, which no form of another page can send, and of no other origin."""
    origin, length = headers.get("origin"), headers.get("content-length", "")
    own = origin is None or urlsplit(origin).netloc == headers.get("host")
    small = length.isdecimal() and int(length) <= LARGEST
    return own and small and headers.get("content-type", "").partition(";")[0] == "application/json"
