"""Live events and logs: every one once and in order, also for a client that was cut off in between."""

from __future__ import annotations

import asyncio
import itertools
import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from service.api import events
from service.api.service import Limits
from service.queueing.lifecycle import Cancel, Prioritise
from tests.serving import Served, serving, write_sweep

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(events, "POLL_S", 0.02)
    with serving(tmp_path, limits=Limits(streams_of_a_user=2)) as found:
        yield found


def messages(text: str) -> list[dict[str, Any]]:
    """The server-sent events of a stream, without comments."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append({**fields, "data": json.loads(fields["data"])})
    return found


def on_look(monkeypatch: pytest.MonkeyPatch, place: object, name: str, acts: dict[int, Callable[[], object]]) -> None:
    """Do something just before a stream looks for the n-th time, so that no test depends on time."""
    look, count = getattr(place, name), itertools.count(1)

    def looked(*given: Any, **named: Any) -> Any:  # noqa: ANN401  # whatever the real one takes
        acts.get(next(count), lambda: None)()
        return look(*given, **named)

    monkeypatch.setattr(place, name, looked)


def test_a_stream_ends_with_its_sweep(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep_id = served.submit()["id"]
    store = served.service.store
    on_look(monkeypatch, store, "events", {2: lambda: store.act(sweep_id, None, Cancel(), by="somebody")})
    answer = served.ask("viewer", "GET", f"/sweeps/{sweep_id}/events", headers=STREAM)
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = messages(answer.text)
    assert [m["event"] for m in found] == ["submitted", "cancelled", "end"]
    assert found[-1]["data"] == {"state": "cancelled"}
    assert [int(m["id"]) for m in found[:2]] == [m["data"]["number"] for m in found[:2]]


def test_whoever_was_cut_off_goes_on_where_they_were(served: Served) -> None:
    sweep_id = served.submit()["id"]
    store = served.service.store
    for i in range(20):
        store.act(sweep_id, None, Prioritise(i + 1), by="somebody")
    store.act(sweep_id, None, Cancel(), by="somebody")
    whole = messages(served.ask("viewer", "GET", f"/sweeps/{sweep_id}/events", headers=STREAM).text)
    assert len(whole) == 23
    for cut in range(len(whole) - 1):
        last = {**STREAM, "Last-Event-ID": whole[cut]["id"]} if cut else STREAM
        rest = messages(served.ask("viewer", "GET", f"/sweeps/{sweep_id}/events", headers=last).text)
        assert rest == (whole[cut + 1 :] if cut else whole)


def test_progress_is_told_as_it_changes(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    record = served.submit()
    folder = write_sweep(served.service.home, record, [0.5])
    (folder / "progress.json").write_text(json.dumps({"epochs": 1}))
    store = served.service.store
    acts: dict[int, Callable[[], object]] = {
        3: lambda: (folder / "progress.json").write_text(json.dumps({"epochs": 2})),
        5: lambda: store.act(record["id"], None, Cancel(), by="somebody"),
    }
    on_look(monkeypatch, store, "events", acts)
    found = messages(served.ask("viewer", "GET", f"/sweeps/{record['id']}/events", headers=STREAM).text)
    assert [m["data"]["epochs"] for m in found if m["event"] == "progress"] == [1, 2]
    assert all("id" not in m for m in found if m["event"] == "progress")


def test_a_log_is_followed_to_its_end(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    record = served.submit()
    folder = write_sweep(served.service.home, record, [0.5])
    log = folder / "logs" / "driver.log"
    log.write_text("one\n")
    store = served.service.store

    def more() -> None:
        with log.open("a") as stream:
            stream.write("two\n")

    acts: dict[int, Callable[[], object]] = {
        3: more,
        5: lambda: store.act(record["id"], None, Cancel(), by="somebody"),
    }
    on_look(monkeypatch, served.service.views, "log", acts)
    found = messages(served.ask("viewer", "GET", f"/sweeps/{record['id']}/logs", headers=STREAM).text)
    assert [m["data"]["text"] for m in found if m["event"] == "log"] == ["one\n", "two\n"]
    assert found[-1]["event"] == "end"
    rest = {**STREAM, "Last-Event-ID": found[0]["id"]}
    again = messages(served.ask("viewer", "GET", f"/sweeps/{record['id']}/logs", headers=rest).text)
    assert [m["data"]["text"] for m in again if m["event"] == "log"] == ["two\n"]


def test_draining_ends_streams_and_refuses_what_is_new(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep_id = served.submit()["id"]
    on_look(monkeypatch, served.service.store, "events", {3: served.service.draining.set})
    found = messages(served.ask("viewer", "GET", f"/sweeps/{sweep_id}/events", headers=STREAM).text)
    assert [m["event"] for m in found] == ["submitted"]
    refused = served.ask("viewer", "GET", "/sweeps")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert served.client.get("/healthz").status_code == 200
    assert served.client.get("/readyz").json()["status"] == "draining"


def test_nobody_holds_more_streams_than_allowed(served: Served) -> None:
    sweep_id = served.submit()["id"]
    statuses: queue.SimpleQueue[int] = queue.SimpleQueue()

    def follow() -> None:
        statuses.put(served.ask("viewer", "GET", f"/sweeps/{sweep_id}/events", headers=STREAM).status_code)

    threads = [threading.Thread(target=follow) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert statuses.get(timeout=60) == 429, "the other two stay open"
    served.service.draining.set()
    assert [statuses.get(timeout=60), statuses.get(timeout=60)] == [200, 200]
    for thread in threads:
        thread.join()
    assert served.app.state.streams.count == 0


@pytest.mark.parametrize("path", ["/events", "/sweeps/{id}/events", "/sweeps/{id}/logs"])
def test_a_stream_ends_with_its_token(served: Served, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(events, "IDENTIFY_S", 0.0)
    record = served.submit()
    (write_sweep(served.service.home, record, [0.5]) / "logs" / "driver.log").write_text("one\n")
    store = served.service.store
    (token,) = store.tokens("viewer")

    def revoke() -> None:
        store.revoke_token(token.id)
        served.service.changed()

    place, name = (served.service.views, "log") if path.endswith("logs") else (store, "events")
    on_look(monkeypatch, place, name, {3: revoke})
    answer = served.ask("viewer", "GET", path.format(id=record["id"]), headers=STREAM)
    assert answer.status_code == 200
    assert len(messages(answer.text)) == 1
    assert served.ask("viewer", "GET", "/whoami").status_code == 401


def test_who_has_gone_before_the_stream_begins_holds_no_place(served: Served) -> None:
    sweep_id = served.submit()["id"]

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(_: object) -> None:
        raise OSError("the client has gone")  # noqa: EM101, TRY003  # as the server says it

    async def ask() -> None:
        headers = [(b"accept", b"text/event-stream"), (b"authorization", f"Bearer {served.tokens['viewer']}".encode())]
        scope = {
            "type": "http", "method": "GET", "path": f"/api/v1/sweeps/{sweep_id}/events", "query_string": b"",
            "headers": headers, "client": ("127.0.0.1", 1), "http_version": "1.1", "scheme": "http",
        }  # fmt: skip
        with suppress(OSError):
            await served.app(scope, receive, send)

    for _ in range(5):
        asyncio.run(ask())
    assert served.app.state.streams.count == 0
