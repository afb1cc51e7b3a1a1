"""Two replicas on one PostgreSQL and one Ray, of which now this one is killed and now that one: nobody's sweep suffers.

`python -m tests.integration.test_replicas` is the long form: five sweeps, and a kill every ten seconds.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import ray_head
from service.client import Client
from service.records import Role, State
from service.store import Store
from tests import postgresql
from tests.databases import new_database
from tests.integration.test_service import RECIPE, SMALL, runs_in_mlflow
from tests.served import Served

LONG, LONG_KILL_S = 5, 10.0
SHORT, SHORT_KILL_S = 2, 7.0
LIMIT_S = 900.0


@contextlib.contextmanager
def replicas(folder: Path, database: str) -> Iterator[tuple[Served, Served]]:
    """Two services over one data folder, one database and one Ray."""
    head = ray_head.own(folder / "ray")
    access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": head.token_path, "TUNEYARD_DATABASE": database}
    options = ("--cluster", head.url, "--auth", "token")
    try:
        with (
            Served(folder / "home", *options, environment=access) as one,
            Served(folder / "home", *options, environment=access) as two,
        ):
            yield one, two
    finally:
        ray_head.end(folder / "ray")


def survive(folder: Path, database: str, count: int, kill_s: float) -> dict[str, list[str]]:
    """Have `count` sweeps run while replicas are killed; what was told of each, when all are over."""
    with replicas(folder, database) as pair:
        token = pair[0].token()
        users = [("ada", "bob")[number % 2] for number in range(count)]
        with pair[0].client(token) as admin:
            tokens = {
                user: admin.access.create_token("t", user=user, roles={"default": Role.SUBMITTER}).token
                for user in users
            }
        sweeps = [submit(pair[number % 2], tokens[user], f"{user}-{number}") for number, user in enumerate(users)]
        began = time.monotonic()
        for number in itertools.count():
            time.sleep(kill_s)
            with pair[1].client(token) as client:
                states = [client.sweep(sweep).state for sweep in sweeps]
            sys.stderr.write(f"{time.monotonic() - began:.0f} s: {', '.join(states)}\n")
            if all(state.is_over for state in states):
                break
            assert time.monotonic() - began < LIMIT_S, states
            victim = pair[number % 2]
            victim.stop(signal.SIGKILL)
            victim.start()
        store = Store.open(database)
        try:
            assert [store.sweep(sweep, None).state for sweep in sweeps] == [State.COMPLETED] * count
            return {sweep: [event.kind for event in store.events(None, sweep_id=sweep)] for sweep in sweeps}
        finally:
            store.close()


def submit(served: Served, token: str, name: str) -> str:
    """One small sweep of the digits recipe."""
    with Client(served.url, token) as client:
        return client.submit(RECIPE, overrides=[*SMALL, f"name={name}"]).id


def check(told: dict[str, list[str]], home: Path) -> None:
    """Every sweep began and ended once, lost no driver, and is whole in MLflow."""
    for kinds in told.values():
        counts = Counter(kinds)
        assert (kinds[0], kinds[-1]) == ("submitted", "finished")
        assert (counts["submitted"], counts["started"], counts["finished"], counts["lost"]) == (1, 1, 1, 0)
    assert sorted(runs_in_mlflow(home).values()) == [3] * len(told)


@pytest.mark.slow
def test_sweeps_do_not_notice_that_replicas_die(tmp_path: Path, postgresql_url: str) -> None:
    check(survive(tmp_path, new_database(postgresql_url), SHORT, SHORT_KILL_S), tmp_path / "home")


def main() -> int:
    """The long form."""
    with tempfile.TemporaryDirectory(prefix="tuneyard-replicas-") as text, postgresql.server() as url:
        told = survive(Path(text), new_database(url), LONG, LONG_KILL_S)
        check(told, Path(text) / "home")
    return 0


if __name__ == "__main__":
    sys.exit(main())
