"""Routes that tell what happens: events and logs, in pages, or live as server-sent events that resume where they were.

A page is the answer unless the client says `Accept: text/event-stream`. A stream ends by itself once a sweep is over
and everything was told; its last message is `end`. Without an id, `progress` says how the sweep stands right now.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Path, Query
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from service.api.guard import Asking, AskingOfSweep, Caller, ProjectQuery, router
from service.api.models import EventPage, LogAnswer
from service.api.rules import PREFIX
from service.api.sweep_views import MAX_CHUNK_BYTES
from service.api.sweeps import SweepText, plain
from service.records import EventRecord, SweepRecord

routes = router()
POLL_S: Final = 0.5
HEARTBEAT_S: Final = 15.0
IDENTIFY_S: Final = 60.0  # for which a stream may outlive the token that it was asked for with
RECONNECT_MS: Final = 2000
EVENT_STREAM: Final = "text/event-stream"
MAX_NUMBER: Final = 2**53
_LIVE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}, "description": "A page, or a stream."}
}
After = Annotated[int, Query(ge=0, le=MAX_NUMBER, description="The number after which to begin.")]
Most = Annotated[int, Query(ge=1, le=1000)]
Accept = Annotated[str, Header(alias="Accept", max_length=500, include_in_schema=False)]
LastId = Annotated[str | None, Header(alias="Last-Event-ID", pattern=r"^\d{1,16}$")]
Offset = Annotated[int, Query(ge=-(2**40), le=2**40, description="In bytes; a negative one counts from the end.")]
Bytes = Annotated[int, Query(ge=1, le=MAX_CHUNK_BYTES, description="How many bytes at most.")]


@dataclass(frozen=True, slots=True)
class _Client:
    """What a client takes, and where it was when it was cut off."""

    accept: Accept = ""
    last_id: LastId = None

    @property
    def wants_stream(self) -> bool:
        return EVENT_STREAM in self.accept

    def start(self, given: int) -> int:
        """Where to begin."""
        return given if self.last_id is None else int(self.last_id)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Which piece of a log."""

    offset: Offset = 0
    limit: Bytes = 65_536


FromClient = Annotated[_Client, Depends()]
OfLog = Annotated[_Piece, Depends()]


@routes.get(f"{PREFIX}/events", response_model=EventPage, responses=_LIVE)
def all_events(
    caller: Asking,
    client: FromClient,
    project: ProjectQuery = None,
    after: After = 0,
    limit: Most = 500,
) -> Any:  # noqa: ANN401  # a page or a stream
    """What happens to all sweeps that the caller may see."""
    projects, start = caller.within(project), client.start(after)

    def read(at: int) -> list[EventRecord]:
        return caller.service.store.events(projects, after=at, limit=limit)

    if client.wants_stream:
        return _CountedStream(caller, _Follower(caller, read).messages(start))
    return _page(read(start), start)


@routes.get(f"{PREFIX}/sweeps/{{sweep}}/events", response_model=EventPage, responses=_LIVE)
def sweep_events(
    sweep: SweepText,
    caller: AskingOfSweep,
    client: FromClient,
    after: After = 0,
    limit: Most = 500,
) -> Any:  # noqa: ANN401  # a page or a stream
    """What happens to one sweep."""
    record, start = caller.sweep(sweep), client.start(after)

    def read(at: int) -> list[EventRecord]:
        return caller.service.store.events(caller.projects, after=at, sweep_id=record.id, limit=limit)

    if client.wants_stream:
        return _CountedStream(caller, _Follower(caller, read, record).messages(start))
    return _page(read(start), start)


@routes.get(f"{PREFIX}/sweeps/{{sweep}}/logs", response_model=LogAnswer, responses=_LIVE)
def sweep_logs(
    sweep: SweepText,
    caller: AskingOfSweep,
    piece: OfLog,
    client: FromClient,
) -> Any:  # noqa: ANN401  # a page or a stream
    """What the sweep's driver writes."""
    return _log(_LogTail(caller, caller.sweep(sweep), None, piece.limit), piece, client)


@routes.get(f"{PREFIX}/sweeps/{{sweep}}/trials/{{number}}/logs", response_model=LogAnswer, responses=_LIVE)
def trial_logs(
    sweep: SweepText,
    number: Annotated[int, Path(ge=0, le=10**7)],
    caller: AskingOfSweep,
    piece: OfLog,
    client: FromClient,
) -> Any:  # noqa: ANN401  # a page or a stream
    """What one trial prints."""
    return _log(_LogTail(caller, caller.sweep(sweep), number, piece.limit), piece, client)


def _page(found: list[EventRecord], start: int) -> dict[str, Any]:
    return {"items": [_event(record) for record in found], "next": found[-1].number if found else start}


