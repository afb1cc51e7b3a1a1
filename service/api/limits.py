"""Stands before every request: who asks, how often, how much they send; and marks every answer as what it is.

Nothing of a body is read before its sender is known and its size is allowed, and no route can be reached around this.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.auth import AuthError
from service.api.metrics import Metrics
from service.api.problems import ProblemError, answer, problem_of
from service.api.rules import PREFIX, RULES, Access
from service.api.service import Service
from service.errors import TuneyardError
from service.records import Principal

_log: Final = logging.getLogger("tuneyard.api")
_PUBLIC: Final = {tuple(rule.split(" ")) for rule, known in RULES.items() if known.needs is Access.PUBLIC}
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HEALTH: Final = "/healthz"
_FROM_YOURS: Final = "too many requests come from your address"
_UNKNOWN: Final = "too many requests without a valid identity come from your address"
_MOST_CLIENTS: Final = 10_000  # remembered at a time; the longest silent one is forgotten first
_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
_PORT: Final = re.compile(r":\d{1,5}\Z")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_PACKAGE: Final = re.compile(rf"{PREFIX}/packages/[^/]*\Z")
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class Buckets:
    """Token buckets, one for each client: `take` says how many seconds to wait, 0 where there is no need to."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was
        self._lock = threading.Lock()

    def take(self, client: str, count: int = 1) -> float:
        """Take `count` from the client's bucket, if there is one; 0 only looks."""
        now = self._clock()
        with self._lock:
            left, before = self._levels.pop(client, (self._burst, now))
            left = min(self._burst, left + (now - before) * self._per_s)
            is_fine = left >= 1
            self._levels[client] = (left - count if is_fine else left, now)
            if len(self._levels) > _MOST_CLIENTS:
                self._levels.popitem(last=False)
        return 0.0 if is_fine else (1 - left) / self._per_s


