"""The one way to add a route: with its rule, strict JSON, and a Caller that every look at a project goes through."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, NoReturn

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.types import Scope

from service.api.auth import AuthError, ProviderAwayError
from service.api.models import HIGHEST_PRIORITY
from service.api.problems import MEDIA_TYPE, ProblemError, forbidden, not_found, unfit
from service.api.rules import RULES, Access, Rule
from service.api.service import DEFAULT_PROJECT, Service
from service.api.streams import Streams
from service.errors import Fault, SweepNotFoundError
from service.records import EVERY_PROJECT, Principal, Role, SweepRecord
from service.store import Deed, Once

MAX_DEPTH: Final = 64
_MEANINGS: Final = {
    401: "Nobody known asks.", 403: "It may be seen, but not done.", 404: "It is not here, or not yours to see.",
    408: "The body came too slowly.", 409: "It cannot be done as things stand.", 412: "It has changed meanwhile.",
    413: "The body is too large.", 415: "The body is no JSON.", 422: "The request has faults; all of them are listed.",
    429: "Too many requests; `Retry-After` says how long to wait.", 503: "A part of the service is away.",
}  # fmt: skip


class UndeclaredRouteError(Exception):
    """A route was added that `api_rules.RULES` says nothing about."""


class GuardedRoute(APIRoute):
    """A route that has a rule, which OpenAPI shows as `x-needs`."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **given: Any) -> None:  # noqa: ANN401  # FastAPI's own
        method = min(given["methods"])
        rule = RULES.get(f"{method} {path}")
        if rule is None:
            msg = f"{method} {path} has no rule; say in service/api/rules.py who may use it"
            raise UndeclaredRouteError(msg)
        self.rule = rule
        is_public = rule.needs is Access.PUBLIC
        extra = {"x-needs": str(rule.needs), "x-own": rule.own, "security": [] if is_public else [{"bearer": []}]}
        given["openapi_extra"] = (given.get("openapi_extra") or {}) | extra
        content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        codes = (429, 503) if is_public else tuple(_MEANINGS)
        problems = {code: {"description": _MEANINGS[code], "content": content} for code in codes}
        given["responses"] = problems | (given.get("responses") or {})
        super().__init__(path, endpoint, **given)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI's, with JSON read strictly."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


def router() -> APIRouter:
    """A router whose routes have rules."""
    return APIRouter(route_class=GuardedRoute)


class _StrictRequest(Request):
    async def json(self) -> Any:  # noqa: ANN401  # any JSON value
        if not hasattr(self, "_json"):
            body = await self.body()
            self.scope["state"]["digest"] = _digest(self.scope, body)
            self._json = read_json(body)
        return self._json


def _digest(scope: Scope, body: bytes) -> str:
    """What makes two requests the same, before anything is made of them: method, path and body, byte for byte."""
    head = json.dumps([scope["method"], scope["path"]]).encode()
    return hashlib.sha256(head + b"\n" + body).hexdigest()


def read_json(body: bytes) -> Any:  # noqa: ANN401  # any JSON value
    """The JSON value of a body. ProblemError where readers of JSON could disagree on it, or nest without end."""
    try:
        data = json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        what = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise ProblemError(422, "unreadable", f"the body is no JSON as it is read here: {what}") from error
    brackets = body.count(b"{") + body.count(b"[")  # no fewer than levels; most bodies need no walk through them
    if brackets > MAX_DEPTH and _is_deeper(data, MAX_DEPTH):
        raise ProblemError(422, "unreadable", f"the body is nested too deeply; at most {MAX_DEPTH} levels")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a key stands twice in one object"
        raise ValueError(msg)
    return found


def _no_number(text: str) -> NoReturn:
    msg = f"{text} is no JSON number"
    raise ValueError(msg)


