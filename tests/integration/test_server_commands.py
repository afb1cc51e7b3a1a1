"""The command line against a real server on this machine, as people type it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.backend import JobState
from service.api import last_seen
from service.cli import remote_sweeps
from service.queueing.lifecycle import JobLost, JobSeen, Pause
from service.records import Quota
from service.sweeps.folders import create, new_id
from service.tuning.sweep_folder import Job
from tests.integration.served import Served, served
from tests.integration.synthetic_sweep import SWEEP, Synthetic, records, write_ledger
from tests.integration.terminal import Command, Terminal, printed
from tests.pretend_cluster import PretendCluster
from tests.waiting import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(scope="module")
def finished(server: Served) -> str:
    """The id of a sweep that has run on the server."""
    from service.client import Client

    folder = server.home.parent / "finished"
    folder.mkdir(exist_ok=True)
    (folder / "sweep.yaml").write_text(SWEEP)
    with Client(server.url) as client:
        sweep_id = client.submit(folder / "sweep.yaml", overrides=["name=finished"]).id
    server.finishes(sweep_id, trials=12)
    return sweep_id


@pytest.fixture
def tuneyard(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Terminal(tmp_path, monkeypatch, capsys).about(server.url)


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    path = tmp_path / "code" / "sweep.yaml"
    path.parent.mkdir()
    path.write_text(SWEEP)
    (path.parent / "net.py").write_text("")
    return path


def submitted(server: Served, name: str) -> str:
    """The id of the sweep of that name, as soon as it is there."""
    found: list[str] = []

    def is_there() -> bool:
        found[:] = [record.id for record in server.store.sweeps(None, name=name)[0]]
        return bool(found)

    until(is_there)
    return found[0]


def test_submit_prints_the_id_for_scripts_and_the_rest_for_people(
    server: Served, tuneyard: Command, sweep_file: Path
) -> None:
    (sweep_file.parent / "data").symlink_to("/")
    said = tuneyard("submit", str(sweep_file), "--name", "plain", "--priority", "5", "--set", "budget.max_trials=7")
    sweep_id = submitted(server, "plain")
    assert (said.code, said.out) == (0, f"{sweep_id}\n")
    assert f"watch it with: tuneyard watch {sweep_id}" in said.err
    assert "stay behind: data" in said.err
    record = server.store.sweep(sweep_id, None)
    assert (record.priority, record.spec["budget"]["max_trials"]) == (5, 7)


def test_why_a_sweep_waits(server: Served, tuneyard: Command, sweep_file: Path) -> None:
    server.store.set_quota("user", "local", Quota(running_sweeps=1))
    server.runs(tuneyard("submit", str(sweep_file), "--name", "first").out.strip())
    said = tuneyard("submit", str(sweep_file), "--name", "second")
    server.store.set_quota("user", "local", Quota())
    assert re.search(r"number \d+ in the queue: local may run 1 sweep at once", said.err)
    assert "CPUs" in tuneyard("queue").out


def test_who_follows_a_sweep_is_told_why_it_waits_whenever_that_changes(
    tmp_path: Path, sweep_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(remote_sweeps, "STANDING_S", 0.1)
    monkeypatch.setattr(last_seen, "PATIENCE_S", 60.0)  # a cluster that takes long to answer is other news
    cluster = PretendCluster(tmp_path, is_away=True)
    home = tmp_path / "home"
    home.mkdir()
    with served(home, backend=cluster) as server:
        tuneyard = Terminal(tmp_path, monkeypatch, capsys).about(server.url)

        def play() -> None:
            sweep_id = submitted(server, "waiting")
            until(lambda: "the cluster does not answer\n" in printed())
            cluster.is_away = False
            until(lambda: ", in the queue\n" in printed())
            attempt = server.runs(sweep_id).attempt
            server.acts(sweep_id, JobLost(attempt, message="its node is gone"))
            until(lambda: printed().count("its node is gone") > 1)  # the seconds until then count down
            server.finishes(sweep_id, trials=12)

        thread = threading.Thread(target=play)
        thread.start()
        said = tuneyard("submit", str(sweep_file), "--name", "waiting", "--follow")
        thread.join()
    told = re.findall(r"waiting-\S+ on \S+, (.*)", said.out)
    away, waits, lost, again = told
    assert away == "in the queue: the cluster cannot be reached: the cluster does not answer"
    assert lost.startswith("number 1 in the queue: its driver was lost: its node is gone; the next one is due in")
    assert (waits, again) == ("in the queue", "in the queue: its driver was lost: its node is gone")
    assert said.code == 0


def test_submit_and_follow_shows_what_run_shows(server: Served, tuneyard: Command, sweep_file: Path) -> None:
    def play() -> None:
        sweep_id = submitted(server, "followed")
        until(lambda: "\nqueued · " in printed())
        server.finishes(sweep_id, trials=12)

    thread = threading.Thread(target=play)
    thread.start()
    said = tuneyard("submit", str(sweep_file), "--name", "followed", "--follow")
    thread.join()
    sweep_id = submitted(server, "followed")
    assert said.code == 0
    assert said.out.startswith(f"{sweep_id} on {server.url}")
    assert "\nqueued · 0 trials · 0 running\n" in said.out
    assert f"{sweep_id} completed (all trials are over): 12 trials (12 completed), 99 epochs, 12 s" in said.out
    assert "val_acc 0.97 (maximize)" in said.out
    assert f"tuneyard report {sweep_id} --open" in said.out


@pytest.mark.parametrize(("state", "code"), [("failed", 1), ("refused", 2)])
def test_wait_gives_the_exit_codes_of_run(
    server: Served, tuneyard: Command, sweep_file: Path, state: str, code: int
) -> None:
    def play() -> None:
        sweep_id = submitted(server, state)
        faults = [{"message": "has no such argument", "path": "parameters.model.init_args.width"}]
        progress = {"state": state, "is_final": True, "reason": "it broke", "faults": faults}
        shown = progress if state == "refused" else {**progress, "faults": None}
        server.runs(sweep_id)
        server.acts(sweep_id, JobSeen(1, JobState.FAILED, shown))

    thread = threading.Thread(target=play)
    thread.start()
    said = tuneyard("submit", str(sweep_file), "--name", state, "--wait")
    thread.join()
    assert said.code == code
    if state == "failed":
        assert "failed (it broke)" in said.out
    else:
        assert f"{sweep_file}: parameters.model.init_args.width: has no such argument" in said.err


def test_watch_as_json_and_what_ends_elsewhere(tuneyard: Command, sweep_file: Path) -> None:
    sweep_id = tuneyard("submit", str(sweep_file), "--name", "watched").out.strip()
    assert "is cancelled" in tuneyard("cancel", sweep_id).out
    said = tuneyard("watch", sweep_id, "--json")
    first, last = map(json.loads, said.out.splitlines())
    assert (said.code, first["event"], last["event"], last["state"]) == (3, "progress", "end", "cancelled")


def test_ctrl_c_only_ends_the_watching(server: Served, sweep_file: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "service.cli", "submit", str(sweep_file), "--name", "left", "--follow"]
    command += ["--server", server.url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    while "queued" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    sweep_id = submitted(server, "left")
    assert process.returncode == 130
    assert f"{sweep_id} goes on; look again with: tuneyard watch {sweep_id}" in err
    assert "Traceback" not in err
    assert str(server.store.sweep(sweep_id, None).state) == "queued"


def test_faults_of_the_server_name_the_file(tuneyard: Command, sweep_file: Path) -> None:
    said = tuneyard(
        "submit", str(sweep_file), "--set", "tracking.uri=http://elsewhere", "--set", "search.warm_start=gone"
    )
    assert said.code == 2
    assert f"{sweep_file}: tracking.uri: the operator" in said.err
    assert f"{sweep_file}: search.warm_start" in said.err


def test_code_that_cannot_travel(tuneyard: Command, sweep_file: Path) -> None:
    (sweep_file.parent / "cluster.py").write_text("")
    said = tuneyard("submit", str(sweep_file))
    assert said.code == 2
    assert "has the name of one of Tuneyard's" in said.err


def test_list_and_show_are_those_of_this_machine(finished: str, tuneyard: Command) -> None:
    said = tuneyard("list")
    row = next(line for line in said.out.splitlines() if line.startswith(finished))
    assert row.split()[1:5] == ["completed", "12/60", "val_acc", "0.97"]
    assert "there are no sweeps under" in tuneyard("list", "--server", "local").out
    assert finished in tuneyard("list", "--mine", "--state", "completed").out
    assert finished not in tuneyard("list", "--state", "running", "--state", "failed").out
    assert json.loads(tuneyard("list", "--json").out)[0].keys() > {"sweep_id", "state", "best", "owner"}

    shown = tuneyard("show", "finished", "--trials", "5")
    assert shown.code == 0
    assert "and 7 more; show them with --trials 12" in shown.out
    assert len(json.loads(tuneyard("show", finished, "--json").out)["trials"]) == 12
    assert "share" in tuneyard("show", finished, "--importance").out


def test_what_came_of_it(finished: str, tuneyard: Command, tmp_path: Path) -> None:
    assert tuneyard("logs", finished).out == tuneyard("logs", finished, "-f").out == "driver: begun\ndriver: è tutto\n"
    assert "class_path:" in tuneyard("best", finished).out
    page = tmp_path / "page.html"
    assert tuneyard("report", finished, "--output", str(page)).out.strip() == str(page)
    assert "<html" in page.read_text()


def test_fork_extend_pause_queue_delete(server: Served, tuneyard: Command, finished: str) -> None:
    changes = ("--set", "parameters.model.init_args.width={values: [8]}", "--name", "narrow")
    forked = tuneyard("fork", finished, *changes).out.strip()
    record = server.store.sweep(forked, None)
    assert (record.forked_from, record.spec["search"]["warm_start"]) == (finished, [finished])
    assert tuneyard("extend", forked, "--max-trials", "80", "--detach").out.strip() == forked
    assert server.store.sweep(forked, None).spec["budget"]["max_trials"] == 80
    said = tuneyard("queue")
    assert forked in said.out
    assert json.loads(tuneyard("queue", "--json").out)["queue"]
    assert "pauses" in tuneyard("pause", forked).out
    assert tuneyard("resume", forked, "--detach").out.strip() == forked
    assert "is being removed" in tuneyard("delete", forked, "--yes").out


def test_compare(server: Served, tuneyard: Command, finished: str, sweep_file: Path, tmp_path: Path) -> None:
    other = tuneyard("submit", str(sweep_file), "--name", "other").out.strip()
    server.finishes(other, trials=20)
    for by in ("trials", "time"):
        said = tuneyard("compare", "finished", "other", "--by", by)
        assert said.code == 0
        assert "best val_acc so far (maximize)" in said.out
        assert {"●", "▲"} <= set(said.out)
    assert [entry["sweep_id"] for entry in json.loads(tuneyard("compare", finished, other, "--json").out)] == [
        finished,
        other,
    ]
    page = tmp_path / "both.html"
    tuneyard("compare", finished, other, "--output", str(page))
    assert page.read_text().count("<polyline") == 2
    assert tuneyard("compare", finished).code == 2


def test_compare_on_this_machine(tuneyard: Command, tmp_path: Path) -> None:
    from service.spec.sweep_spec import parse_sweep

    spec = parse_sweep(SWEEP, file="sweep.yaml", root=tmp_path).to_dict()
    for name, trials in (("left", 8), ("right", 20)):
        job = Job(new_id(name), {**spec, "name": name})
        write_ledger(create(tmp_path / "local", job, {}).folder, records(spec, job.sweep_id, Synthetic(trials=trials)))
    said = tuneyard("compare", "left", "right", "--server", "local")
    assert said.code == 0
    assert "best val_acc so far" in said.out


def test_what_others_have_written_does_not_steer_the_terminal(
    server: Served, tuneyard: Command, sweep_file: Path
) -> None:
    sweep_id = tuneyard("submit", str(sweep_file), "--name", "hostile").out.strip()
    evil = "\x1b]0;owned\x07"
    best = {"trial": 0, "epoch": 1, "value": 1.0, "params": {evil: evil}}
    server.runs(
        sweep_id, {"sweep_id": evil, "reason": evil, "best": best, "metric": {"name": evil, "goal": "minimize"}}
    )
    server.acts(sweep_id, Pause(), JobSeen(1, JobState.STOPPED))
    for command in ("watch", "list", "show", "queue"):
        said = tuneyard(*([command, sweep_id] if command in ("watch", "show") else [command]))
        assert "\x1b" not in said.out + said.err
    assert "\x1b" not in tuneyard("compare", sweep_id, "finished").out


def test_what_is_not_there(tuneyard: Command) -> None:
    said = tuneyard("show", "nothing-like-it")
    assert said.code == 2
    assert "nothing-like-it" in said.err
    assert "Traceback" not in said.err
