"""Routes that make, find and steer sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Header, Path, Query, Response

from service.api.guard import Asking, AskingOfSweep, Caller, ProjectQuery, router
from service.api.models import CreateSweep, ExtendSweep, ForkSweep, PrioritiseSweep, Sweep, SweepPage, SweepSummary
from service.api.problems import forbidden, unfit
from service.api.rules import PREFIX
from service.errors import Fault
from service.queueing import lifecycle
from service.queueing.rooms import quota_of
from service.records import EVERY_PROJECT, NewSweep, State, SweepRecord
from service.spec.submitted import Allowance, read_submission
from service.sweeps.folders import new_id

routes = router()
_OF_RECORD: Final = tuple(SweepSummary.model_fields.keys() - {"progress", "mlflow_url"})
_VERSION: Final = r'^(W/)?"?(\d{1,18}|s[0-9a-f]{16})"?$'
SweepText = Annotated[str, Path(min_length=1, max_length=100, description="An id, a name, or the start of an id.")]
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", pattern=r"^[\x21-\x7e]{1,200}$",
           description="The same key with the same body makes nothing more; with another body, a 409."),
]  # fmt: skip
IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        pattern=_VERSION,
        description="The `ETag` that the sweep must still have: its state, wish, priority and budget. Or its "
        "`version`, which changes with each progress, too.",
    ),
]


def summary(caller: Caller, record: SweepRecord) -> dict[str, Any]:
    """A record as `SweepSummary` has it."""
    found = {name: getattr(record, name) for name in _OF_RECORD}
    return {**found, "progress": plain(record.progress), "mlflow_url": mlflow_url(caller, record)}


def whole(caller: Caller, record: SweepRecord) -> dict[str, Any]:
    """A record as `Sweep` has it."""
    return {**summary(caller, record), "spec": plain(record.spec), "facts": dict(record.facts)}


def plain(data: Any) -> Any:  # noqa: ANN401  # any JSON value
    """`data` as JSON can hold it."""
    if isinstance(data, float):
        return data if data - data == 0 else None  # nan and inf are no JSON
    if isinstance(data, Mapping):
        return {str(key): plain(value) for key, value in data.items()}
    return [plain(value) for value in data] if isinstance(data, list | tuple) else data


def mlflow_url(caller: Caller, record: SweepRecord) -> str | None:
    """Where MLflow shows the sweep's parent run, once the driver has said which that is."""
    base = caller.service.mlflow_url
    tracking = record.progress.get("tracking") or {}
    experiment, run = tracking.get("experiment_id"), tracking.get("run_id")
    if base is None or not isinstance(run, str) or not run.isalnum() or not str(experiment).isdecimal():
        return base
    return f"{base}/#/experiments/{experiment}/runs/{run}"


@routes.post(f"{PREFIX}/sweeps", status_code=201, response_model=Sweep)
def create_sweep(body: CreateSweep, caller: Asking, response: Response, key: Key = None) -> dict[str, Any]:
    """Queue a sweep. 201 for a new one, 200 where the key brought it before."""
    found = caller.made_with(key)
    if found is not None:
        return _answered(caller, response, found, was_created=False)
    project = caller.project(body.project)
    caller.check_priority(project, body.priority)
    return _enqueue(caller, _Wanted(project, body.spec, (), body.priority, body.code, body.facts), key, response)