def _is_deeper(data: Any, levels: int) -> bool:  # noqa: ANN401  # any JSON value
    below = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return levels < 0 or any(_is_deeper(item, levels - 1) for item in below if isinstance(item, dict | list))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for what: every look at a project or a sweep goes through here, and nowhere else."""

    principal: Principal
    rule: Rule
    service: Service
    streams: Streams
    state: dict[str, Any]
    named_in: str | None = None
    """The project whose sweeps the request means by their names; None for all that the caller may look into."""

    @property
    def projects(self) -> frozenset[str] | None:
        """The projects that the caller may look into; None for all."""
        return self.principal.projects

    @property
    def is_operator(self) -> bool:
        """Whether the caller is an admin of every project."""
        return self.principal.roles.get(EVERY_PROJECT) is Role.ADMIN

    @property
    def default_project(self) -> str:
        """The caller's only project, else `default`."""
        own = [project for project in self.principal.roles if project != EVERY_PROJECT]
        return own[0] if len(own) == 1 and EVERY_PROJECT not in self.principal.roles else DEFAULT_PROJECT

    def project(self, name: str | None) -> str:
        """The project that is meant, where the caller may do there what the route does. ProblemError otherwise."""
        project = name or self.default_project
        if self.principal.role(project) is None or project not in self.service.projects():
            msg = f"the project {project!r}"
            raise not_found(msg)
        self._check_role(project)
        self.note(project, project)
        return project

    def within(self, name: str | None) -> frozenset[str] | None:
        """The projects that a list is about: the one that is named, else all that the caller may look into."""
        if name is None:
            return self.projects
        if self.principal.role(name) is None or name not in self.service.projects():
            msg = f"the project {name!r}"
            raise not_found(msg)
        return frozenset((name,))

    def sweep(self, text: str) -> SweepRecord:
        """The sweep that is meant, where the caller may do with it what the route does. ProblemError otherwise."""
        record = self._meant(text)
        self.note(record.project, record.id)
        self._check_role(record.project)
        is_own = record.owner == self.principal.user or self.principal.may(Role.ADMIN, record.project)
        if self.rule.own and not is_own:
            detail = f"{record.id} belongs to {record.owner}; only they and admins of {record.project} may do this"
            raise forbidden(detail)
        return record

    def _meant(self, text: str) -> SweepRecord:
        """By its name or how its id begins, one of the project that is named; a whole id stands for itself."""
        if self.named_in is None:
            return self.service.store.sweep(text, self.projects)
        try:
            return self.service.store.sweep(text, self.within(self.named_in))
        except SweepNotFoundError:
            found = self.service.store.sweep(text, self.projects)
            if found.id != text:
                raise
            return found

    def made_with(self, key: str | None) -> SweepRecord | None:
        """The sweep that this very request made when it came with `key` before. KeyConflictError, as `Store.made_with`.

        Asked before anything else about the request is: what has changed since must not change its answer.
        """
        if key is None:
            return None
        within = self.service.projects() if self.projects is None else self.projects
        found = self.service.store.made_with(key, self.principal.user, self.digest, within)
        if found is not None:
            self._check_role(found.project)
            self.note(found.project, found.id)
        return found

    def once(self, key: str | None) -> Once | None:
        """What makes this request count once; None where it came without a key."""
        return None if key is None else Once(self.principal.user, key, self.digest)

    def most_urgent(self, project: str) -> int:
        """The highest priority that the caller may give a sweep of `project`."""
        is_admin = self.principal.may(Role.ADMIN, project)
        return HIGHEST_PRIORITY if is_admin else self.service.submitters_priority

    def check_priority(self, project: str, priority: int) -> None:
        """ProblemError where `priority` is higher than the caller may give."""
        most = self.most_urgent(project)
        if priority > most:
            message = f"in {project} only its admins give a priority above {most}"
            raise unfit(Fault(message, "priority", given=str(priority), allowed=f"at most {most}"))

    @property
    def digest(self) -> str:
        """What tells this request from others; only of requests with a body."""
        return str(self.state["digest"])

    def still_counts(self) -> bool:
        """Whether what the request was sent with still stands for the same user with the same roles. May block."""
        headers, address = self.state["shown"]
        try:
            return self.service.authenticator.authenticate(headers, address) == self.principal
        except (AuthError, ProviderAwayError):
            return False

    @property
    def deed(self) -> Deed:
        """What the request does, for whoever puts it on record together with what comes of it."""
        return Deed(self.principal.user, self.state["action"], self.state["address"])

    def is_on_record(self) -> None:
        """The audit log has the request already."""
        self.state["is_on_record"] = True

    def note(self, project: str | None, subject: str) -> None:
        """Say what the request is about, for the audit log."""
        self.state.update(project=project, subject=subject)

    def _check_role(self, project: str) -> None:
        needed = self.rule.needs
        if isinstance(needed, Role) and not self.principal.may(needed, project):
            role = self.principal.role(project)
            msg = f"you are {role or 'a stranger'} in {project}; this takes {needed}"
            raise forbidden(msg)


async def caller(request: Request) -> Caller:  # blocks on nothing, so it needs no thread
    """The caller, once the route's rule has been held against them as far as it speaks of no project."""
    route, state = request.scope["route"], request.scope["state"]
    state["action"] = f"{request.method} {route.path}"
    shared = request.app.state
    found = Caller(state["principal"], route.rule, shared.service, shared.streams, state)
    if route.rule.needs is Access.OPERATOR and not found.is_operator:
        msg = "only an admin of every project may do this"
        raise forbidden(msg)
    if not found.principal.roles:
        msg = "you are known here, but have no role in any project; ask an admin for one"
        raise forbidden(msg)
    return found


Asking = Annotated[Caller, Depends(caller)]
ProjectQuery = Annotated[str | None, Query(max_length=63)]


async def caller_of_a_sweep(
    found: Asking,
    project: Annotated[str | None, Query(max_length=63, description="Where a name is looked for.")] = None,
) -> Caller:
    """The caller of a route that is about a sweep."""
    return replace(found, named_in=project)


AskingOfSweep = Annotated[Caller, Depends(caller_of_a_sweep)]
