"""Logging in: tokens, contexts, and what a shell completes with them, against real servers on this machine."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.client import Client, contexts
from service.records import Role
from tests.integration.served import Served, served
from tests.integration.synthetic_sweep import SWEEP
from tests.integration.terminal import Command, Terminal


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "open") as running:
        yield running


@pytest.fixture
def tuneyard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Terminal(tmp_path, monkeypatch, capsys).about(None)


def test_the_first_token_is_made_where_the_database_is(tuneyard: Command, tmp_path: Path) -> None:
    made = tuneyard("token", "create", "first", "--admin", "--user", "root@example.org")
    assert (made.code, made.out[:3]) == (0, "ty_")
    with served(tmp_path / "local", "token") as mine:
        found = mine.store.tokens("root@example.org")
        noted = [(entry.action, entry.subject) for entry in mine.store.audit(None)]
    assert [token.roles for token in found] == [{"*": Role.ADMIN}]
    assert noted == [("token create --admin", found[0].id)]


def test_commands_that_need_a_server_say_so(tuneyard: Command) -> None:
    for command in (["queue"], ["cancel", "x"], ["token", "list"]):
        said = tuneyard(*command)
        assert said.code == 2
        assert "tuneyard login URL" in said.err


def test_sweep_ids_are_completed(server: Served, tmp_path: Path) -> None:
    """As bash asks: the words so far, and which of them is being typed."""
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    with Client(server.url) as client:
        sweep_id = client.submit(tmp_path / "sweep.yaml", overrides=["name=finished"]).id
    home = {"XDG_CONFIG_HOME": str(tmp_path), "TUNEYARD_HOME": str(tmp_path)}

    def completed(words: str) -> list[str]:
        asked = {"_TUNEYARD_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        command = [
            sys.executable,
            "-c",
            "import sys; from service.cli.main import main; sys.argv[0] = 'tuneyard'; main()",
        ]
        environment = {**os.environ, **home, **asked}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout.split()

    assert completed(f"tuneyard show --server {server.url} fin") == [sweep_id]
    assert completed(f"tuneyard show --server {server.url} zzz") == []
    assert completed("tuneyard show --server http://127.0.0.1:9 fin") == []


def test_login_and_contexts(tmp_path: Path, tuneyard: Command, server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path / "guarded", "token") as guarded:
        token = guarded.token("ada", {"default": Role.SUBMITTER})
        monkeypatch.setattr(sys, "stdin", io.StringIO("ty_x_wrong\n"))
        wrong = tuneyard("login", guarded.url, "--name", "lab")
        assert wrong.code == 1
        assert "wrong" not in wrong.out + wrong.err
        assert contexts.load().known == {}
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{token}\n"))
        said = tuneyard("login", guarded.url, "--name", "lab")
        assert said.code == 0
        assert token not in said.out + said.err
        assert said.out.startswith(f"ada on {guarded.url}, as context 'lab'")
        made = tuneyard("token", "create", "laptop", "--days", "1")
        assert made.out.startswith("ty_")
        listed = tuneyard("token", "list").out
        assert "laptop" in listed
        assert made.out.strip() not in listed
        assert tuneyard("token", "revoke", made.out.split("_")[1]).code == 0
        assert "revoked" in tuneyard("token", "list").out
    assert tuneyard("login", server.url, "--name", "open").code == 0
    assert f"* open                 {server.url}" in tuneyard("context").out
    assert tuneyard("context", "lab").out == f"commands are about {guarded.url}\n"
    unreachable = tuneyard("list")
    assert unreachable.code == 1
    assert "no answer from" in unreachable.err
    assert tuneyard("context", "local").code == 0
    assert "there are no sweeps under" in tuneyard("list").out
    assert tuneyard("context", "lab", "--remove").code == 0
    assert tuneyard("context", "lab").code == 2
