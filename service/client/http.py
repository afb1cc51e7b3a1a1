"""How the client speaks HTTP: asks again where that is safe, and turns every refusal into an error of ours.

A request that changes something is sent again only if it surely was not taken, or if its Idempotency-Key makes it
count once.
"""

from __future__ import annotations

import json
import random
import secrets
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import urlsplit

import httpx2
from pydantic import BaseModel, ValidationError

from service.errors import (
    ContextError,
    Fault,
    ServerError,
    SpecError,
    SweepNotFoundError,
    TuneyardError,
    UnreachableError,
)
from service.spec.document import shorten

PREFIX: Final = "/api/v1"
TIMEOUT_S: Final = 30.0
PATIENCE_S: Final = 15.0
SILENCE_S: Final = 60.0  # of a stream, whose server sends something at least every 15 s
END: Final = "end"  # the event after which nothing follows
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
_LONGEST_ADVISED_S: Final = 60.0
_CHANCE: Final = random.SystemRandom()  # leaves the numbers alone that others have seeded
_TOO_MANY: Final = 429
_AWAY: Final = 503
_PERHAPS_HEARD: Final = (502, 503, 504)
_SENT_AT_MOST_ONCE: Final = ("POST", "PATCH")
_LONGEST_TEXT: Final = 1000  # of what a server says went wrong; nothing that steers a terminal comes through
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

AnswerT = TypeVar("AnswerT", bound=BaseModel)


