"""What a run of MLflow is owed: points, parameters, tags, files and a status, gathered until they are delivered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

RunStatus: TypeAlias = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one metric. Two equal points are one point, to MLflow too."""

    key: str
    value: float
    timestamp_ms: int
    step: int


@dataclass(slots=True)
class Delivery:
    """What one run is owed; `since` is the oldest ledger record in it, `results` how many reports."""

    since: int
    start_ms: int
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    status: RunStatus | None = None
    end_ms: int | None = None
    files: dict[str, str] = field(default_factory=dict)  # path under the storage -> path among the artifacts
    texts: dict[str, str] = field(default_factory=dict)  # path among the artifacts -> content
    results: int = 0
    is_new: bool = False  # no run was made for it before

    def carry(self, paths: tuple[str, ...]) -> None:
        """Add files; checkpoints and logs keep a folder, everything else stands at the top where it is seen first."""
        for path in paths:
            top, name = path.split("/", 1)[0], path.rsplit("/", 1)[-1]
            places = {"configs": "config.yaml", "checkpoints": f"checkpoints/{name}", "logs": f"logs/{name}"}
            self.files[path] = places.get(top, name)
