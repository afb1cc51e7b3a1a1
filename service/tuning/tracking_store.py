"""The one place that talks to MLflow: few calls, each safe to make twice, and two kinds of failure.

`UnavailableError` may mend itself, so the caller tries again; TrackingError will not.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from service.errors import TrackingError
from service.tuning.tracking_names import MAX_TAG, cut
from service.tuning.tracking_points import Point
from service.tuning.tracking_runs import RunKey, key_of, tags_of
from service.tuning.tracking_server import ENVIRONMENT

_T = TypeVar("_T")
_PAGE: Final = 1000
_HOPELESS: Final = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS")


class UnavailableError(Exception):
    """MLflow did not answer, or not in a way that says that it did the work."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it stands in MLflow."""

    run_id: str
    artifact_uri: str
    status: str
    metrics: int


class MlflowStore:
    """An MLflow tracking store, embedded (`sqlite:///…`) or behind a server (`http://…`). Counts its calls."""

    def __init__(self, uri: str, artifacts: Path | None) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._uri, self._artifacts = uri, artifacts
        self._client: Any = None  # MlflowClient, which has no complete annotations
        self.experiment_id = ""
        self.calls = 0
        self.answered = 0  # calls that MLflow did, or refused for good

    @property
    def is_embedded(self) -> bool:
        """Whether a call costs no request."""
        return not self._uri.startswith("http")

    def open(self, experiment: str) -> None:
        """Connect, and find or make the experiment."""
        if self._client is None:
            self._client = self._call(self._connect)
        found = self._call(self._client.get_experiment_by_name, experiment)
        if found is None:
            place = None if self._artifacts is None else (self._artifacts / experiment.replace("/", "_")).as_uri()
            self.experiment_id = self._call(self._client.create_experiment, experiment, artifact_location=place)
        elif found.lifecycle_stage != "active":
            msg = f"the MLflow experiment {experiment!r} is deleted; restore it or name another in tracking.experiment"
            raise UnavailableError(msg)
        else:
            self.experiment_id = found.experiment_id

    def _connect(self) -> Any:  # noqa: ANN401  # as above
        from mlflow import MlflowClient

        return MlflowClient(self._uri)

    def runs(self, sweep_id: str, key: RunKey = None, *, is_all: bool = False) -> dict[RunKey, list[Run]]:
        """The runs of the sweep (`is_all`), or of one trial, or the sweep's own; several where a reply was lost."""
        wanted = f"tags.`tuneyard.sweep_id` = '{sweep_id}'"
        if not is_all:
            wanted += "".join(f" AND tags.`{name}` = '{value}'" for name, value in tags_of(key).items())
        found: dict[RunKey, list[Run]] = {}
        token: str | None = None
        while True:
            page = self._call(
                self._client.search_runs, [self.experiment_id], wanted, max_results=_PAGE, page_token=token or None
            )
            for item in page:
                owner = key_of(item.data.tags)
                run = Run(item.info.run_id, item.info.artifact_uri, item.info.status, len(item.data.metrics))
                found.setdefault(owner, []).append(run)
            token = page.token
            if not token:
                return found

    def create(self, start_ms: int, tags: dict[str, str]) -> Run:
        """Make a run. After an UnavailableError it may exist all the same: look before making another."""
        made = self._call(self._client.create_run, self.experiment_id, start_time=start_ms, tags=tags)
        return Run(made.info.run_id, made.info.artifact_uri, made.info.status, 0)

    def log(self, run_id: str, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Write points, parameters and tags in one request; what stands there already is left as it is."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(p.key, p.value, p.timestamp_ms, p.step) for p in points]
        entries = [Param(key, value) for key, value in params.items()]
        notes = [RunTag(key, value) for key, value in tags.items()]
        if metrics or entries or notes:
            self._call(self._client.log_batch, run_id, metrics=metrics, params=entries, tags=notes)

    def set_status(self, run_id: str, status: str, end_ms: int | None) -> None:
        """Set how a run stands, and when it ended if it did."""
        if end_ms is None:
            self._call(self._client.update_run, run_id, status=status)
        else:
            self._call(self._client.set_terminated, run_id, status=status, end_time=end_ms)

    def upload(self, run: Run, file: Path, place: str) -> None:
        """Put a file among the run's artifacts at `place`, over what an earlier upload left there."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        folder, _, name = place.rpartition("/")
        repository = get_artifact_repository(run.artifact_uri, tracking_uri=self._uri)
        if file.name == name:
            self._call(repository.log_artifact, str(file), folder or None)
            return
        with tempfile.TemporaryDirectory() as scratch:
            renamed = Path(scratch) / name
            renamed.symlink_to(file.resolve())
            self._call(repository.log_artifact, str(renamed), folder or None)

    def write(self, run: Run, text: str, place: str) -> None:
        """Put a text among the run's artifacts at `place`."""
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / place.rsplit("/", 1)[-1]
            file.write_text(text, encoding="utf-8")
            self.upload(run, file, place)

    def delete(self, run_id: str) -> None:
        """Take a run out of sight (MLflow keeps it among the deleted ones)."""
        self._call(self._client.delete_run, run_id)

    def register(self, name: str, alias: str, run: Run, place: str, tags: dict[str, str]) -> str:
        """Make the artifact at `place` a version of the registered model, once, and point the alias at it."""
        try:
            self._call(self._client.create_registered_model, name)
        except TrackingError as error:
            if "ALREADY_EXISTS" not in str(error):
                raise
        source = f"{run.artifact_uri}/{place}"
        versions = self._call(self._client.search_model_versions, f"name = '{name}' and run_id = '{run.run_id}'")
        version = next((v.version for v in versions if v.source == source), None)
        if version is None:
            values = {key: cut(value, MAX_TAG) for key, value in tags.items()}
            made = self._call(self._client.create_model_version, name, source, run.run_id, values, await_creation_for=0)
            version = made.version
        self._call(self._client.set_registered_model_alias, name, alias, version)
        return str(version)

    def _call(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:  # noqa: ANN401  # forwards
        """Count and make one call; any failure becomes one of the two kinds."""
        from mlflow.exceptions import MlflowException, RestException

        self.calls += 1
        try:
            result = function(*args, **kwargs)
        except MlflowException as error:
            text = f"{error.error_code}: {_first_line(error)}"
            # What stands before a server (an ingress, say) may answer 404 in its place: only MLflow's own word counts.
            is_its_own = isinstance(error, RestException) or self.is_embedded
            if is_its_own and error.error_code in _HOPELESS:
                self.answered += 1
                raise TrackingError(text) from error
            raise UnavailableError(text) from error
        except Exception as error:  # MLflow lets through whatever its database, HTTP or file layers raise
            text = f"{type(error).__name__}: {_first_line(error)}"
            raise UnavailableError(text) from error
        self.answered += 1
        return result


def _first_line(error: Exception) -> str:
    return cut((str(error).strip().splitlines() or [""])[0], 500)
