"""What all arenas of one process share: an MLflow server, which takes too long to start for every sweep anew."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.integration.mlflow_peer import mlflow_server


@dataclass
class House:
    """Starts the server when it is first asked for, and ends it on leaving."""

    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _server: tuple[str, Path] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)  # two arenas may be the first to ask

    def server(self) -> tuple[str, Path]:
        """(address, folder with the database) of the MLflow server."""
        with self._lock:
            if self._server is None:
                home = Path(tempfile.mkdtemp(prefix="tuneyard-chaos-mlflow-"))
                self._stack.callback(shutil.rmtree, home, ignore_errors=True)
                self._server = self._stack.enter_context(mlflow_server(home)), home
            return self._server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
