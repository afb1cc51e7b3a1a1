"""The operator's controls as people type them, against a real server on this machine that wants tokens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.client import Client
from service.records import Quota, Role
from tests.integration.served import Served, served
from tests.integration.synthetic_sweep import SWEEP
from tests.integration.terminal import Command, Terminal


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home"), "token") as running:
        yield running


@pytest.fixture
def tuneyard(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    run = Terminal(tmp_path, monkeypatch, capsys).about(server.url)
    monkeypatch.setenv("TUNEYARD_TOKEN", server.token("root", {"*": Role.ADMIN}))
    return run


def test_quotas_are_changed_one_limit_at_a_time(server: Served, tuneyard: Command) -> None:
    assert "nothing is limited" in tuneyard("quota", "show", "user").out
    every_limit = (
        "--running-sweeps", "2", "--concurrent-trials", "8", "--cpus", "16", "--gpus", "0.5", "--trial-hours", "500",
    )  # fmt: skip
    said = tuneyard("quota", "set", "user", "ada@example.org", *every_limit)
    assert said.out == (
        "user ada@example.org: 2 running sweeps, 8 trials at once, 16 CPUs, 0.5 GPUs, 500 trial-hours in all\n"
    )
    tuneyard("quota", "set", "user", "ada@example.org", "--gpus", "none", "--cpus", "4")
    assert server.store.quotas()["user", "ada@example.org"] == Quota(2, 8, 4.0, None, 500.0)
    tuneyard("quota", "set", "user", "*", "--cpus", "1")
    assert tuneyard("quota", "show", "user", "bob").out.split() == ["user", "*", "1", "CPUs"]
    assert "no quota of its own" in tuneyard("quota", "remove", "user", "*").out
    assert tuneyard("quota", "remove", "user", "*").code == 2
    shown = json.loads(tuneyard("quota", "show", "user", "ada@example.org", "--json").out)
    assert [(quota["name"], quota["cpus"], quota["gpus"]) for quota in shown] == [("ada@example.org", 4.0, None)]


def test_what_is_no_limit_is_told_at_once(server: Served, tuneyard: Command) -> None:
    said = tuneyard("quota", "set", "project", "default", "--running-sweeps", "1.5", "--cpus", "nan", "--gpus", "1")
    assert said.code == 2
    assert "--running-sweeps: must be a whole number" in said.err
    assert "--cpus: must be a number, 0 or more, or none" in said.err
    assert tuneyard("quota", "set", "project", "default").code == 2
    in_one = tuneyard("quota", "set", "user", "ada", "--cpus", "1", "--project", "default")
    assert (in_one.code, "--project" in in_one.err) == (2, True), "it would count everywhere"
    assert ("project", "default") not in server.store.quotas()


def test_projects(server: Served, tuneyard: Command) -> None:
    assert tuneyard("project", "create", "vision").out == "vision\n"
    assert tuneyard("project", "list").out.splitlines()[-1].split() == ["vision", "admin"]
    assert {"name": "vision", "role": "admin"} in json.loads(tuneyard("project", "list", "--json").out)
    assert "vision" in server.store.projects()


def test_webhooks_of_a_project(server: Served, tuneyard: Command) -> None:
    server.store.add_project("hooked")
    refused = tuneyard("webhook", "add", "https://192.0.2.7/x", "--on", "finish")
    assert (refused.code, "did you mean 'finished'?" in refused.err) == (2, True)
    made = tuneyard("webhook", "add", "https://1.1.1.1/hook", "--on", "improved", "--project", "hooked", "--json")
    hook = json.loads(made.out)
    assert (hook["kinds"], hook["project"], len(hook["secret"]) > 30) == (["improved"], "hooked", True)
    listed = tuneyard("webhook", "list", "--project", "hooked").out
    assert hook["id"] in listed
    assert hook["secret"] not in listed
    assert tuneyard("webhook", "remove", hook["id"], "--project", "hooked").code == 0
    assert "nobody is told" in tuneyard("webhook", "list", "--project", "hooked").out
    secret = tuneyard("webhook", "add", "https://1.1.1.1/hook")
    assert "on finished, failed" in secret.err
    assert server.store.webhooks("default")[0].secret == secret.out.strip()


def test_the_audit_log_begins_with_the_newest(tuneyard: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "second", "third"):
        tuneyard("project", "create", name)
    monkeypatch.setattr("service.client.access.AUDIT_PAGE", 1)
    lines = tuneyard("audit", "--most", "2").out.splitlines()
    assert [line.split("  ")[-2].split()[-1] for line in lines] == ["third", "second"]
    numbers = [entry["number"] for entry in json.loads(tuneyard("audit", "--json").out)]
    assert numbers == sorted(numbers, reverse=True)


def test_a_queued_sweep_gets_another_priority(server: Served, tuneyard: Command, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    sweep_id = tuneyard("submit", str(tmp_path / "sweep.yaml"), "--name", "urgent").out.strip()
    assert tuneyard("prioritize", "urgent", "50").out == f"{sweep_id} has priority 50\n"
    assert tuneyard("prioritize", "urgent", "-10").code == 0
    assert server.store.sweep(sweep_id, None).priority == -10
    assert tuneyard("prioritize", "urgent", "2000").code == 2


def test_others_than_operators_are_refused(server: Served, tuneyard: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEYARD_TOKEN", server.token("eve", {"default": Role.SUBMITTER}))
    for command in (
        ("quota", "set", "user", "eve", "--cpus", "none"), ("project", "create", "mine"),
        ("webhook", "list"), ("audit",),
    ):  # fmt: skip
        said = tuneyard(*command)
        assert said.code == 1, command
        assert "admin" in said.err


def test_names_are_completed(server: Served, tmp_path: Path) -> None:
    token = server.token("root", {"*": Role.ADMIN})
    server.store.add_project("completed")
    with Client(server.url, token) as client:
        client.access.set_quota("user", "grace", Quota(cpus=1))
        hook = client.access.add_webhook("https://1.1.1.1/h", ["failed"]).id
    home = {"XDG_CONFIG_HOME": str(tmp_path), "TUNEYARD_SERVER": server.url, "TUNEYARD_TOKEN": token}

    def completed(words: str) -> list[str]:
        asked = {"_TUNEYARD_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        code = "import sys; from service.cli.main import main; sys.argv[0] = 'tuneyard'; main()"
        environment = {**os.environ, **home, **asked}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
        )
        return done.stdout.split()

    assert completed("tuneyard quota set project comp") == ["completed"]
    assert completed("tuneyard quota set user gr") == ["grace"]
    assert completed(f"tuneyard webhook remove {hook[:6]}") == [hook]
    assert completed("tuneyard webhook add https://x --on fi") == ["finished"]
