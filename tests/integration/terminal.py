"""The command line in a test's own process, for speed: errors, exit codes and output come as in a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.cli import main


@dataclass
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Said]


def printed() -> str:
    """What the command that runs has printed so far, for another thread that plays the server's part."""
    assert isinstance(sys.stdout, io.TextIOWrapper)
    assert isinstance(sys.stdout.buffer, io.BytesIO)
    return sys.stdout.buffer.getvalue().decode()


@dataclass(frozen=True)
class Terminal:
    """A person's terminal with a data folder and contexts of its own."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def about(self, server: str | None) -> Command:
        """Commands about a server; None for the chosen context."""
        self.monkeypatch.setenv("XDG_CONFIG_HOME", str(self.folder / "config"))
        self.monkeypatch.setenv("TUNEYARD_HOME", str(self.folder / "local"))
        self.monkeypatch.delenv("TUNEYARD_TOKEN", raising=False)
        self.monkeypatch.delenv("TUNEYARD_SERVER", raising=False)
        if server is not None:
            self.monkeypatch.setenv("TUNEYARD_SERVER", server)
        return self.run

    def run(self, *arguments: str) -> Said:
        """Run one command to its end."""
        self.capsys.readouterr()
        self.monkeypatch.setattr(sys, "argv", ["tuneyard", *arguments])
        code = 0
        try:
            main.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        said = self.capsys.readouterr()
        return Said(code, said.out, said.err)
