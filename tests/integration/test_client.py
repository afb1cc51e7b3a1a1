"""The client against a real server on this machine: what it sends, what it gets, how it bears a server's absence."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.backend import JobState
from service.client import Client, Submission
from service.client.http import messages
from service.errors import ServerError, SpecError, SweepNotFoundError, UnreachableError
from service.queueing.lifecycle import Cancel, JobSeen
from service.records import Quota, Role, State
from service.shipping.unpacking import package_file
from tests.integration.served import Served, served
from tests.integration.synthetic_sweep import SWEEP


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home"), "token") as running:
        yield running


@pytest.fixture
def client(server: Served) -> Iterator[Client]:
    with Client(server.url, server.token("ada", {"default": Role.SUBMITTER})) as opened:
        yield opened


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(
        "model: {class_path: net.Net, init_args: {width: 16}}\ntrainer: {max_epochs: 3}\n"
    )
    (tmp_path / "net.py").write_text("class Net: ...\n")
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "name: small\nbase: base.yaml\nmetric: {name: val_loss, goal: minimize}\n"
        "parameters: {model.init_args.width: {min: 1, max: 8}}\nbudget: {max_trials: 3}\n"
    )
    return path


def test_a_sweep_arrives_with_its_code(server: Served, client: Client, sweep_file: Path) -> None:
    sent = client.submit(sweep_file, overrides=["budget.max_trials=5", "name=sent"], priority=7)
    assert (sent.state, sent.owner, sent.project, sent.priority) == (State.QUEUED, "ada", "default", 7)
    assert sent.spec["budget"]["max_trials"] == 5
    assert sent.spec["fit"]["model"]["init_args"]["width"] == 16
    assert sent.facts["torch"]
    assert sent.code is not None
    with zipfile.ZipFile(package_file(server.home, sent.code)) as package:
        assert package.read("net.py") == b"class Net: ...\n"
    assert client.sweep("sent") == client.sweep(sent.id[:9]) == client.sweep(sent.id)
    assert client.newest().id == sent.id
    assert [found.id for found in client.sweeps(text="sent")] == [sent.id]


def test_unchanged_code_is_not_sent_again(server: Served, client: Client, sweep_file: Path) -> None:
    first = client.submit(sweep_file)
    assert first.code is not None
    kept = server.home / "packages" / f"{first.code}.zip"
    before = kept.stat().st_mtime_ns
    second = client.submit(sweep_file)
    assert second.id != first.id
    assert (second.code, kept.stat().st_mtime_ns) == (first.code, before)
    (sweep_file.parent / "net.py").write_text("class Net: width = 1\n")
    assert client.submit(sweep_file).code != first.code


def test_sending_twice_makes_one_sweep(client: Client, sweep_file: Path) -> None:
    submission = Submission.of(sweep_file)
    assert client.send(submission).id == client.send(submission).id
    with pytest.raises(ServerError) as caught:
        client.send(dataclasses.replace(submission, priority=3))
    assert caught.value.status == 409


def test_all_faults_come_back_with_the_file(client: Client, sweep_file: Path) -> None:
    submission = Submission.of(sweep_file)
    spec = {**submission.spec, "tracking": {"uri": "http://elsewhere"}, "budget": {"max_trials": -1}, "serch": 1}
    with pytest.raises(SpecError) as caught:
        client.send(dataclasses.replace(submission, spec=spec))
    assert {fault.path for fault in caught.value.faults} >= {"tracking.uri", "budget.max_trials", "serch"}
    assert {fault.file for fault in caught.value.faults} == {str(sweep_file)}


def test_a_sweep_is_steered(client: Client, sweep_file: Path) -> None:
    sweep_id = client.submit(sweep_file, overrides=["name=steered"]).id
    assert client.pause(sweep_id).state is State.PAUSED
    assert client.wait(sweep_id).state is State.PAUSED
    assert client.resume(sweep_id).state is State.QUEUED
    assert client.prioritise(sweep_id, 4).priority == 4
    assert client.extend(sweep_id, 50).spec["budget"]["max_trials"] == 50
    assert sweep_id in [entry.sweep_id for entry in client.queue()]
    forked = client.fork(sweep_id, overrides=["parameters.model.init_args.width.max=4"], name="forked")
    assert (forked.forked_from, forked.spec["search"]["warm_start"]) == (sweep_id, [sweep_id])
    assert forked.code == client.sweep(sweep_id).code
    assert client.cancel(sweep_id).state is State.CANCELLED
    with pytest.raises(ServerError, match=r"extend") as caught:
        client.resume(sweep_id)
    assert caught.value.status == 409
    client.delete(forked.id)
    kinds = [event.kind for event in client.events(sweep_id).items]
    assert kinds[0] == "submitted"
    assert "cancelled" in " ".join(kinds)


def test_what_came_of_a_sweep(server: Served, client: Client, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    first, second = (client.submit(tmp_path / "sweep.yaml", overrides=[f"name={name}"]).id for name in ("one", "two"))
    with pytest.raises(SweepNotFoundError, match="no report"):
        client.report_page(first)
    assert client.best(first).config is None
    server.finishes(first, trials=12)
    server.finishes(second, trials=6)
    assert client.wait(first).state is State.COMPLETED
    found = client.trials(first)
    assert (found.trials_total, len(found.trials)) == (12, 12)
    assert len(client.trials(first, most=3).trials) == 3
    assert b"<html" in client.report_page(first)
    assert client.report(first)["sweep"]["name"] == "one"
    config = client.best(first).config
    assert config is not None
    assert "model:" in config
    compared = client.compare([first, second]).sweeps
    assert [sum(entry.trials.values()) for entry in compared] == [12, 6]
    assert compared[0].best_over_time
    log = "driver: begun\ndriver: è tutto\n"
    assert client.logs(first).text == log
    assert "".join(client.follow_logs(first)) == log
    assert "".join(client.follow_logs(first, offset=-7)) == " tutto\n"
    events = list(client.follow_events(first))
    assert events == client.events(first).items
    assert list(client.follow_events(first, after=events[0].number)) == events[1:]


def test_what_others_have_is_not_there(server: Served, client: Client, sweep_file: Path) -> None:
    server.store.add_project("secret")
    with Client(server.url, server.token("eve", {"secret": Role.ADMIN})) as other:
        hidden = other.submit(sweep_file).id
    with pytest.raises(SweepNotFoundError):
        client.sweep(hidden)
    with pytest.raises(SweepNotFoundError):
        client.sweep("../whoami")
    viewer = Client(server.url, server.token("vic", {"default": Role.VIEWER}))
    with pytest.raises(ServerError, match="this takes submitter") as caught:
        viewer.submit(sweep_file)
    assert caught.value.status == 403
    with (
        Client(server.url, server.token("nil", {})) as stranger,
        pytest.raises(ServerError, match="no role in any project"),
    ):
        stranger.submit(sweep_file)


def test_people_and_their_rights(server: Served) -> None:
    with Client(server.url, server.token("root", {"*": Role.ADMIN})) as admin:
        assert admin.who_am_i().user == "root"
        admin.access.create_project("vision")
        assert "vision" in [entry.name for entry in admin.access.projects()]
        made = admin.access.create_token("ci", user="bot", roles={"vision": Role.SUBMITTER}, expires_in_s=60)
        with Client(server.url, made.token) as bot:
            assert bot.who_am_i().roles == {"vision": Role.SUBMITTER}
            assert [token.id for token in bot.access.tokens()] == [made.id]
            admin.access.revoke_token(made.id)
            with pytest.raises(ServerError, match=r"revoked.*tuneyard login") as caught:
                bot.who_am_i()
            assert caught.value.status == 401
        assert admin.access.set_quota("user", "bot", Quota(cpus=4)).cpus == 4
        assert [quota.name for quota in admin.access.quotas()] == ["bot"]
        assert "POST" in " ".join(entry.action for entry in admin.access.audit().items)
        assert admin.cluster().running_sweeps >= 0


def test_a_server_that_comes_back_is_waited_for(tmp_path: Path, sweep_file: Path) -> None:
    """It is stopped while a client follows a log and another one is about to ask; both go on as if nothing was."""
    heard: list[str] = []
    with served(tmp_path / "home") as first:
        client = Client(first.url, patience_s=120)
        sweep_id = client.submit(sweep_file).id
        first.finishes(sweep_id, trials=3)
        running = client.submit(sweep_file, overrides=["name=other"]).id
        first.runs(running)
        log = first.home / "sweeps" / running / "logs" / "driver.log"
        log.parent.mkdir(parents=True)
        log.write_text("one\n")

        def listen() -> None:
            with Client(first.url, patience_s=120) as other:
                heard.extend(other.follow_logs(running))

        thread = threading.Thread(target=listen)
        thread.start()
        while not heard:
            time.sleep(0.02)
    port = int(first.url.rpartition(":")[2])
    log.write_text("one\ntwo\n")
    answers: list[str] = []
    asker = threading.Thread(target=lambda: answers.append(client.submit(sweep_file, overrides=["name=third"]).id))
    asker.start()
    time.sleep(0.5)
    assert not answers
    with served(tmp_path / "home", port=port) as second:
        asker.join(120)
        assert second.store.sweep(answers[0], None).name == "third"
        second.acts(running, Cancel(), JobSeen(1, JobState.STOPPED))
        thread.join(120)
    assert "".join(heard) == "one\ntwo\n"
    client.close()


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        Client(f"http://127.0.0.1:{port}", patience_s=0.1) as client,
        pytest.raises(UnreachableError, match="tuneyard serve"),
    ):
        client.who_am_i()


def test_a_stream_is_read_as_the_standard_says() -> None:
    text = 'retry: 2000\n\n: still here\n\nid: 7\nevent: log\ndata: {"a":\ndata: "\u2028"}\n\ndata: cut'
    cut = [text.encode()[i : i + 3] for i in range(0, len(text.encode()), 3)]
    found = list(messages(iter(cut)))
    assert [(entry.id, entry.event, entry.data) for entry in found] == [("7", "log", '{"a":\n"\u2028"}')]
