"""Reads sweeps' ledgers in a process of its own: that takes numpy, time and memory, and none of it the service's.

`python -m service.views.reader ROOT` answers one JSON request a line, in their order, until its input ends. It keeps
the histories it has read and goes on from where it stood. Nothing of a user's code is imported here.
"""

from __future__ import annotations

import json
import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from service.errors import SweepNotFoundError, TuneyardError
from service.spec.sweep_spec import SweepSpec
from service.sweeps.folders import Sweep, sweeps_folder
from service.tuning.confined import confined
from service.tuning.history import History
from service.tuning.knowledge import ABOUT_FACT
from service.tuning.ledger import LedgerTail, read_ledger
from service.tuning.outcome import report_files
from service.tuning.report_held_out import held_out_of
from service.tuning.report_race import race_of
from service.tuning.storage_place import Place, place_of
from service.tuning.sweep_folder import read_job
from service.views.overview import insight_of, trial_rows

_MOST_KEPT: Final = 8  # histories; the longest unread one is forgotten first


@dataclass(slots=True)
class _Open:
    """A sweep whose ledger is being followed."""

    spec: SweepSpec
    about: str | None
    tail: LedgerTail
    history: History
    reported: int = -1  # how many records the report was made of
    report: dict[str, str] = field(default_factory=dict)


class Reader:
    """Answers about the sweeps under a data folder or a location."""

    def __init__(self, root: Place) -> None:
        self._root = root
        self._open: OrderedDict[str, _Open] = OrderedDict()

    def answer(self, request: Mapping[str, Any]) -> Any:  # noqa: ANN401  # any JSON value
        """The answer to one request. TuneyardError, OSError or ValueError where there is none."""
        answers: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "details": self._details, "report": self._report, "curve": self._curve,
        }  # fmt: skip
        return answers[request["what"]](request)

    def _details(self, request: Mapping[str, Any]) -> dict[str, Any]:
        found = self._read(request["sweep_id"])
        rows, objectives = trial_rows(found.history), found.spec.objectives.objectives
        offset, limit = request["offset"], request["limit"]
        return {
            "metric": {"name": objectives[0].name, "goal": objectives[0].goal},
            "objectives": [objective.name for objective in objectives],
            "trials": rows[offset : offset + limit],
            "trials_total": len(rows),
            "race": race_of(found.history),
            "held_out": held_out_of(found.history),
            "warm_start": found.about,
            **({"insight": insight_of(found.history, found.spec)} if request["insight"] else {}),
        }

    def _report(self, request: Mapping[str, Any]) -> str | None:
        """A file of the report, as far as the ledger tells; nothing is written to the folder, which is the job's."""
        found = self._read(request["sweep_id"])
        if found.reported != found.history.sequence:
            place = self._place(request["sweep_id"])
            found.report = report_files(place, found.spec, read_ledger(place, confined(place)))
            found.reported = found.history.sequence
        return found.report.get(request["name"])

    def _curve(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What a comparison shows: each improvement of the best, by trials and by time."""
        found = self._read(request["sweep_id"])
        spec = found.spec
        return {
            "search": spec.search.name,
            "scheduler": spec.scheduler.name,
            "best_over_time": list(_improvements(found.history)),
            "epochs": found.history.epochs_trained,
            "elapsed_s": round(found.history.active_s, 3),
            "trials": {str(status): count for status, count in found.history.counts.items()},
        }

    def _place(self, sweep_id: str) -> Place:
        return sweeps_folder(self._root) / sweep_id

    def _read(self, sweep_id: str) -> _Open:
        """The sweep's history up to now."""
        place = self._place(sweep_id)
        found = self._open.pop(sweep_id, None)
        if found is None or not Sweep(place).has_record():
            job = read_job(place)
            spec = SweepSpec.from_dict(job.spec)
            found = _Open(
                spec,
                job.facts.get(ABOUT_FACT),
                LedgerTail(place, storage=confined(place)),
                History(spec.objectives),
            )
        for record in found.tail.read_new():
            found.history.apply(record)
        self._open[sweep_id] = found
        while len(self._open) > _MOST_KEPT:
            self._open.popitem(last=False)
        return found


def _improvements(history: History) -> Iterator[tuple[int, float, float]]:
    """(trials over by then, seconds since the first trial began, new best value), in the order of trials' ends."""
    objective = history.objectives.objectives[0]
    starts = [trial.started_at for trial in history.trials if trial.started_at is not None]
    best = math.inf
    for count, number in enumerate(history.endings, 1):
        trial = history.trials[number]
        if not trial.curve or trial.status in ("diverged", "failed"):
            continue
        loss = trial.curve[trial.best_epoch].losses[0]
        if loss < best:
            best = loss
            yield count, round((trial.ended_at or history.at) - min(starts), 3), objective.value(loss)


def plain(data: Any) -> Any:  # noqa: ANN401  # any JSON value
    """`data` with None for every number that JSON has no word for."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {str(key): plain(value) for key, value in data.items()}
    return [plain(value) for value in data] if isinstance(data, list | tuple) else data


def _plainly(error: Exception) -> str:
    """What is wrong, without a path of this machine."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return f"{type(error).__name__}: {error}"


def main() -> int:
    """Answer what standard input asks."""
    reader = Reader(place_of(sys.argv[1]))
    for line in sys.stdin:
        try:
            said = {"answer": plain(reader.answer(json.loads(line)))}
        except (SweepNotFoundError, FileNotFoundError):
            said = {"missing": True}
        except (TuneyardError, OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
            said = {"error": _plainly(error)}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
