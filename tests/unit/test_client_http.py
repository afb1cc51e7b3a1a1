"""What the client sends again, and what it does not: a server tells it, answer by answer, how things stand."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service.api.problems import problem_of
from service.client import Client
from service.client.http import Call, Transport
from service.errors import ServerError
from service.store import StoreUnavailableError, UncertainWriteError

Answer = tuple[int, dict[str, str]]
AWAY: Answer = (503, {})
BACK_SOON: Answer = (503, {"Retry-After": "0"})
TOO_MANY: Answer = (429, {})
DONE: Answer = (200, {})


@dataclass
class Scripted:
    """A server that gives `answers` one after the other, and the last one for ever."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    asked: int = 0
    paths: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Scripted]:
    found = Scripted()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        do_DELETE = do_POST  # noqa: N815  # as its base looks for it

        def do_GET(self) -> None:
            found.paths.append(self.path)
            status, headers = found.answers[min(found.asked, len(found.answers) - 1)]
            found.asked += 1
            self.send_response(status)
            for name, value in {"Content-Length": "2", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{http.server_port}"
    yield found
    http.shutdown()
    http.server_close()
    thread.join()


PLAIN, KEYED, READ = Call("POST", "/tokens", body={}), Call("POST", "/sweeps", body={}, key="k"), Call("GET", "/tokens")


@pytest.mark.parametrize(
    ("call", "answer", "asked"),
    [
        (PLAIN, AWAY, 1),
        (PLAIN, (502, {}), 1),
        (PLAIN, BACK_SOON, 2),
        (PLAIN, TOO_MANY, 2),
        (KEYED, AWAY, 2),
        (KEYED, (504, {}), 2),
        (READ, AWAY, 2),
    ],
)
def test_a_creation_is_sent_again_only_if_it_was_surely_not_taken(
    server: Scripted, call: Call, answer: Answer, asked: int
) -> None:
    server.answers = [answer, DONE]
    http = Transport(server.url, None)
    if asked == 1:
        with pytest.raises(ServerError):
            http.send(call)
    else:
        assert http.send(call).status_code == 200
    assert server.asked == asked
    http.close()


def test_a_client_leaves_the_random_numbers_of_its_program_alone(server: Scripted) -> None:
    server.answers, before = [AWAY, DONE], random.getstate()
    http = Transport(server.url, None)
    assert http.send(READ).status_code == 200
    assert server.asked == 2
    assert random.getstate() == before
    http.close()


def test_the_server_says_when_to_come_back_only_for_what_it_did_not_do() -> None:
    certain, uncertain = problem_of(StoreUnavailableError("away")), problem_of(UncertainWriteError("broke off"))
    assert certain is not None
    assert uncertain is not None
    assert (certain.status_code, certain.headers) == (503, {"Retry-After": "2"})
    assert (uncertain.status_code, uncertain.headers) == (503, {})


@pytest.mark.parametrize("answer", [AWAY, TOO_MANY, (502, {})])
def test_what_is_followed_is_given_up_once_the_server_has_been_away_for_long(server: Scripted, answer: Answer) -> None:
    server.answers = [answer]
    http = Transport(server.url, None, patience_s=0.7)
    with pytest.raises(ServerError) as refused:
        next(http.follow("/events"))
    assert refused.value.status == answer[0]
    assert server.asked > 1
    http.close()


def test_what_is_followed_waits_for_as_long_as_it_is_told_to(server: Scripted) -> None:
    server.answers = [(429, {"Retry-After": "3600"})]
    http = Transport(server.url, None)
    with pytest.raises(ServerError, match="429"):
        next(http.follow("/events"))
    assert server.asked == 1, "an hour is longer than anybody waits"
    http.close()


def test_what_has_been_followed_outlasts_a_restart_of_the_server(server: Scripted) -> None:
    """Streams that break off at once, and then a server that is away for longer than a command waits at first."""
    http = Transport(server.url, None, patience_s=0.1)
    server.answers = [(200, {}), *[AWAY] * 6, (404, {})]
    with pytest.raises(ServerError) as over:
        next(http.follow("/events", away_s=60.0))
    assert (over.value.status, server.asked) == (404, 8)
    server.answers, server.asked = [AWAY], 0
    with pytest.raises(ServerError, match="503"):
        next(http.follow("/events", away_s=60.0))
    http.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.sweep("digits"),
        lambda client: client.cancel("digits"),
        lambda client: client.cancel("digits", force=True),
        lambda client: client.pause("digits"),
        lambda client: client.resume("digits"),
        lambda client: client.extend("digits", 9),
        lambda client: client.prioritise("digits", 9),
        lambda client: client.delete("digits"),
        lambda client: client.fork("digits"),
        lambda client: client.trials("digits"),
        lambda client: client.best("digits"),
        lambda client: client.report("digits"),
        lambda client: client.logs("digits"),
        lambda client: client.events("digits"),
    ],
)
def test_a_sweep_is_looked_for_in_the_clients_project(server: Scripted, call: Callable[[Client], object]) -> None:
    server.answers = [DONE]
    with Client(server.url, project="vision") as client, contextlib.suppress(ServerError):  # the answer is no sweep
        call(client)
    assert [path.partition("?")[2].split("&")[0] for path in server.paths] == ["project=vision"]
