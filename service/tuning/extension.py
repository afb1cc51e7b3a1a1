"""How a sweep goes on beyond the number of trials that it was given first, also after its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from service.spec.budget import max_trials_of, spec_with
from service.tuning.events import Record, SweepExtended, SweepStarted
from service.tuning.sweep_folder import Job


def widened(job: Job, max_trials: int | None) -> Job:
    """`job` with `max_trials`, where that is more than it has; else `job` itself."""
    before = max_trials_of(job.spec)
    if max_trials is None or before is None or max_trials <= before:
        return job
    return replace(job, spec=spec_with(job.spec, max_trials))


def spec_on_record(records: Iterable[Record]) -> dict[str, Any] | None:
    """The resolved sweep file as the records have it, extensions included; None where there are none."""
    spec: dict[str, Any] | None = None
    for record in records:
        if isinstance(record.event, SweepStarted):
            spec = record.event.spec
        elif isinstance(record.event, SweepExtended) and spec is not None:
            spec = spec_with(spec, record.event.max_trials)
    return spec


def extension(records: Iterable[Record], spec: Mapping[str, Any]) -> list[SweepExtended]:
    """What has to go on record for `spec` to hold: nothing, unless it allows more trials than `records` do."""
    recorded, wanted = spec_on_record(records), max_trials_of(spec)
    before = None if recorded is None else max_trials_of(recorded)
    if before is None or wanted is None or wanted <= before:
        return []
    return [SweepExtended(wanted)]
