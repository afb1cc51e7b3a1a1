"""What the lifecycle of a sweep hears (events) and what it orders (commands), as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.backend import JobState


@dataclass(frozen=True, slots=True)
class Pause:
    """Give the place back at the next checkpoints, and stay away until resumed."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Wait for a place again."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """End for good, with what there is."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End at once, whatever the driver does: the cluster that it was on is gone for good."""


@dataclass(frozen=True, slots=True)
class Delete:
    """End, and remove everything."""


@dataclass(frozen=True, slots=True)
class Extend:
    """Go on until there are `max_trials` trials, more than so far; a sweep that is over or paused goes on with it."""

    max_trials: int


@dataclass(frozen=True, slots=True)
class Prioritise:
    """Another place in the queue."""

    priority: int


@dataclass(frozen=True, slots=True)
class Placed:
    """The queue gives a waiting sweep a place, with so many trials at once; its next driver is due."""

    concurrency: int


@dataclass(frozen=True, slots=True)
class Rebalanced:
    """A sweep that has a place may run so many trials at once from now on."""

    concurrency: int


@dataclass(frozen=True, slots=True)
class Preempted:
    """The place is needed for another sweep, or a quota shrank; `reason` tells its owner."""

    reason: str


@dataclass(frozen=True, slots=True)
class JobSeen:
    """What the cluster says of the job of driver `attempt`, and what the driver last said of the sweep.

    None where there is no `progress` yet, or the `trial_hours` used so far are not known.
    """

    attempt: int
    state: JobState
    progress: Mapping[str, Any] | None = None
    message: str = ""
    trial_hours: float | None = None


@dataclass(frozen=True, slots=True)
class JobLost:
    """A cluster that can be reached knows no job of driver `attempt`, although it was submitted."""

    attempt: int
    progress: Mapping[str, Any] | None = None
    message: str = "the cluster knows nothing of it any more"


@dataclass(frozen=True, slots=True)
class SubmitFailed:
    """The cluster would not take the job of driver `attempt`; it may later."""

    attempt: int
    message: str


@dataclass(frozen=True, slots=True)
class Delayed:
    """Driver `attempt` cannot be started for now, through no fault of its sweep's; it stays due."""

    attempt: int
    message: str


@dataclass(frozen=True, slots=True)
class Unrunnable:
    """The sweep can never be started as it stands."""

    message: str


Asked = Pause | Resume | Cancel | GiveUp | Delete | Extend | Prioritise
Seen = Placed | Rebalanced | Preempted | JobSeen | JobLost | SubmitFailed | Delayed | Unrunnable
Event = Asked | Seen


@dataclass(frozen=True, slots=True)
class Submit:
    """Start driver `attempt`; the same one twice is one job."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Allow:
    """Tell the driver how many trials it may run at once."""

    concurrency: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Interrupt the driver, and kill it after `wait_s`."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the sweep's folder, then its row."""


Command = Submit | Allow | Stop | Remove
