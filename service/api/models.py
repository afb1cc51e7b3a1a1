"""The shapes of the HTTP interface: what a request may hold and what an answer does, as OpenAPI shows them.

Times are seconds since the epoch on the server's clock. Bodies refuse unknown keys; answers may gain keys.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.records import State, Wish

NAME: Final = r"^[a-z][a-z0-9-]{0,62}$"  # of a project, and of a token
USER: Final = r"^[A-Za-z0-9][A-Za-z0-9._@+|-]{0,126}$"
ROLE_PLACE: Final = r"^(\*|[a-z][a-z0-9-]{0,62})$"
DIGEST: Final = r"^[0-9a-f]{64}$"
EVENT_KIND: Final = r"^[a-z_]{1,40}$"

Json = dict[str, Any]
ProjectName = Annotated[str, Field(pattern=NAME)]
UserName = Annotated[str, Field(pattern=USER)]
Digest = Annotated[str, Field(pattern=DIGEST)]
SweepName = Annotated[str, Field(min_length=1, max_length=200)]
HIGHEST_PRIORITY: Final = 1000
Priority = Annotated[int, Field(ge=-HIGHEST_PRIORITY, le=HIGHEST_PRIORITY)]
MaxTrials = Annotated[int, Field(ge=1, le=10**6)]
Facts = Annotated[dict[str, Annotated[str, Field(max_length=500)]], Field(max_length=50)]
Override = Annotated[str, Field(max_length=5000)]


class Body(BaseModel):
    """What a request brings."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Answer(BaseModel):
    """What comes back."""

    model_config = ConfigDict(frozen=True)


class CreateSweep(Body):
    """A sweep to be queued."""

    spec: Json
    """The sweep file as plain data. Nothing in it may name a file of the server: `base` has to be written out under
    `fit`, as `tuneyard submit` does."""
    project: ProjectName | None = None
    """Where it belongs; the caller's only project, else `default`, where left out."""
    priority: Priority = 0
    """Higher ones go first."""
    code: Digest | None = None
    """The SHA-256 of a code package that this project has."""
    facts: Facts = Field(default_factory=dict)
    """What only the submitting machine knew: versions, the git commit."""


class ForkSweep(Body):
    """A new sweep made of an old one, whose results it learns from."""

    name: str | None = Field(default=None, max_length=31)
    """The new name; the old one where left out."""
    overrides: Annotated[tuple[Override, ...], Field(max_length=200, strict=False)] = ()
    """Changes of the sweep file, as `--set` takes them: `parameters.lr.max=0.5`."""
    spec: Json | None = None
    """A whole other sweep file in place of the old one."""
    keep_results: bool = True
    """Whether the old results are prior knowledge of the new sweep."""
    priority: Priority | None = None
    """The old one's where left out."""
    code: Digest | None = None
    """The old one's where left out."""
    facts: Facts | None = None
    """The old one's where left out."""


class ExtendSweep(Body):
    """More trials for a sweep, over or not."""

    max_trials: MaxTrials
    """Trials in all, those that it has among them."""


class PrioritiseSweep(Body):
    """Another place in the queue."""

    priority: Priority


class SweepSummary(Answer):
    """A sweep in a list."""

    id: str
    project: str
    owner: str
    name: str
    state: State
    wish: Wish
    reason: str
    """Why it is in this state, for people; empty where there is nothing to say."""
    priority: int
    code: str | None
    forked_from: str | None
    attempt: int
    failures: int
    is_preempted: bool
    concurrency: int
    """How many trials at once it has been granted."""
    trial_hours: float
    progress: Json
    """The driver's newest word, as a sweep's `progress.json` has it; empty before its first."""
    created_at: float
    updated_at: float
    queued_at: float
    started_at: float | None
    ended_at: float | None
    version: int
    """Grows with each change, and with each progress; `If-Match` takes it, as it does the `ETag` of a sweep."""
    mlflow_url: str | None
    """Where MLflow shows its run."""


class Sweep(SweepSummary):
    """One sweep, with its file."""

    spec: Json
    facts: dict[str, str]


