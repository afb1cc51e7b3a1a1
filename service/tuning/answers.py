"""What a decider answers an idle worker: begin something, wait, or the sweep is over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from service.tuning.events import Event


@dataclass(frozen=True, slots=True)
class Start:
    """Begin or go on with a trial, or test the winner: commit `events`, then carry out the last one, which is Begun."""

    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can start now. Commit `events` (trials that end here) and ask again; without any, wait for a report."""

    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The sweep is over. Commit `events`, then end it with `reason`."""

    ending: Literal["completed", "failed"]
    reason: str
    events: tuple[Event, ...] = ()
