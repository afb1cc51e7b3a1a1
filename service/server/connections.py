"""Connections that nobody can hold open, or fill, before the application hears of a request.

Whoever sends the head of a request without end, or never ends one, is known to nobody yet: uvicorn sets no bound here.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES: Final = 65_536
HEAD_S: Final = 30.0  # for a whole head, from the connection's beginning or the answer before on
_MOST_FRAMING: Final = 8  # bytes for each one of a body that comes in chunks of a single byte


class Connection(HttpToolsProtocol):
    """One connection, with bounds on what comes before a body, between its chunks and behind it."""

    def __init__(self, *given: Any, **named: Any) -> None:  # noqa: ANN401  # uvicorn's own
        super().__init__(*given, **named)
        self._beside_bytes = 0  # of the present request, without its body
        self._body_bytes = 0
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what came, and end the connection where it is too much."""
        self._beside_bytes += len(data)
        super().data_received(data)
        is_too_much = self._beside_bytes > MOST_HEAD_BYTES + _MOST_FRAMING * self._body_bytes
        if is_too_much and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        """Count anew."""
        self._beside_bytes = self._body_bytes = 0
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """Bodies are capped by the application, once it knows whose they are."""
        self._beside_bytes -= len(body)
        self._body_bytes += len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Begin to wait for the next head; what is left of a body that nobody wants any more has as long."""
        super().on_response_complete()
        self._wait()

    def _wait(self) -> None:
        self._stop_waiting()
        self._patience = self.loop.call_later(HEAD_S, self._end_where_idle)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _end_where_idle(self) -> None:
        is_answering = bool(self.cycle) and not self.cycle.response_complete
        if not is_answering and not self.transport.is_closing():
            self.transport.close()