def _event(record: EventRecord) -> dict[str, Any]:
    return {**asdict(record), "data": plain(record.data)}


def _log(tail: _LogTail, piece: _Piece, client: _Client) -> Any:  # noqa: ANN401  # a page or a stream
    start = client.start(piece.offset)
    return _CountedStream(tail.caller, tail.messages(start)) if client.wants_stream else tail.read(start)


class _CountedStream(StreamingResponse):
    """A stream that counts while it is sent, and not before: whoever is gone by then would hold its place for ever."""

    def __init__(self, caller: Caller, messages: AsyncIterator[str]) -> None:
        headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
        super().__init__(_begun(messages), media_type=EVENT_STREAM, headers=headers)
        self._caller = caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. ProblemError where there are too many."""
        streams, user = self._caller.streams, self._caller.principal.user
        streams.enter(user)
        try:
            await super().__call__(scope, receive, send)
        finally:
            streams.leave(user)


async def _begun(messages: AsyncIterator[str]) -> AsyncIterator[str]:
    yield f"retry: {RECONNECT_MS}\n\n"
    async for each in messages:
        yield each


@dataclass(slots=True)
class _Pass:
    """Whether a stream may go on: not while the service ends, and not for a caller who does not count any more."""

    caller: Caller
    shown_at: float = field(default_factory=time.monotonic)

    async def is_over(self) -> bool:
        """Whether it has to end; who asks is looked at again every `IDENTIFY_S`."""
        if self.caller.service.draining.is_set():
            return True
        if time.monotonic() - self.shown_at < IDENTIFY_S:
            return False
        self.shown_at = time.monotonic()
        return not await run_in_threadpool(self.caller.still_counts)


def message(kind: str, data: dict[str, Any], number: int | None = None) -> str:
    """One server-sent event; JSON has no line breaks of its own."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


@dataclass(slots=True)
class _Follower:
    """Follows events; with `record`, of one sweep, until that is over."""

    caller: Caller
    read: Callable[[int], list[EventRecord]]
    record: SweepRecord | None = None

    async def messages(self, start: int) -> AsyncIterator[str]:
        at, shown, heard, passed = start, None, time.monotonic(), _Pass(self.caller)
        while True:
            standing, found, progress = await run_in_threadpool(self._look, at)
            for event in found:
                at = event.number
                yield message(event.kind, _event(event), event.number)
            if progress is not None and progress != shown:
                shown = progress
                yield message("progress", progress)
            if standing is not None and not found:
                yield message("end", {"state": standing})
                return
            if found or time.monotonic() - heard > HEARTBEAT_S:
                heard = time.monotonic()
                yield ": still here\n\n"
            if await passed.is_over():
                return
            await asyncio.sleep(POLL_S)

    def _look(self, at: int) -> tuple[str | None, list[EventRecord], dict[str, Any] | None]:
        """(the state, where nothing will follow; events; how the sweep stands)."""
        if self.record is None:
            return None, self.read(at), None
        state = _ending(self.caller, self.record)  # before its events, so that none of them is missed
        return state, self.read(at), plain(self.caller.service.views.progress(self.record)) or None


@dataclass(slots=True)
class _LogTail:
    """Follows a log until its sweep is over."""

    caller: Caller
    record: SweepRecord
    trial: int | None
    limit: int

    def read(self, start: int) -> dict[str, Any]:
        """The next piece, as `LogAnswer`."""
        is_over = _ending(self.caller, self.record) is not None
        views = self.caller.service.views
        found = views.log(self.record, self.trial, offset=start, limit=self.limit, is_over=is_over)
        if found is None:
            return {"text": "", "next_offset": max(0, start), "is_complete": is_over}
        return {"text": found.text, "next_offset": found.next_offset, "is_complete": is_over and found.reaches_end}

    async def messages(self, start: int) -> AsyncIterator[str]:
        at, heard, passed = start, time.monotonic(), _Pass(self.caller)
        while True:
            piece = await run_in_threadpool(self.read, at)
            at = piece["next_offset"]
            if piece["text"]:
                heard = time.monotonic()
                yield message("log", piece, at)
            if piece["is_complete"]:
                yield message("end", {"next_offset": at})
                return
            if time.monotonic() - heard > HEARTBEAT_S:
                heard = time.monotonic()
                yield ": still here\n\n"
            if await passed.is_over():
                return
            if not piece["text"]:
                await asyncio.sleep(POLL_S)


def _ending(caller: Caller, record: SweepRecord) -> str | None:
    """The sweep's state where it is over, `deleted` where it is gone; None while more may come."""
    state = caller.service.store.state(record.id, caller.projects)
    if state is None:
        return "deleted"
    return str(state) if state.is_over else None