class Gate:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, service: Service, metrics: Metrics) -> None:
        self._app, self._service, self._metrics = app, service, metrics
        limits = service.limits
        self._users = Buckets(limits.requests_per_s, limits.requests_burst)
        self._failures = Buckets(limits.failures_per_s, limits.failures_burst)
        self._strangers = Buckets(limits.public_per_s, limits.public_burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it with the problem it has."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        began, request_id = time.perf_counter(), secrets.token_hex(8)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        wrapped = _Sender(send, scope, self._service)
        try:
            body = await self._admitted(scope, receive)
            await self._app(scope, body, wrapped)
        except Exception as error:  # noqa: BLE001  # whatever slipped through the application's own handlers
            await self._refuse(error, scope, wrapped)
        finally:
            seconds = time.perf_counter() - began
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.answered(method, _route_of(scope), wrapped.status, seconds)
            user = getattr(state.get("principal"), "user", "-")
            _log.info("%s %s %s %d %.1f ms", request_id, user, _line_of(scope), wrapped.status, seconds * 1e3)

    async def _refuse(self, error: Exception, scope: Scope, send: _Sender) -> None:
        if send.status:  # the answer has begun: nothing can be said any more
            _log.warning("request %s broke off: %s", scope["state"]["request_id"], type(error).__name__)
            return
        problem = problem_of(error)
        if problem is None:
            _log.error("request %s failed", scope["state"]["request_id"], exc_info=error)
            problem = ProblemError(500, "internal", "something went wrong here; the server's log has it")
        await answer(problem, scope["state"]["request_id"])(scope, _nothing, send)

    async def _admitted(self, scope: Scope, receive: Receive) -> Receive:
        """The request's body, capped, once its sender may send it."""
        headers = Headers(scope=scope)
        address = (scope.get("client") or ("", 0))[0]
        is_public = (scope["method"], scope["path"]) in _PUBLIC
        if self._service.draining.is_set() and not is_public:
            raise ProblemError(503, "draining", "the service is about to end; try again", headers={"Retry-After": "5"})
        self._check_origin(headers)
        if is_public:
            if scope["path"] != _HEALTH:  # which costs nothing, and whose asker would end the process
                self._take(self._strangers, address, _FROM_YOURS)
        else:
            for name in self._service.authenticator.alone:
                if len(headers.getlist(name)) > 1:
                    raise ProblemError(401, "unauthorized", f"{name} stands twice: nobody can tell who asks")
            shown = {name.lower(): value for name, value in headers.items()}, address
            principal = await self._principal(*shown)
            scope["state"] |= {"principal": principal, "address": address, "shown": shown}
            self._take(self._users, principal.user, "you ask too often")
        return self._capped(scope, headers, receive)

    def _check_origin(self, headers: Headers) -> None:
        """Where no token is sent, a web page that somebody has open must not be able to ask in their name."""
        is_open = self._service.authenticator.is_open
        if not is_open and "authorization" in headers:
            return
        host, origin = headers.get("host", ""), headers.get("origin")
        if is_open and _PORT.sub("", host) not in (*_LOOPBACK, *self._service.hosts):
            msg = "a service without auth is asked under a name of its own machine, as in http://127.0.0.1"
            raise ProblemError(403, "wrong-host", msg)
        ours = (host, urlsplit(self._service.public_url).netloc)  # a proxy may have asked under another name
        is_ours = origin is None or (origin.partition("://")[2] or None) in ours
        if not is_ours or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise ProblemError(403, "cross-site", "pages of other sites may not ask this service")

    async def _principal(self, headers: Mapping[str, str], address: str) -> Principal:
        authenticator = self._service.authenticator
        try:
            if authenticator.is_quick(headers):
                return authenticator.authenticate(headers, address)
            if not authenticator.is_welcome(headers):
                self._take(self._failures, address, _UNKNOWN, 0)  # before a thread and the database are asked
            return await run_in_threadpool(authenticator.authenticate, headers, address)
        except AuthError as error:
            self._take(self._failures, address, _UNKNOWN)
            realm = {"WWW-Authenticate": 'Bearer realm="tuneyard"'}
            raise ProblemError(401, "unauthorized", str(error), headers=realm) from error

    def _take(self, buckets: Buckets, client: str, why: str, count: int = 1) -> None:
        wait_s = buckets.take(client, count)
        if wait_s:
            seconds = str(max(1, round(wait_s + 0.5)))
            raise ProblemError(429, "too-many", f"{why}; wait {seconds} s", headers={"Retry-After": seconds})

    def _capped(self, scope: Scope, headers: Headers, receive: Receive) -> Receive:
        limits = self._service.limits
        is_package = scope["method"] == "PUT" and _PACKAGE.match(scope["path"]) is not None
        cap = limits.package_bytes if is_package else limits.body_bytes
        length = headers.get("content-length")
        if length is not None and (not length.isdecimal() or len(length) > 18 or int(length) > cap):  # noqa: PLR2004  # more digits are no size
            raise _too_large(cap)
        seconds = limits.package_timeout_s if is_package else limits.body_timeout_s
        return _Body(receive, cap, seconds)


class _Body:
    """A request's body as the application receives it: no longer and no slower than is allowed."""

    def __init__(self, receive: Receive, cap: int, seconds: float) -> None:
        self._receive, self._cap, self._seconds = receive, cap, seconds
        self._size = 0
        self._until: float | None = None
        self._is_over = False

    async def __call__(self) -> Message:
        if self._is_over:
            return await self._receive()  # the disconnect
        loop = asyncio.get_running_loop()
        self._until = self._until or loop.time() + self._seconds
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise ProblemError(408, "too-slow", f"the body did not arrive within {self._seconds:g} s") from None
        self._size += len(message.get("body", b""))
        self._is_over = not message.get("more_body", False)
        if self._size > self._cap:
            raise _too_large(self._cap)
        return message


class _Sender:
    """Marks the answer, and puts a change into the audit log before anybody is told of it."""

    def __init__(self, send: Send, scope: Scope, service: Service) -> None:
        self._send, self._scope, self._service = send, scope, service
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            state = self._scope["state"]
            is_change = self._scope["method"] not in _READS and "principal" in state and "is_on_record" not in state
            if is_change and message["status"] != HTTPStatus.TOO_MANY_REQUESTS:  # a flood must not reach the disk
                await self._note(message["status"])
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers["X-Request-Id"] = self._scope["state"]["request_id"]
            self.status = message["status"]
        await self._send(message)

    async def _note(self, status: int) -> None:
        if status == HTTPStatus.SERVICE_UNAVAILABLE:  # the note waits for the database, and nobody for the note
            asyncio.get_running_loop().run_in_executor(None, self._audit, status)
        else:
            await run_in_threadpool(self._audit, status)

    def _audit(self, status: int) -> None:
        state: dict[str, Any] = self._scope["state"]
        action = f"{self._scope['method']} {_route_of(self._scope)}"
        principal: Principal = state["principal"]
        try:
            self._service.store.add_audit(
                principal.user, state.get("project"), action, state.get("subject", ""), str(status), state["address"]
            )
        except TuneyardError:  # what was done is done; its answer must not get lost with the note of it
            _log.exception("request %s could not be noted in the audit log", state["request_id"])


def _too_large(cap: int) -> ProblemError:
    return ProblemError(
        413, "too-large", f"the body is too large; at most {cap:,} bytes", headers={"Connection": "close"}
    )


def _route_of(scope: Scope) -> str:
    return str(getattr(scope.get("route"), "path", "unknown"))


def _line_of(scope: Scope) -> str:
    """The request's line for the log: its path alone, since a query may hold anything."""
    return f"{scope['method']} {scope['path'][:200]!r}"


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