@routes.post(f"{PREFIX}/sweeps/{{sweep}}/fork", status_code=201, response_model=Sweep)
def fork_sweep(
    sweep: SweepText, body: ForkSweep, caller: AskingOfSweep, response: Response, key: Key = None
) -> dict[str, Any]:
    """Queue a new sweep made of an old one, in its project; its results are prior knowledge, unless told otherwise."""
    found = caller.made_with(key)
    if found is not None:
        return _answered(caller, response, found, was_created=False)
    old = caller.sweep(sweep)
    caller.check_priority(old.project, body.priority or 0)
    spec = dict(body.spec if body.spec is not None else old.spec)
    if body.name is not None:
        spec["name"] = body.name
    if body.keep_results:
        search = spec.get("search") if isinstance(spec.get("search"), dict) else {"name": spec.get("search", "bayes")}
        spec["search"] = {**(search or {}), "warm_start": [old.id]}
    wanted = _Wanted(
        old.project,
        spec,
        body.overrides,
        min(old.priority, caller.most_urgent(old.project)) if body.priority is None else body.priority,
        body.code or old.code,
        old.facts if body.facts is None else body.facts,
        forked_from=old.id,
    )
    return _enqueue(caller, wanted, key, response)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a submission comes to, before its spec is read."""

    project: str
    spec: Mapping[str, Any]
    overrides: Sequence[str]
    priority: int
    code: str | None
    facts: Mapping[str, str]
    forked_from: str | None = None


def _enqueue(caller: Caller, wanted: _Wanted, key: str | None, response: Response) -> dict[str, Any]:
    service, project = caller.service, frozenset((wanted.project,))
    if wanted.code is not None and service.package(wanted.code, wanted.project) is None:
        message = "the project has no code package of this digest; send it first: PUT /api/v1/packages/{digest}"
        raise unfit(Fault(message, "code", given=wanted.code))

    def earlier(text: str) -> str:
        return service.store.sweep(text, project).id

    spec = read_submission(wanted.spec, wanted.overrides, _allowance(caller, wanted.project), earlier)
    new = NewSweep(
        new_id(spec.name), wanted.project, caller.principal.user, spec.name, spec.to_dict(), wanted.priority,
        wanted.code, wanted.facts, wanted.forked_from,
    )  # fmt: skip
    record, was_created = service.store.create_sweep(new, key=key, body_digest=caller.digest, deed=caller.deed)
    if was_created:
        caller.is_on_record()
        service.wake()
    return _answered(caller, response, record, was_created=was_created)


def _answered(caller: Caller, response: Response, record: SweepRecord, *, was_created: bool) -> dict[str, Any]:
    caller.note(record.project, record.id)
    response.status_code = 201 if was_created else 200
    response.headers["Location"] = f"{PREFIX}/sweeps/{record.id}"
    return whole(caller, record)


def _allowance(caller: Caller, project: str) -> Allowance:
    quotas, limited = caller.service.quotas(), (("user", caller.principal.user), ("project", project))
    found = {f"the {kind} {name}": quota_of(quotas, kind, name) for kind, name in limited}
    sees_all = EVERY_PROJECT in caller.principal.roles
    return Allowance(pip=caller.service.allows_pip, experiments=sees_all, quotas=found)


@dataclass(frozen=True, slots=True)
class _Filters:
    """Which sweeps to list."""

    project: ProjectQuery = None
    state: Annotated[list[State] | None, Query(description="Any of these.", max_length=8)] = None
    mine: Annotated[Literal["true", "false"], Query(description="The caller's own only.")] = "false"
    owner: Annotated[str | None, Query(max_length=127)] = None
    name: Annotated[str | None, Query(max_length=100)] = None
    text: Annotated[str | None, Query(max_length=100, description="Part of the name or the id.")] = None


@routes.get(f"{PREFIX}/sweeps", response_model=SweepPage)
def list_sweeps(
    caller: Asking,
    filters: Annotated[_Filters, Depends()],
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    after: Annotated[str | None, Query(max_length=200, description="`next` of the page before.")] = None,
) -> dict[str, Any]:
    """Sweeps that the caller may see, the newest first."""
    found, following = caller.service.store.sweeps(
        caller.within(filters.project),
        states=tuple(filters.state or ()),
        owner=caller.principal.user if filters.mine == "true" else filters.owner,
        name=filters.name,
        text=filters.text,
        limit=limit,
        after=after,
    )
    return {"items": [summary(caller, record) for record in found], "next": following}


@routes.get(f"{PREFIX}/sweeps/{{sweep}}", response_model=Sweep)
def get_sweep(sweep: SweepText, caller: AskingOfSweep, response: Response) -> dict[str, Any]:
    """One sweep, as it stands."""
    record = caller.sweep(sweep)
    newest = replace(record, progress=caller.service.views.progress(record))
    response.headers["ETag"] = f'"{record.tag}"'
    return whole(caller, newest)


@routes.delete(f"{PREFIX}/sweeps/{{sweep}}", status_code=202, response_model=Sweep)
def delete_sweep(sweep: SweepText, caller: AskingOfSweep, if_match: IfMatch = None) -> dict[str, Any]:
    """End a sweep and remove everything of it; done in the background."""
    return _act(caller, caller.sweep(sweep), lifecycle.Delete(), if_match)


@routes.post(f"{PREFIX}/sweeps/{{sweep}}/cancel", response_model=Sweep)
def cancel_sweep(
    sweep: SweepText,
    caller: AskingOfSweep,
    if_match: IfMatch = None,
    force: Annotated[Literal["true", "false"], Query(description="For an admin of every project: at once.")] = "false",
) -> dict[str, Any]:
    """End a sweep for good, with what there is.

    With `force` without a word to its driver, nor one from it: for a cluster that is gone for good. A driver that is at
    work all the same runs on, and nobody counts what it takes.
    """
    if force == "true" and not caller.is_operator:
        msg = "only an admin of every project gives up a sweep without its cluster's word"
        raise forbidden(msg)
    event = lifecycle.GiveUp() if force == "true" else lifecycle.Cancel()
    return _act(caller, caller.sweep(sweep), event, if_match)


@routes.post(f"{PREFIX}/sweeps/{{sweep}}/pause", response_model=Sweep)
def pause_sweep(sweep: SweepText, caller: AskingOfSweep, if_match: IfMatch = None) -> dict[str, Any]:
    """Let trials stop at their next checkpoints, and give the place back."""
    return _act(caller, caller.sweep(sweep), lifecycle.Pause(), if_match)


@routes.post(f"{PREFIX}/sweeps/{{sweep}}/resume", response_model=Sweep)
def resume_sweep(sweep: SweepText, caller: AskingOfSweep, if_match: IfMatch = None) -> dict[str, Any]:
    """Queue a paused sweep again."""
    return _act(caller, caller.sweep(sweep), lifecycle.Resume(), if_match)


@routes.post(f"{PREFIX}/sweeps/{{sweep}}/extend", response_model=Sweep)
def extend_sweep(
    sweep: SweepText, body: ExtendSweep, caller: AskingOfSweep, if_match: IfMatch = None
) -> dict[str, Any]:
    """Give a sweep more trials; one that is over goes on."""
    return _act(caller, caller.sweep(sweep), lifecycle.Extend(body.max_trials), if_match)


@routes.post(f"{PREFIX}/sweeps/{{sweep}}/prioritise", response_model=Sweep)
def prioritise_sweep(
    sweep: SweepText, body: PrioritiseSweep, caller: AskingOfSweep, if_match: IfMatch = None
) -> dict[str, Any]:
    """Give a sweep another place in the queue."""
    record = caller.sweep(sweep)
    caller.check_priority(record.project, body.priority)
    return _act(caller, record, lifecycle.Prioritise(body.priority), if_match)


def _act(caller: Caller, record: SweepRecord, event: lifecycle.Event, if_match: str | None) -> dict[str, Any]:
    if isinstance(event, lifecycle.GiveUp):
        caller.note(record.project, f"{record.id} by force")
    tag = None if if_match is None else if_match.removeprefix("W/").strip('"')
    expected = int(tag) if tag is not None and tag.isdecimal() else tag
    changed = caller.service.store.act(
        record.id, caller.projects, event, by=caller.principal.user, expected_version=expected
    )
    caller.service.wake()
    return whole(caller, changed)
