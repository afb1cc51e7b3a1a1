"""Two people and five sweeps on a Ray cluster of several raylets: quotas, priorities, preemption, and MLflow's record.

`python -m tests.integration.test_shared_cluster` is the long form. It does so with one service on SQLite, and again
with two on PostgreSQL, of which now this one is killed with -9 and now that one, every ten seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pytest

from service.api.models import EventAnswer, SweepSummary
from service.client import Client, Submission
from service.errors import ServerError
from service.records import Quota, Role, State
from tests import postgresql
from tests.databases import new_database
from tests.integration.raylets import Raylets, raylets
from tests.integration.witness import Witness, check_mlflow, overlap, pauses, spans
from tests.served import Served

RAYLETS = 3
LONG_KILL_S, SHORT_KILL_S = 10.0, 7.0
TRIALS, EPOCHS = 8, 6
LIMIT_S = 1500.0
USERS = ("ada", "bob")
QUOTA = Quota(running_sweeps=2, concurrent_trials=2)
SLOW = {  # epochs that take some tenths of a second, so that something can come between
    "digits": ("width=32", "depth=4", "kernel_size=3"),
    "tabular": ("depth=4", "width=128"),
}
BATCH = {"digits": 32, "tabular": 4}
SLOWED, SLOWED_S = "tests.integration.toy_models.SlowUntil", 4.0
AnswerT = TypeVar("AnswerT")


@dataclass
class Team:
    """The services, the data folder behind them, and everybody's tokens."""

    home: Path
    services: Sequence[Served]
    admin: str
    tokens: dict[str, str] = field(default_factory=dict)

    def ask(self, token: str, question: Callable[[Client], AnswerT]) -> AnswerT:
        """What one of the services answers: the first that lives."""
        deadline = time.monotonic() + 60
        for service in itertools.cycle(self.services):
            try:
                with Client(service.url, token, patience_s=0.5) as client:
                    return question(client)
            except ServerError:
                if time.monotonic() > deadline:
                    raise
        raise AssertionError

    @property
    def gate(self) -> Path:
        """The file without which every epoch takes `SLOWED_S` longer."""
        return self.home / "gate"

    def sweeps(self) -> dict[str, SweepSummary]:
        """All sweeps by name, as they stand."""
        return {sweep.name: sweep for sweep in self.ask(self.admin, lambda client: list(client.sweeps()))}

    def events(self, sweep_id: str) -> list[EventAnswer]:
        """What was told of a sweep."""
        return self.ask(self.admin, lambda client: client.events(sweep_id).items)

    def submit(self, user: str, recipe: str, overrides: Sequence[str], priority: int = 0) -> str:
        """One sweep; it is the same submission, whichever service answers."""
        slow = [f"parameters.model.init_args.{each}" for each in SLOW[recipe]]
        slow.append(f"parameters.data.init_args.batch_size={BATCH[recipe]}")
        waits = f"{{path: {self.gate}, wait_s: {SLOWED_S}}}"
        slow.append(f"fit.trainer.callbacks=[{{class_path: {SLOWED}, init_args: {waits}}}]")
        made = Submission.of(f"trainables/recipes/{recipe}.yaml", ["search.name=random", *slow, *overrides])
        made = replace(made, priority=priority)
        return self.ask(self.tokens[user], lambda client: client.send(made)).id


@contextlib.contextmanager
def team(home: Path, cluster: Raylets, database: str | None) -> Iterator[Team]:
    """One service on SQLite, or two on the given database; two users with the same quota."""
    access = {**cluster.access(), **({} if database is None else {"TUNEYARD_DATABASE": database})}
    options = ("--cluster", cluster.url, "--auth", "token")
    with contextlib.ExitStack() as stack:
        count = 1 if database is None else 2
        services = [stack.enter_context(Served(home, *options, environment=access)) for _ in range(count)]
        found = Team(home, services, services[0].token("root"))
        with services[0].client(found.admin) as admin:
            for user in USERS:
                roles = {"default": Role.SUBMITTER}
                found.tokens[user] = admin.access.create_token("laptop", user=user, roles=roles).token
                admin.access.set_quota("user", user, QUOTA)
        yield found


