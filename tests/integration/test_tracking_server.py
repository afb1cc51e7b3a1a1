"""MLflow behind a server that is away, refuses, or loses its replies ends up holding exactly what the ledger says."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.tuning.events import Artifacts, DriverStarted, Event, Reported, SweepEnded, SweepStarted
from service.tuning.tracking_cursor import read_cursor
from tests.integration.mlflow_peer import Proxy, check_exactly_once, mlflow_server, rows
from tests.integration.synthetic_sweep import Synthetic, records, write_ledger
from tests.integration.tracker_peer import ledger_of, spec_of, sweep_folder, track, trial_of
from tests.ports import free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    home = tmp_path_factory.mktemp("mlflow-server")
    with mlflow_server(home) as address:
        yield address, home


def test_a_server_gets_at_most_one_call_per_ten_results(server: tuple[str, Path], tmp_path: Path) -> None:
    address, home = server
    proxy = Proxy(address)
    events: list[Event] = []
    for number in range(10):
        events += trial_of(number, 100, val_loss=0.1)
    with proxy.serve() as uri:
        started = SweepStarted("s-calls", spec_of(uri=uri))
        ledger = ledger_of([started, DriverStarted(1, "h", 1), *events, SweepEnded("completed", "")])
        folder = sweep_folder(tmp_path)
        write_ledger(folder, ledger)
        assert track(folder, tmp_path) == 0
    check_exactly_once(home, ledger, "s-calls")
    assert len(proxy.paths) <= 0.1 * 1000


def test_lost_replies_refusals_and_503s_leave_everything_exactly_once(server: tuple[str, Path], tmp_path: Path) -> None:
    address, home = server
    proxy, rng = Proxy(address), random.Random(5)
    seen: Counter[str] = Counter()

    def plan(_number: int, path: str) -> str:
        name = path.partition("?")[0].rpartition("/")[2]
        seen[name] += 1
        if name in ("create", "log-batch", "update") and seen[name] in (1, 2, 4):
            return "lose"
        return "503" if rng.random() < 0.15 else "refuse" if rng.random() < 0.1 else "pass"

    proxy.plan = plan
    with proxy.serve() as uri:
        ledger = records(spec_of(uri=uri), "s-lossy", Synthetic(trials=5))
        folder = sweep_folder(tmp_path)
        write_ledger(folder, ledger)
        assert track(folder, tmp_path, "--grace-s", "150") == 0
    assert {"create", "log-batch", "update"} <= {path.rpartition("/")[2] for path in proxy.lost}
    check_exactly_once(home, ledger, "s-lossy")


def test_a_server_that_is_away_delays_but_loses_nothing(tmp_path: Path) -> None:
    port, home = free_port(), tmp_path / "server"
    folder = sweep_folder(tmp_path)
    ledger = records(spec_of(uri=f"http://127.0.0.1:{port}"), "s-away", Synthetic(trials=6))
    write_ledger(folder, ledger)
    assert track(folder, tmp_path, "--grace-s", "3") == 3
    cursor = read_cursor(folder)
    assert (cursor.sequence, cursor.is_delivered) == (0, False)
    assert cursor.error
    with mlflow_server(home, port):
        assert track(folder, tmp_path) == 0
    check_exactly_once(home, ledger, "s-away")
    assert json.loads((folder / "tracking.json").read_text())["error"] is None


def test_the_best_checkpoint_is_registered_once(server: tuple[str, Path], tmp_path: Path) -> None:
    address, home = server
    folder = sweep_folder(tmp_path)
    ledger = records(spec_of(uri=address, register_best_as="digits@candidate"), "s-model", Synthetic(trials=5))
    best = max(
        (r.event for r in ledger if isinstance(r.event, Reported) and not r.event.diverged),
        key=lambda e: e.metrics["val_acc"],
    )
    path = f"checkpoints/{best.trial}/1-{best.epoch}.ckpt"
    kept = replace(ledger[-1], event=Artifacts(best.trial, (path,)))
    ledger = [*ledger[:-1], kept, replace(ledger[-1], sequence=ledger[-1].sequence + 1)]
    checkpoint = folder / path
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"weights")
    write_ledger(folder, ledger)
    for _ in range(2):
        (folder / "tracking.json").unlink(missing_ok=True)
        assert track(folder, tmp_path) == 0
    assert rows(home, "SELECT version FROM model_versions WHERE name = 'digits'") == [(1,)]
    assert rows(home, "SELECT alias, version FROM registered_model_aliases WHERE name = 'digits'") == [("candidate", 1)]
    stored = next((home / "mlartifacts").rglob(f"checkpoints/1-{best.epoch}.ckpt"))
    assert stored.read_bytes() == b"weights"
    assert rows(home, "SELECT value FROM model_version_tags WHERE key = 'tuneyard.epoch'") == [(str(best.epoch),)]
