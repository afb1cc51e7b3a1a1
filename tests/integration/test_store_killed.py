"""kill -9 of a process that submits: whatever it was told is done is there afterwards, whole and once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.records import NewSweep, State
from service.store import Store
from service.sweeps.folders import new_id


@pytest.mark.parametrize("lines", [1, 301])
def test_nothing_acknowledged_is_lost(root: Path, store_url: str, lines: int) -> None:
    script = root / "tests" / "integration" / "store_submitter.py"
    told: dict[str, tuple[str, str]] = {}
    for number in range(2):
        command = [sys.executable, str(script), store_url, str(number)]
        env = {**os.environ, "PYTHONPATH": str(root)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True) as submitter:
            assert submitter.stdout is not None
            said = [submitter.stdout.readline() for _ in range(lines)]
            submitter.kill()
            said += submitter.stdout.readlines()
        told.update({line.split()[0]: (line.split()[1], line.split()[2]) for line in said if line.endswith("ed\n")})
    store = Store.open(store_url)
    kinds = Counter((event.sweep_id, event.kind) for event in store.events(None, limit=10**6))
    for key, (sweep_id, state) in told.items():
        found = store.sweep(sweep_id, None)
        assert found.state is State.PAUSED or (found.state, state) == (State.QUEUED, "queued")
        assert kinds[sweep_id, "submitted"] == 1
        assert kinds[sweep_id, "paused"] == (found.state is State.PAUSED)
        again = store.create_sweep(NewSweep(new_id("x"), "default", "ann", "x", {}), key=key, body_digest=key)
        assert (again[0].id, again[1]) == (sweep_id, False)
    store.close()


def test_a_thousand_keys_asked_for_by_twenty_at_once_make_a_thousand_sweeps(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'service.db'}")

    def submit(number: int) -> str:
        new = NewSweep(new_id("same"), "default", "ann", "same", {"budget": {"max_trials": 1}})
        return store.create_sweep(new, key=f"k{number // 20}", body_digest="same")[0].id

    with ThreadPoolExecutor(20) as pool:
        ids = list(pool.map(submit, range(20_000)))
    assert len(set(ids)) == sum(store.counts().values()) == 1000
    store.close()
