"""Reads the trials of an MLflow experiment, for a sweep that learns from them: a process of its own, which prints JSON.

It reads a request from standard input, where no other user of the machine sees the password of a server: `experiment`,
`metrics`, and the `uri` of the store. Trials of Tuneyard come back as they were; of runs that others made, the epoch is
what they logged as `epoch`, else reports are counted.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

from service.tuning.tracking_names import clean_key
from service.tuning.tracking_server import ENVIRONMENT

MAX_RUNS: Final = 1000  # the newest; of them, a sweep takes those that trained longest
_ENDED_BADLY: Final = ("FAILED", "KILLED")


class NoExperimentError(Exception):
    """The store has no experiment of that name."""


def read_experiment(uri: str, experiment: str, metrics: list[str]) -> list[dict[str, Any]]:
    """One object per run that has a metric of `metrics` or broke: sweep, params, metrics by epoch, broke."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    if found is None or found.lifecycle_stage != "active":
        others = ", ".join(repr(other.name) for other in client.search_experiments(max_results=20))
        msg = f"no MLflow experiment {experiment!r}; there are: {others}"
        raise NoExperimentError(msg)
    runs = client.search_runs([found.experiment_id], order_by=["attributes.start_time DESC"], max_results=MAX_RUNS)
    trials = [_trial(client, run, metrics) for run in runs if run.data.tags.get("tuneyard.kind") != "sweep"]
    return [trial for trial in reversed(trials) if trial["metrics"] or trial["broke"]]


def _trial(client: Any, run: Any, metrics: list[str]) -> dict[str, Any]:  # noqa: ANN401  # MLflow is not annotated
    sweep = run.data.tags.get("tuneyard.sweep_id")
    points = {name: _points(client, run, clean_key(name)) for name in metrics}
    steps = sorted({step for values in points.values() for step in values})
    epochs = {step: step for step in steps} if sweep else _epochs(steps, _points(client, run, "epoch"))
    rows: dict[int, dict[str, float]] = {}
    for name, values in points.items():
        for step, value in values.items():
            rows.setdefault(epochs[step], {})[name] = value
    return {
        "sweep": sweep or "",
        "params": {name: _value(text) for name, text in run.data.params.items()},
        "metrics": rows,
        "broke": run.info.status in _ENDED_BADLY,
    }


def _points(client: Any, run: Any, key: str) -> dict[int, float]:  # noqa: ANN401  # as above
    if key not in run.data.metrics:
        return {}
    return {point.step: float(point.value) for point in client.get_metric_history(run.info.run_id, key)}


def _epochs(steps: list[int], logged: dict[int, float]) -> dict[int, int]:
    """The epoch, from 1, of each step: Lightning logs its own from 0 beside a metric."""
    if all(step in logged for step in steps):
        return {step: int(logged[step]) + 1 for step in steps}
    return {step: i + 1 for i, step in enumerate(steps)}


def _value(text: str) -> Any:  # noqa: ANN401  # any JSON value
    try:
        return json.loads(text)
    except ValueError:
        return text


def main() -> int:
    """The process's entry: 0 and the trials on standard output, or 1 and one line on standard error."""
    request = json.load(sys.stdin)
    try:
        trials = read_experiment(request["uri"], request["experiment"], request["metrics"])
    except Exception as error:  # noqa: BLE001  # whatever MLflow's database or HTTP layers raise: the caller tells a person
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(trials))
    return 0


if __name__ == "__main__":
    sys.exit(main())
