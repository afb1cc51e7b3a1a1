"""What uvicorn is given to stand before the application: bounds on the heads of requests, in bytes and in seconds."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI, Request

from service.server import connections
from service.server.serve import server_config

BEGUN = b"GET /size HTTP/1.1\r\nHost: here\r\n"
WHOLE = BEGUN + b"\r\n"
SHORT_S, PATIENCE_S = 0.5, 120.0


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """A server that has little patience once it has been asked for `WHOLE`, so that no test has to be quick."""
    monkeypatch.setattr(connections, "HEAD_S", PATIENCE_S)
    app = FastAPI()

    @app.post("/size")
    async def size(request: Request) -> int:
        return len(await request.body())

    @app.get("/size")
    async def none() -> int:
        monkeypatch.setattr(connections, "HEAD_S", SHORT_S)
        return 0

    server = uvicorn.Server(server_config(app, 1.0))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield listening.getsockname()
    server.should_exit = True
    thread.join()
    listening.close()


def _told(address: tuple[str, int], *sent: bytes) -> bytes:
    """What is answered before the connection is ended from the other side, which must not take long."""
    said = b""
    with socket.create_connection(address, timeout=PATIENCE_S) as connection:
        try:
            for part in sent:
                connection.sendall(part)
            while piece := connection.recv(65_536):
                said += piece
        except (ConnectionResetError, BrokenPipeError):
            pass  # ended while there was more to come
    return said


@pytest.mark.parametrize(
    "endless",
    [
        (BEGUN + b"X: ", b"a" * 2**20 * 4),
        (BEGUN, b"a: b\r\n" * 700_000),
        (b"GET /" + b"a" * 2**20 * 4,),
        (b"POST /size HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 700_000),
        (b"POST /size HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 2**20 * 4,),
    ],
    ids=["one header", "many headers", "the path", "behind the body", "of a chunk"],
)
def test_a_head_without_end_is_refused(address: tuple[str, int], endless: tuple[bytes, ...]) -> None:
    said = _told(address, *endless)
    assert said == b"" or said.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("begun", [b"", BEGUN, WHOLE, WHOLE + BEGUN])
def test_nobody_holds_a_connection_with_half_a_request(
    address: tuple[str, int], begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not begun.startswith(WHOLE):
        monkeypatch.setattr(connections, "HEAD_S", SHORT_S)
    assert _told(address, begun).count(b"HTTP/1.1 200") == begun.count(b"\r\n\r\n")


def test_large_and_finely_chunked_bodies_arrive(address: tuple[str, int]) -> None:
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE_S)
    for body, size in ((b"x" * 2**22, 2**22), ((b"x" for _ in range(50_000)), 50_000)):
        connection.request("POST", "/size", body, {"Cookie": "c" * 10_000})
        assert int(connection.getresponse().read()) == size
    connection.close()


def test_a_slow_body_arrives(address: tuple[str, int]) -> None:
    said, head = b"", b"POST /size HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\nCookie: " + b"c" * 10_000
    with socket.create_connection(address, timeout=PATIENCE_S) as connection:
        connection.sendall(WHOLE + head + b"\r\n\r\n")  # at once: the head is there before it could be late
        for _ in range(4):
            time.sleep(0.3)  # in all longer than a head may take
            connection.sendall(b"x")
        while not (said.count(b"HTTP/1.1 200") == 2 and said.endswith(b"\r\n\r\n4")):
            piece = connection.recv(65_536)
            assert piece, said
            said += piece
