"""The suite's faults, done to plain Ray Tune: `run_fault` does one and says what is left and what was expected."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

from tests.chaos.baseline import files, processes, tracking, user_code
from tests.chaos.baseline.arena import Arena
from tests.chaos.baseline.cases import Case
from tests.chaos.checker import Expected
from tests.chaos.outcome import Outcome, number_of

CASES: dict[str, Case] = {
    case.name: case
    for case in sorted(
        [*processes.CASES, *tracking.CASES, *files.CASES, *user_code.CASES],
        key=lambda case: (number_of(case.name), case.name),
    )
}
_calm: dict[str, Expected] = {}
_store: list[Path] = []


def run_fault(name: str, seed: int, root: Path) -> tuple[Outcome, Expected]:
    """Do the fault to a sweep in the empty folder `root`; FaultNotPossibleError where it cannot be done here."""
    case = CASES[name]
    expected = reference(case.searcher)
    rng = random.Random(zlib.crc32(f"{name}-{seed}".encode()))
    with Arena(root) as arena:
        prepare(arena, case.searcher)
        try:
            expected = case.run(arena, rng, expected)
            arena.finish()
        except RuntimeError as error:  # the sweep never came to where the fault is done
            arena.broken.append(str(error))
            arena.finish()
        finally:
            while arena.undo:
                arena.undo.pop()()
        return arena.outcome(), expected


def reference(searcher: str) -> Expected:
    """What the undisturbed sweep comes to; run for real, once."""
    if searcher not in _calm:
        with tempfile.TemporaryDirectory() as folder, Arena(Path(folder)) as arena:
            prepare(arena, searcher)
            arena.start()
            arena.finish()
            outcome = arena.outcome()
        if outcome.ended != "completed":
            msg = f"the undisturbed sweep is {outcome.ended}"
            raise RuntimeError(msg)
        _calm[searcher] = Expected.of(outcome, parents=0)
    return _calm[searcher]


def prepare(arena: Arena, searcher: str) -> None:
    """The searcher's option, and an MLflow store that stands already: making one takes longer than a sweep."""
    arena.options = ["--own", "nothing:0"] if searcher == "own" else []
    if not _store:
        template = Path(tempfile.mkdtemp(prefix="mlflow"), "mlflow.db")
        make = f"from mlflow.tracking import MlflowClient; MlflowClient('sqlite:///{template}').search_experiments()"
        subprocess.run([sys.executable, "-c", make], check=True, capture_output=True, env=arena.variables())
        _store.append(template)
    shutil.copy(_store[0], arena.database)