def new_key() -> str:
    """An Idempotency-Key that nobody else takes."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `body` travels as JSON, `content` as it is; `key` makes a creation count once."""

    method: str
    path: str
    query: Mapping[str, Any] | None = None
    body: Mapping[str, Any] | None = None
    content: bytes | None = None
    key: str | None = None

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice is as good as once."""
        return self.method not in _SENT_AT_MOST_ONCE or self.key is not None


@dataclass(frozen=True, slots=True)
class Message:
    """One server-sent event."""

    id: str
    event: str
    data: str

    def parsed(self, answer: type[AnswerT]) -> AnswerT:
        """Its data as `answer`. ServerError where it is none."""
        return _parsed(answer, self.data.encode())


class Transport:
    """Requests to one server. `patience_s` is how long it goes on asking one that is away or busy."""

    def __init__(self, url: str, token: str | None, *, patience_s: float = PATIENCE_S) -> None:
        self.url = url.rstrip("/")
        self.patience_s = patience_s
        headers = {"User-Agent": f"tuneyard/{_version()}"}
        if token:
            _check_token(token)
            headers["Authorization"] = f"Bearer {token}"
        is_here = urlsplit(url).hostname in _LOOPBACK  # no proxy stands between
        verify = ssl.create_default_context() if url.startswith("https") else False  # making one takes long
        self._http = httpx2.Client(headers=headers, timeout=TIMEOUT_S, trust_env=not is_here, verify=verify)

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def get(self, answer: type[AnswerT], path: str, **query: object) -> AnswerT:
        """What a path holds."""
        return _parsed(answer, self.send(Call("GET", path, query)).content)

    def ask(self, answer: type[AnswerT], call: Call) -> AnswerT:
        """The answer to a request."""
        return _parsed(answer, self.send(call).content)

    def send(self, call: Call) -> httpx2.Response:
        """The response to a request, asked again while that is safe.

        SpecError with all faults of a body that was refused; SweepNotFoundError, ServerError, UnreachableError.
        """
        until, tries = time.monotonic() + self.patience_s, 0
        while True:
            tries += 1
            pause_s = min(_FIRST_PAUSE_S * 2 ** (tries - 1), _LONGEST_PAUSE_S) * _CHANCE.uniform(0.5, 1)
            error: Exception | None = None
            try:
                response = self._once(call)
            except httpx2.TransportError as caught:
                error = caught
                if not (call.is_repeatable or isinstance(caught, httpx2.ConnectError | httpx2.ConnectTimeout)):
                    self._raise_unreachable(caught)
            else:
                if not _asks_again(call, response):
                    return self._checked(response)
                pause_s = _pause(_advised_s(response), pause_s)
            if time.monotonic() + pause_s > until:
                if error is not None:
                    self._raise_unreachable(error)
                return self._checked(response)
            time.sleep(pause_s)

    def has(self, path: str, **query: object) -> bool:
        """Whether the server has what a path names."""
        try:
            self.send(Call("HEAD", path, query))
        except ServerError as error:
            if error.status == 404:  # noqa: PLR2004  # HTTP
                return False
            self.send(Call("GET", "/sweeps", {**query, "limit": 1}))  # is refused in words: such an answer has none
            raise
        return True

    @contextmanager
    def stream(self, path: str, last_id: str | None, **query: object) -> Iterator[Iterator[Message]]:
        """Server-sent events from after `last_id`, until the server or the network ends them."""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        timeout = httpx2.Timeout(TIMEOUT_S, read=SILENCE_S)
        address, params = self._address(path), _query(query)
        with self._http.stream("GET", address, params=params, headers=headers, timeout=timeout) as response:
            if response.status_code != 200:  # noqa: PLR2004  # anything else is a refusal
                response.read()
                self._checked(response)
            yield messages(response.iter_bytes())

    def follow(self, path: str, *, away_s: float = 0.0, **query: object) -> Iterator[Message]:
        """Server-sent events up to `end`: where the stream breaks off, it is taken up again behind the last one.

        It is given up once the server has been away, or too busy, for `patience_s`, or `away_s` where that is more and
        it has been there before.
        """
        patience_s = self.patience_s
        last_id: str | None = None
        away_until: float | None = None
        while True:
            pause_s = _FIRST_PAUSE_S * _CHANCE.uniform(1, 3)  # spreads clients over time
            try:
                with self.stream(path, last_id, **query) as stream:
                    away_until, patience_s = None, max(away_s, self.patience_s)
                    for message in stream:
                        if message.event == END:
                            return
                        last_id = message.id or last_id
                        yield message
            except (httpx2.TransportError, ServerError) as error:
                if isinstance(error, ServerError):
                    if error.status not in (_TOO_MANY, *_PERHAPS_HEARD):
                        raise
                    pause_s = _pause(error.retry_after_s, pause_s)
                away_until = away_until or time.monotonic() + patience_s
                if time.monotonic() + pause_s > away_until:
                    if isinstance(error, ServerError):
                        raise
                    self._raise_unreachable(error)
            time.sleep(pause_s)

    def _once(self, call: Call) -> httpx2.Response:
        headers = {"Idempotency-Key": call.key} if call.key else {}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        content = call.content if call.body is None else json.dumps(call.body).encode()
        query = _query(call.query or {})
        return self._http.request(call.method, self._address(call.path), params=query, headers=headers, content=content)

    def _address(self, path: str) -> str:
        return f"{self.url}{PREFIX}{path}"

    def _checked(self, response: httpx2.Response) -> httpx2.Response:
        """The response itself where it is a good one."""
        if response.is_success:
            return response
        if response.is_redirect:
            msg = f"{self.url} leads elsewhere: {shorten(response.headers.get('Location', ''))}; use that URL instead"
            raise ServerError(msg, response.status_code)
        raise _error(self.url, response)

    def _raise_unreachable(self, error: Exception) -> NoReturn:
        reason = shorten(str(error)) or type(error).__name__
        msg = f"no answer from {self.url} ({reason}); is `tuneyard serve` running there, and is the URL right?"
        raise UnreachableError(msg) from error


def _check_token(token: str) -> None:
    """ContextError where it cannot travel in a header. The library would show it in its error."""
    if not token.isascii() or not token.isprintable() or " " in token:
        msg = "the token holds a blank, a line break or a letter that no token has; copy it again, in one piece"
        raise ContextError(msg)


def messages(chunks: Iterator[bytes]) -> Iterator[Message]:
    """The events in the bytes of a stream, as the HTML standard reads them; comments only keep it open."""
    fields: dict[str, list[str]] = {}
    for line in _lines(chunks):
        if not line:
            if "data" in fields:
                last = {name: values[-1] for name, values in fields.items()}
                yield Message(last.get("id", ""), last.get("event", "message"), "\n".join(fields["data"]))
            fields = {}
            continue
        name, _, value = line.partition(":")
        if name:
            fields.setdefault(name, []).append(value.removeprefix(" "))


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Lines that end in LF or CRLF; the separators of Unicode, at which others split, are text here."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.removesuffix(b"\r").decode("utf-8", "replace") for line in whole)


def _query(given: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None and value != ()}


def _asks_again(call: Call, response: httpx2.Response) -> bool:
    """Whether to send it again: a server that is away and says when it is back did nothing, one that does not may."""
    status = response.status_code
    did_nothing = status == _TOO_MANY or (status == _AWAY and _advised_s(response) is not None)
    return did_nothing or (status in _PERHAPS_HEARD and call.is_repeatable)


def _advised_s(response: httpx2.Response) -> float | None:
    """Seconds that the server asks to wait; None where it says nothing."""
    said = response.headers.get("Retry-After", "")
    return float(said) if said.isdecimal() else None


def _pause(advised_s: float | None, pause_s: float) -> float:
    return pause_s if advised_s is None else min(max(advised_s, pause_s), _LONGEST_ADVISED_S)


def _error(url: str, response: httpx2.Response) -> TuneyardError:
    """What a problem document (RFC 9457) says, or any other answer that is no success."""
    try:
        problem = response.json()
        if not isinstance(problem, dict):
            problem = {}
    except ValueError:
        problem = {}
    status = response.status_code
    detail = str(problem.get("detail") or problem.get("title") or f"{url} answered {status} {response.reason_phrase}")
    detail = shorten(detail, _LONGEST_TEXT)
    faults = [_fault(entry) for entry in problem.get("faults") or [] if isinstance(entry, dict)]
    if faults:
        return SpecError(faults)
    if status == 404 and problem:  # noqa: PLR2004  # HTTP
        return SweepNotFoundError(detail)
    if status == 401:  # noqa: PLR2004  # HTTP
        detail = f"{detail} (log in with: tuneyard login {url})"
    return ServerError(detail, status, _advised_s(response))


def _fault(entry: Mapping[str, Any]) -> Fault:
    given, allowed, nearest = (
        None if entry.get(name) is None else shorten(str(entry[name]), _LONGEST_TEXT)
        for name in ("given", "allowed", "nearest")
    )
    message, path = (shorten(str(entry.get(name, "")), _LONGEST_TEXT) for name in ("message", "path"))
    return Fault(message, path, "", None, given, allowed, nearest)


def _parsed(answer: type[AnswerT], content: bytes) -> AnswerT:
    try:
        return answer.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        msg = f"the server's answer is not understood ({where}: {first['msg']}); this client is tuneyard {_version()}"
        raise ServerError(msg) from error


def _version() -> str:
    try:
        return version("tuneyard")
    except PackageNotFoundError:
        return "0"
