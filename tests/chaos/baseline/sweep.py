"""The sweep in plain Ray Tune, as its guides write it: restore where there is something to restore, else begin.

Run as `python -m tests.chaos.baseline.sweep FOLDER`; exits with 0 where `fit` came back. What the searcher hears is
written to `told.jsonl` and the best to `best.json`, both in FOLDER, for the checker.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from pathlib import Path
from typing import Any, Final

import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search import Searcher
from ray.tune.search.basic_variant import BasicVariantGenerator

from tests.chaos.baseline.trainable import NUMBER, train, trial_number

NAME: Final = "sweep"
TRIALS: Final = 8
SEED: Final = 7
TOLD: Final = "CHAOS_TOLD"  # names the file that keeps what the searcher hears


def told(trial: str, *, error: bool) -> None:
    """Keep that the searcher was told how a trial ended."""
    line = json.dumps({"trial": trial, "ending": "failed" if error else "completed"}) + "\n"
    descriptor = os.open(os.environ[TOLD], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, line.encode())
    os.close(descriptor)


class Random(BasicVariantGenerator):  # type: ignore[misc]  # Ray's names are not typed
    """Tune's random search; what it hears is kept."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: FBT001, FBT002  # Tune's signature
        """Tune calls it when a trial ended."""
        told(trial_id, error=error)
        super().on_trial_complete(trial_id, result, error)


class Own(Searcher):  # type: ignore[misc]  # Ray's names are not typed
    """A searcher as a user writes one; at suggestion number `at` it does what `deed` says: raise, or go outside."""

    def __init__(self, deed: str, at: int) -> None:
        super().__init__(metric="loss", mode="min")
        self.deed, self.at, self.count, self.numbers = deed, at, 0, dict[str, int]()

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next configuration."""
        if self.count == TRIALS:
            return Searcher.FINISHED  # type: ignore[no-any-return]  # Ray's names are not typed
        number = self.count
        self.count += 1
        if number == self.at and self.deed.startswith("raise") and self._is_due():
            msg = "the surrogate does not converge"
            raise ArithmeticError(msg)
        self.numbers[trial_id] = number
        x = number / TRIALS if (number, self.deed) != (self.at, "outside") else 1000.0
        return {"model.x": x, "model.y": 0.5, NUMBER: number}

    def _is_due(self) -> bool:
        """Whether to raise: always, or the first time of all processes."""
        mark = Path(os.environ[TOLD]).with_name("raised")
        is_first = not mark.exists()
        mark.touch()
        return is_first or self.deed == "raise-always"

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  # Tune's signature
        """Tune calls it when a trial ended."""
        told(str(self.numbers[trial_id]), error=error)

    def save(self, checkpoint_path: str) -> None:
        """As the guide to searchers says."""
        Path(checkpoint_path).write_text(json.dumps([self.count, self.numbers]))

    def restore(self, checkpoint_path: str) -> None:
        """The inverse of `save`."""
        self.count, self.numbers = json.loads(Path(checkpoint_path).read_text())


def own(option: str) -> Own:
    """DEED:AT -> the searcher."""
    deed, _, at = option.partition(":")
    return Own(deed, int(at))


def fresh(given: argparse.Namespace) -> tune.Tuner:
    """A sweep that nobody has begun."""
    searcher = own(given.own) if given.own else Random(random_state=SEED)
    callback = MLflowLoggerCallback(tracking_uri=given.tracking, experiment_name=NAME)
    return tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space=None if given.own else {"model.x": tune.uniform(0.0, 1.0), "model.y": tune.uniform(0.0, 1.0)},
        tune_config=tune.TuneConfig(search_alg=searcher, metric="loss", mode="min", num_samples=TRIALS),
        run_config=tune.RunConfig(
            name=NAME,
            storage_path=str(given.storage),
            failure_config=tune.FailureConfig(max_failures=3),
            callbacks=[callback],
            verbose=1,
        ),
    )


def main() -> None:
    """Restore or begin, go on to the end, say what was best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--storage", type=Path, required=True)
    parser.add_argument("--tracking", required=True)
    parser.add_argument("--address", default="local")
    parser.add_argument("--own", default="", metavar="DEED:AT", help="use a searcher of one's own that misbehaves")
    given = parser.parse_args()
    os.environ.setdefault(TOLD, str(given.folder / "told.jsonl"))
    local = {"num_cpus": 2, "include_dashboard": False} if given.address == "local" else {}
    ray.init(address=given.address, log_to_driver=False, **local)
    path = given.storage / NAME
    if tune.Tuner.can_restore(path):
        tuner = tune.Tuner.restore(str(path), trainable=tune.with_resources(train, {"cpu": 1}), resume_errored=True)
    else:
        tuner = fresh(given)
    results = tuner.fit()
    with contextlib.suppress(RuntimeError, KeyError, ValueError):  # no trial has a result: there is no best
        write_best(results, given.folder / "best.json")
    ray.shutdown()


def write_best(results: tune.ResultGrid, path: Path) -> None:
    """(trial, epoch) of the best, as Tune's own `get_best_result` says it."""
    best = results.get_best_result(scope="all")
    table = best.metrics_dataframe
    row = table.loc[table["loss"].astype(float).idxmin()]
    path.write_text(json.dumps([trial_number(best.metrics["trial_id"], best.config), int(row["training_iteration"])]))


if __name__ == "__main__":
    main()