@contextlib.contextmanager
def killing(services: Sequence[Served], every_s: float | None) -> Iterator[list[float]]:
    """Kill -9 the services in turn, one each `every_s` seconds, and start them again; yields when it was done."""
    stop, kills, began = threading.Event(), list[float](), time.monotonic()

    def run() -> None:
        for number, victim in enumerate(itertools.cycle(services), 1):
            if stop.wait(max(0.0, began + number * (every_s or 0.0) - time.monotonic())):
                return
            victim.stop(signal.SIGKILL)
            kills.append(time.time())
            victim.start()

    with ThreadPoolExecutor(1) as pool:
        killer = None if every_s is None else pool.submit(run)
        try:
            yield kills
        finally:
            stop.set()
    if killer is not None:
        killer.result()


@dataclass
class Outcome:
    """What came of five sweeps: how long each part took, in seconds, and who looked on."""

    sweeps: dict[str, str]
    told: dict[str, list[EventAnswer]]
    witness: Witness
    kills: int
    seconds: float

    def at(self, name: str, kind: str) -> float:
        """When it was first told of a sweep."""
        return next(event.at for event in self.told[name] if event.kind == kind)


def five_sweeps(team: Team, trials: int, epochs: int, kill_s: float | None) -> Outcome:
    """Four sweeps of two people, then an urgent one while all places are taken, until all five are over."""
    began = time.monotonic()

    def look() -> list[SweepSummary]:
        return list(team.sweeps().values())

    def submit(name: str, recipe: str, count: int, priority: int = 0) -> str:
        user = "ada" if name.startswith("ada") else "bob"
        size = (f"budget.max_trials={count}", f"scheduler.max_epochs={epochs}")
        return team.submit(user, recipe, [*size, f"name={name}"], priority)

    with Witness(look, dict.fromkeys(USERS, QUOTA), RAYLETS) as witness, killing(team.services, kill_s) as kills:
        sweeps = {
            "ada-one": submit("ada-one", "digits", trials),
            "ada-two": submit("ada-two", "tabular", trials),
            "ada-three": submit("ada-three", "digits", trials),
            "bob-one": submit("bob-one", "tabular", 3 * trials),  # still at work when a service comes back
        }
        # Slowed until then, so that none ends before it has to make room, and each that has to has begun.
        await_states(team, lambda found: sum(is_training(sweep) for sweep in found.values()) == RAYLETS)
        sweeps["urgent"] = submit("urgent", "digits", trials // 2, priority=10)
        await_states(team, is_room_made)
        team.gate.touch()
        await_states(team, lambda found: all(sweep.state.is_over for sweep in found.values()))
    seconds = time.monotonic() - began
    told = {name: team.events(sweep_id) for name, sweep_id in sweeps.items()}
    return Outcome(sweeps, told, witness, len(kills), seconds)


def is_training(sweep: SweepSummary) -> bool:
    return sweep.state is State.RUNNING and sweep.progress.get("epochs", 0) >= 1


def is_room_made(found: dict[str, SweepSummary]) -> bool:
    """Whether a sweep is on its way out, or, for who did not look meanwhile, the urgent one is in already."""
    return any(sweep.state is State.STOPPING for sweep in found.values()) or found["urgent"].state is not State.QUEUED


def await_states(team: Team, condition: Callable[[dict[str, SweepSummary]], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    shown = ""
    while True:
        found = team.sweeps()
        line = ", ".join(f"{s.name} {s.state} {s.concurrency} {s.progress.get('epochs', 0)}" for s in found.values())
        if line != shown:
            sys.stderr.write(f"{time.time():.1f} {line}\n")
            shown = line
        if condition(found):
            return
        assert time.monotonic() < deadline, line
        assert not found["bob-one"].state.is_over or "urgent" in found, line
        time.sleep(0.3)


def check(outcome: Outcome, team: Team) -> None:
    """All five are over and whole; nobody ever had too much; the urgent one went first, and who made room came back."""
    assert {sweep.state for sweep in team.sweeps().values()} == {State.COMPLETED}
    assert outcome.witness.breaches == []
    assert outcome.witness.looks > outcome.witness.blind
    back = [name for name, events in outcome.told.items() if any(e.kind == "queued" for e in events)]
    assert back
    assert "urgent" not in back
    for name, events in outcome.told.items():
        kinds = Counter(event.kind for event in events)
        assert (events[0].kind, events[-1].kind) == ("submitted", "finished"), name
        assert (kinds["submitted"], kinds["finished"], kinds["lost"]) == (1, 1, 0), name
        assert kinds["queued"] <= kinds["preempted"], name  # it may have been about to end
        assert kinds["started"] == 1 + kinds["queued"], name
        assert pauses(team.home, outcome.sweeps[name]) == kinds["queued"], name
    assert outcome.witness.placed_before("urgent") == set()
    check_mlflow(team.home, list(outcome.sweeps.values()))


def say(outcome: Outcome, team: Team) -> str:
    """The figures."""
    asked, served = outcome.at("urgent", "submitted"), outcome.at("urgent", "started")
    lines = [f"five sweeps in {outcome.seconds:.0f} s; {outcome.kills} kills"]
    lines.append(f"{outcome.witness.looks} looks, {outcome.witness.blind} unanswered; {dict(outcome.witness.most)}")
    lines.append(f"urgent: started {served - asked:.1f} s after its submission")
    for name, events in outcome.told.items():
        for event in events:
            if event.kind == "preempted":
                then = [e for e in events if e.at > event.at and e.kind in ("queued", "started", "finished")]
                rest = ", ".join(f"{e.kind} {e.at - event.at:.1f} s later" for e in then)
                lines.append(f"{name}: preempted {event.at - asked:.1f} s after that, {rest}")
    for user in USERS:
        his = [sweep_id for name, sweep_id in outcome.sweeps.items() if name.startswith(user)]
        his += [outcome.sweeps["urgent"]] if user == "bob" else []
        most, over_s = overlap(itertools.chain(*(spans(team.home, each) for each in his)), QUOTA.concurrent_trials or 0)
        lines.append(f"{user}: {most} attempts at once at most, {over_s:.1f} s above the quota")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Raylets]:
    with raylets(RAYLETS) as found:
        yield found


@pytest.mark.slow
def test_five_sweeps_share_a_cluster_fairly(tmp_path: Path, cluster: Raylets) -> None:
    with team(tmp_path / "home", cluster, None) as found:
        check(five_sweeps(found, TRIALS, EPOCHS, None), found)


@pytest.mark.slow
def test_and_do_not_notice_that_replicas_die(tmp_path: Path, cluster: Raylets, postgresql_url: str) -> None:
    with team(tmp_path / "home", cluster, new_database(postgresql_url)) as found:
        outcome = five_sweeps(found, TRIALS, EPOCHS, SHORT_KILL_S)
        check(outcome, found)
        assert outcome.kills > 1


def main() -> int:
    """The long form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--only", choices=["one", "two"])
    asked = parser.parse_args()
    with raylets(RAYLETS) as cluster, postgresql.server() as url:
        for form in ["one", "two"] if asked.only is None else [asked.only]:
            place = Path(tempfile.mkdtemp(prefix="tuneyard-shared-"))
            database, kill_s = (None, None) if form == "one" else (new_database(url), LONG_KILL_S)
            with team(place / "home", cluster, database) as found:
                outcome = five_sweeps(found, asked.trials, asked.epochs, kill_s)
                sys.stdout.write(f"{form}: {say(outcome, found)}\n")
                sys.stdout.flush()
                check(outcome, found)
            shutil.rmtree(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
