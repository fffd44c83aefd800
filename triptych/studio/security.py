"""Who may ask, and how much they may send: Host, Origin, token, size of bodies; and the headers of every answer.

An ASGI middleware around the whole application, so that nothing is read before it is allowed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
import socket
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from triptych.studio.limits import Limits

_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_OPEN = ("/api/health",)  # answered without a token: it says nothing but that the studio is there
_LARGE = {"/api/encode": "upload", "/api/score": "folder"}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def hosts_of(host: str, names: Collection[str] = ()) -> frozenset[str]:
    """What a Host header may name where the studio listens on `host`; "*" stands for any IP address, which no foreign
    name can stand for.

    >>> sorted(hosts_of("127.0.0.1"))
    ['127.0.0.1', '::1', 'localhost']
    """
    if is_loopback(host):
        return LOOPBACK | {*names} | ({host} - {""})
    return LOOPBACK | {*names, host, "*", socket.gethostname().lower()}


class Guard:
    """The application behind its checks.

    Args:
        hosts: of `hosts_of`.
        token: what every request to /api has to bear; None: nothing.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], token: str | None, limits: Limits):
        self.app, self.hosts, self.token, self.limits = app, hosts, token, limits
        self.held = 0  # bytes of bodies in memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return None
        headers = Headers(scope=scope)
        refused = self._refused(scope["path"], headers)
        if refused:
            return await _refuse(send, *refused)
        return await self._bounded(scope, receive, send)

    def _refused(self, path: str, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._knows(host):
            return 421, f"this studio does not answer to the host {host[:80]!r}: triptych studio --allow-host adds a name"
        origin = headers.get("origin")
        if origin is not None and urlsplit_host(origin) != host.lower():
            return 403, "this studio answers its own page only, not requests that come from another"
        if path.startswith("/api/") and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "this studio answers its own page only, not requests that come from another"
        if self.token is not None and path.startswith("/api/") and path not in _OPEN and not self._bears(headers):
            return 401, "this studio asks for its token: send it as Authorization: Bearer, or enter it in the page"
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            return 400, "the length of a request should be a whole number of bytes"
        if int(length[:20]) > self._most(path):
            return 413, _large(self._most(path))
        return None

    def _knows(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return "*" in self.hosts

    def _bears(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), str(self.token).encode())

    def _most(self, path: str) -> int:
        return int(getattr(self.limits, _LARGE.get(path, "json")))

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application with a body that is counted while it is read."""
        body = _Body(receive, self._most(scope["path"]), self)
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if body.refused and not started:
                return
            if message["type"] == "http.response.start":
                started = True
                known = {name.lower() for name, _ in message["headers"]}
                extra = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in known]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        try:
            with contextlib.suppress(_Refused):  # `body.refused` says why, and is answered below
                await self.app(scope, body.receive, answer)
        finally:
            self.held -= body.size
        if body.refused and not started:
            await _refuse(send, *body.refused)


class _Refused(Exception):
    """A body that is not read any further."""


class _Body:
    """What is received of one request, within its bounds."""

    def __init__(self, receive: Receive, most: int, guard: Guard):
        self._receive, self.most, self.guard = receive, most, guard
        self.size, self.whole = 0, False
        self.refused: tuple[int, str] | None = None

    async def receive(self) -> Message:
        if self.whole:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self.guard.limits.patience)
        except TimeoutError:
            raise self._refuse(408, "the request did not arrive in time: send it again") from None
        if message["type"] != "http.request":
            return message
        size = len(message.get("body", b""))
        self.size, self.guard.held = self.size + size, self.guard.held + size
        self.whole = not message.get("more_body", False)
        if self.size > self.most:
            raise self._refuse(413, _large(self.most))
        if self.guard.held > self.guard.limits.reading:
            raise self._refuse(503, "too much is being uploaded at this moment: try again in a second")
        return message

    def _refuse(self, status: int, sentence: str) -> _Refused:
        self.refused = (status, sentence)
        return _Refused(sentence)


def urlsplit_host(origin: str) -> str:
    """host:port of an Origin header; "" for one that has none, such as null."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _large(most: int) -> str:
    return f"this request is larger than {most / 2**20:g} MiB: send less"


async def _refuse(send: Send, status: int, sentence: str) -> None:
    content = json.dumps({"detail": sentence}).encode()
    extra = {"content-type": "application/json", "content-length": str(len(content)), **HEADERS}
    if status == 401:
        extra["www-authenticate"] = "Bearer"
    if status == 503:
        extra["retry-after"] = "1"
    if status in (408, 413):
        extra["connection"] = "close"  # what is left of the body is not waited for
    headers = [(name.encode(), value.encode()) for name, value in extra.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