class SweepPage(Answer):
    """Sweeps, the newest first."""

    items: list[SweepSummary]
    next: str | None
    """The `after` of the next page; None on the last one."""


class Trial(Answer):
    """One trial, as the sweep's ledger tells."""

    model_config = ConfigDict(frozen=True, extra="allow")

    trial: int
    status: str
    epoch: int
    value: float | None
    best_epoch: int | None
    metrics: dict[str, float | None]
    params: Json
    attempts: int
    seconds: float
    cause: str | None


class Details(Answer):
    """A sweep with its trials, the best first: what `tuneyard show` draws."""

    model_config = ConfigDict(frozen=True, extra="allow")

    sweep_id: str
    state: State
    progress: Json
    metric: Json
    objectives: list[str]
    trials: list[Trial]
    trials_total: int
    """How many there are; `trials` holds a page of them."""
    race: Any
    insight: Any = None
    warm_start: str | None = None


class EventAnswer(Answer):
    """Something that happened to a sweep. As a server-sent event: its id is `number`, its event `kind`."""

    number: int
    sweep_id: str
    project: str
    at: float
    kind: str
    data: Json


class EventPage(Answer):
    """Events in their order."""

    items: list[EventAnswer]
    next: int
    """The `after` from which to ask on."""


class LogAnswer(Answer):
    """A piece of a log. As a server-sent event `log`: its id is `next_offset`."""

    text: str
    next_offset: int
    is_complete: bool
    """Whether nothing will follow: the sweep is over and this piece reaches the end."""


class BestAnswer(Answer):
    """The best trial."""

    sweep_id: str
    metric: Json | None
    best: Json | None
    """Trial, epoch, value and parameters; None before the first report."""
    config: str | None
    """The LightningCLI config that trains it again; None while there is no report of it."""


class QueueEntry(Answer):
    """A sweep that waits or runs. Those of projects that the caller cannot see only count in `position`."""

    sweep_id: str
    project: str
    owner: str
    name: str
    state: State
    priority: int
    concurrency: int
    position: int | None
    """From 1, among all that wait; None for one that has a place."""
    reason: str
    queued_at: float


class QueueAnswer(Answer):
    """What runs, then what waits, in their order."""

    items: list[QueueEntry]


class ClusterAnswer(Answer):
    """The cluster, as far as it can be seen now."""

    is_reachable: bool
    cpus: float
    gpus: float
    nodes: int
    running_sweeps: int
    concurrent_trials: int
    message: str = ""


class ComparedSweep(Answer):
    """One of several sweeps side by side."""

    sweep_id: str
    name: str
    state: State
    metric: Json | None
    best: Json | None
    trials: Json
    """How many there are of each status."""
    epochs: int
    elapsed_s: float | None
    trial_hours: float
    search: str
    scheduler: str
    best_over_time: list[tuple[int, float, float]]
    """Each improvement: trials ended by then, seconds since the first trial began, the new best value."""


class Comparison(Answer):
    """Several sweeps side by side."""

    sweeps: list[ComparedSweep]


class PackageAnswer(Answer):
    """A code package that a project has."""

    digest: str
    size_bytes: int
    created_at: float


class PackageList(Answer):
    """The code packages of a project."""

    items: list[PackageAnswer]


class FaultAnswer(Answer):
    """One thing wrong in a request: where, what was given, what is allowed, the nearest right name."""

    message: str
    path: str = ""
    given: str | None = None
    allowed: str | None = None
    nearest: str | None = None


class Problem(Answer):
    """Why a request was refused (RFC 9457, `application/problem+json`)."""

    type: str
    """`about:blank`, or `urn:tuneyard:<kind>` for programs to tell kinds apart."""
    title: str
    status: int
    detail: str
    """For people: what is wrong and what to do next."""
    instance: str = ""
    """The request's id, which the server's log has, too."""
    faults: list[FaultAnswer] = Field(default_factory=list)
    """Everything that is wrong with it, at once."""


class Health(Answer):
    """Whether the process lives (`/healthz`), or takes requests (`/readyz`)."""

    status: Literal["ok", "starting", "draining", "failing"]
    checks: dict[str, str]
    version: str
