"""What every request passes before anything reads it: whose it is, whence it comes, how big it is.

The server may sit on a person's own machine, where every web page that they visit can send requests
to it. So requests from pages of other origins are refused (by `Origin`, which browsers always send
with what changes something), and so are host names that are not ours (which is how DNS rebinding
reads answers). Both follow the OWASP cheat sheets on cross-site requests.
"""

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "roundview_token"
OPEN_PATHS = ("/health",)
"""What needs no token: it says nothing about anybody's work."""

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self' blob:; media-src 'self'; manifest-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class TooLarge(HTTPException):
    """The body of a request is larger than the server takes."""

    def __init__(self, upload_bytes: int) -> None:
        super().__init__(
            413, f"the upload is over {upload_bytes / 1e6:.0f} MB; send a smaller file"
        )


class Guard:
    """Wraps an application.

    Args:
        app: What to guard.
        upload_bytes: Bodies may have as many.
        token: What a client must know, if anything.
        hosts: Names that the server answers to; any if there are none.
        counted: Told the status of every answer.
    """

    def __init__(
        self,
        app: App,
        *,
        upload_bytes: int,
        token: str | None = None,
        hosts: tuple[str, ...] = (),
        counted: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._app, self._upload_bytes = app, upload_bytes
        self._token, self._hosts, self._counted = token, hosts, counted

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application do it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counted(message["status"])
                message["headers"] = [*message["headers"], *_added(message["headers"])]
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, sent)
        else:
            await self._app(scope, self._measured(receive), sent)

    def _refusal(self, scope: Message) -> Response | None:
        headers = Headers(raw=scope["headers"])
        host = headers.get("host", "")
        if self._hosts and _name(host) not in self._hosts:
            return _problem(400, "this server does not answer to that host name")
        origin = headers.get("origin")
        changes = scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if changes and origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return _problem(403, "requests from pages of other origins are refused")
        if _length(headers) > self._upload_bytes:
            error = TooLarge(self._upload_bytes)
            return _problem(413, error.detail)
        return self._unknown(scope, headers)

    def _unknown(self, scope: Message, headers: Headers) -> Response | None:
        """Refuse who does not know the token; let in the browser whose address line does."""
        if self._token is None or scope["path"] in OPEN_PATHS:
            return None
        offered = headers.get("authorization", "").removeprefix("Bearer ")
        if self._matches(offered) or self._matches(_cookie(headers.get("cookie", ""))):
            return None
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and self._matches(asked):
            answer = RedirectResponse("/", status_code=303)
            answer.set_cookie(COOKIE, asked, httponly=True, samesite="lax", max_age=30 * 86_400)
            return answer
        problem = _problem(401, "a token is needed: open the address that the server printed")
        problem.headers["www-authenticate"] = "Bearer"
        return problem

    def _matches(self, offered: str) -> bool:
        assert self._token is not None
        return secrets.compare_digest(offered.encode(), self._token.encode())

    def _measured(self, receive: Receive) -> Receive:
        """Count the body as it comes: its length may be untold, or a lie."""
        so_far = 0

        async def received() -> Message:
            nonlocal so_far
            message = await receive()
            so_far += len(message.get("body", b""))
            if so_far > self._upload_bytes:
                raise TooLarge(self._upload_bytes)
            return message

        return received


def _added(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    there = {name.lower() for name, _ in headers}
    ours = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
    return [(name, value) for name, value in ours if name not in there]


def _problem(status: int, error: str) -> JSONResponse:
    return JSONResponse({"error": error}, status_code=status)


def _name(host: str) -> str:
    """Take the port off a host."""
    if host.startswith("["):
        return host[1:].split("]", maxsplit=1)[0]
    return host.rsplit(":", 1)[0] if ":" in host else host


def _length(headers: Headers) -> int:
    told = headers.get("content-length", "0")
    return int(told) if told.isascii() and told.isdigit() and len(told) < 16 else 2**62


def _cookie(text: str) -> str:
    try:
        found = SimpleCookie(text).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value
