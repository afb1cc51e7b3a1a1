"""Routes about people: who am I, tokens, projects, quotas, the audit log, webhooks."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Query, Response

from service.api.auth import issue
from service.api.guard import Asking, Caller, ProjectQuery, router
from service.api.models_access import (
    AuditPage,
    CreateProject,
    CreateToken,
    CreateWebhook,
    NewToken,
    NewWebhook,
    ProjectAnswer,
    ProjectList,
    QuotaAnswer,
    QuotaBody,
    QuotaList,
    TokenList,
    WebhookList,
    WhoAmI,
)
from service.api.problems import forbidden, not_found, unfit
from service.api.rules import PREFIX
from service.api.service import own_version
from service.api.sweeps import Key
from service.control.notify_send import UndeliveredError, reachable
from service.errors import Fault
from service.plugins import nearest
from service.records import EVENT_KINDS, EVERY_PROJECT, Quota, Role, Webhook
from service.store import Origin

routes = router()
_LONGEST_S: Final = 90 * 86_400.0  # of a token whose maker has none: its identity may end, and nobody hears of it
QuotaKind = Literal["user", "project"]
QuotaName = Annotated[str, Path(pattern=r"^([A-Za-z0-9][A-Za-z0-9._@+|-]{0,126}|\*)$", description="`*`: all others.")]
Id = Annotated[str, Path(pattern=r"^[A-Za-z0-9-]{1,64}$")]


@routes.get(f"{PREFIX}/whoami", response_model=WhoAmI)
def whoami(caller: Asking) -> dict[str, Any]:
    """Who the caller is to this service."""
    principal = caller.principal
    return {
        "user": principal.user,
        "roles": dict(principal.roles),
        "default_project": caller.default_project,
        "token_id": principal.token_id,
        "version": own_version(),
    }


@routes.get(f"{PREFIX}/tokens", response_model=TokenList)
def list_tokens(
    caller: Asking,
    everybody: Annotated[Literal["true", "false"], Query(description="For an admin of every project.")] = "false",
) -> dict[str, Any]:
    """The caller's tokens, never their secrets."""
    if everybody == "true" and not caller.is_operator:
        msg = "only an admin of every project sees everybody's tokens"
        raise forbidden(msg)
    found = caller.service.store.tokens(None if everybody == "true" else caller.principal.user)
    return {"items": [asdict(record) for record in found]}


@routes.post(f"{PREFIX}/tokens", status_code=201, response_model=NewToken)
def create_token(body: CreateToken, caller: Asking, key: Key = None) -> dict[str, Any]:
    """Make a token, which expires with the one that it is made with at the latest. Its text is shown this once.

    One that is made with another kind of identity than a token expires within 90 days. The same Idempotency-Key again
    is a 409 that names the token: its text is nowhere kept.
    """
    user = body.user or caller.principal.user
    if user != caller.principal.user and not caller.is_operator:
        msg = "only an admin of every project makes tokens for others"
        raise forbidden(msg)
    roles = dict(body.roles if body.roles is not None else caller.principal.roles)
    faults = [_excess(caller, project, role) for project, role in roles.items()]
    found = [fault for fault in faults if fault is not None]
    if found:
        raise unfit(*found)
    store = caller.service.store
    asked = None if body.expires_in_s is None else store.now() + body.expires_in_s
    ends = [at for at in (asked, _makers_end(caller)) if at is not None]
    maker, ends_at = caller.principal.token_id, min(ends, default=None)
    origin = Origin(maker, caller.once(key))
    text, record = issue(store, user, body.name, roles, expires_at=ends_at, origin=origin)
    caller.note(None, record.id)
    return {**asdict(record), "token": text}


def _makers_end(caller: Caller) -> float | None:
    """When what the caller shows ends, which no token made with it may outlive for long; None where that is never."""
    store, token_id = caller.service.store, caller.principal.token_id
    if token_id is None:
        return None if caller.service.authenticator.is_open else store.now() + _LONGEST_S
    own = store.token(token_id, caller.principal.user)
    return None if own is None else own.expires_at


def _excess(caller: Caller, project: str, role: Role) -> Fault | None:
    """What is wrong with handing on `role` in `project`: it may not exceed the caller's own."""
    if project == EVERY_PROJECT:
        own = caller.principal.roles.get(EVERY_PROJECT)
    else:
        own = caller.principal.role(project)
        if own is not None and project not in caller.service.projects():
            return Fault("there is no such project", f"roles.{project}", given=str(role))
    if own is not None and own.covers(role):
        return None
    allowed = f"at most {own}" if own is not None else "projects that you have a role in"
    return Fault("no token can do more than whoever made it", f"roles.{project}", given=str(role), allowed=allowed)


@routes.delete(f"{PREFIX}/tokens/{{token_id}}", status_code=204, response_class=Response)
def revoke_token(
    token_id: Id,
    caller: Asking,
    alone: Annotated[Literal["true", "false"], Query(description="Whether what was made with it goes on.")] = "false",
) -> Response:
    """End a token of the caller's, or anybody's for an admin of every project, and all that were made with it."""
    if caller.service.store.token(token_id, None if caller.is_operator else caller.principal.user) is None:
        msg = f"the token {token_id}"
        raise not_found(msg)
    caller.note(None, token_id)
    caller.service.store.revoke_token(token_id, alone=alone == "true")
    caller.service.changed()
    return Response(status_code=204)


@routes.get(f"{PREFIX}/projects", response_model=ProjectList)
def list_projects(caller: Asking) -> dict[str, Any]:
    """The projects that the caller may look into."""
    roles = ((project, caller.principal.role(project)) for project in caller.service.store.projects())
    return {"items": [{"name": project, "role": role} for project, role in roles if role is not None]}


@routes.post(f"{PREFIX}/projects", status_code=201, response_model=ProjectAnswer)
def create_project(body: CreateProject, caller: Asking, key: Key = None) -> dict[str, Any]:
    """Make a project; making it again changes nothing."""
    caller.note(body.name, body.name)
    caller.service.store.add_project(body.name, once=caller.once(key))
    caller.service.changed()
    return {"name": body.name, "role": Role.ADMIN}


@routes.get(f"{PREFIX}/quotas", response_model=QuotaList)
def list_quotas(caller: Asking) -> dict[str, Any]:
    """The limits that bind the caller; all of them for an admin of every project."""
    found = caller.service.store.quotas().items()
    return {"items": [_quota(kind, name, q) for (kind, name), q in found if _concerns(caller, kind, name)]}


def _concerns(caller: Caller, kind: str, name: str) -> bool:
    if caller.is_operator:
        return True
    if name == "*":
        return True
    return name == caller.principal.user if kind == "user" else caller.principal.role(name) is not None


def _quota(kind: str, name: str, quota: Quota) -> dict[str, Any]:
    return {"kind": kind, "name": name, **asdict(quota)}


@routes.put(f"{PREFIX}/quotas/{{kind}}/{{name}}", response_model=QuotaAnswer)
def set_quota(
    kind: QuotaKind,
    name: QuotaName,
    body: QuotaBody,
    caller: Asking,
) -> dict[str, Any]:
    """Limit a user or a project; what is left out is no limit."""
    if kind == "user" and body.package_bytes is not None:
        raise unfit(Fault("code packages are a project's", "package_bytes", allowed="a quota of a project"))
    caller.note(name if kind == "project" else None, f"{kind}/{name}")
    quota = Quota(**body.model_dump())
    caller.service.store.set_quota(kind, name, quota)
    caller.service.changed()
    caller.service.wake()
    return _quota(kind, name, quota)


@routes.delete(f"{PREFIX}/quotas/{{kind}}/{{name}}", status_code=204, response_class=Response)
def remove_quota(kind: QuotaKind, name: QuotaName, caller: Asking) -> Response:
    """Limit a user or a project no more than the quota of `*` does."""
    caller.note(name if kind == "project" else None, f"{kind}/{name}")
    if not caller.service.store.remove_quota(kind, name):
        msg = f"a quota of the {kind} {name!r}"
        raise not_found(msg)
    caller.service.changed()
    caller.service.wake()
    return Response(status_code=204)


@routes.get(f"{PREFIX}/audit", response_model=AuditPage)
def audit(
    caller: Asking,
    project: ProjectQuery = None,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    before: Annotated[int | None, Query(ge=0, le=2**53, description="Only entries with a lower number.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    newest: Annotated[Literal["true", "false"], Query(description="The last ones, not the first.")] = "false",
) -> dict[str, Any]:
    """What was done in a project; without a project, in all of them for an admin of every project."""
    is_all = project is None and caller.is_operator
    projects = None if is_all else frozenset((caller.project(project),))
    is_newest = newest == "true"
    found = caller.service.store.audit(projects, after=after, before=before, limit=limit, newest=is_newest)
    return {"items": [asdict(record) for record in found], "next": found[-1].number if found else after}


@routes.get(f"{PREFIX}/webhooks", response_model=WebhookList)
def list_webhooks(caller: Asking, project: ProjectQuery = None) -> dict[str, Any]:
    """The webhooks of a project."""
    return {"items": [_webhook(hook) for hook in caller.service.store.webhooks(caller.project(project))]}


@routes.post(f"{PREFIX}/webhooks", status_code=201, response_model=NewWebhook)
def create_webhook(body: CreateWebhook, caller: Asking, key: Key = None) -> dict[str, Any]:
    """Have a project's events sent somewhere. The secret that signs them is shown this once.

    The same Idempotency-Key with the same body has the same answer, secret included.
    """
    project, store, once = caller.project(body.project), caller.service.store, caller.once(key)
    before = None if once is None else store.webhook_made_with(once, project)
    if before is not None:
        caller.note(project, before.id)
        return asdict(before)
    faults = [_no_event(at, kind) for at, kind in enumerate(body.kinds) if kind not in EVENT_KINDS]
    if faults:
        raise unfit(*faults)
    try:
        reachable(body.url, caller.service.webhook_networks)
    except UndeliveredError as error:
        raise unfit(Fault(str(error), "url")) from error
    secret = body.secret or secrets.token_urlsafe(32)
    hook = store.add_webhook(project, body.url, tuple(body.kinds), secret, once=once)
    caller.note(project, hook.id)
    return asdict(hook)


def _no_event(at: int, kind: str) -> Fault:
    """Nobody would ever be told of what does not exist, and nobody would notice."""
    allowed, near = ", ".join(EVENT_KINDS), nearest(kind, EVENT_KINDS)
    return Fault("there is no such event", f"kinds[{at}]", given=kind, allowed=allowed, nearest=near)


@routes.delete(f"{PREFIX}/webhooks/{{webhook_id}}", status_code=204, response_class=Response)
def remove_webhook(webhook_id: Id, caller: Asking, project: ProjectQuery = None) -> Response:
    """Send nothing there any more."""
    place = caller.project(project)
    caller.note(place, webhook_id)
    if not caller.service.store.remove_webhook(webhook_id, frozenset((place,))):
        msg = f"the webhook {webhook_id}"
        raise not_found(msg)
    return Response(status_code=204)


def _webhook(hook: Webhook) -> dict[str, Any]:
    return {name: value for name, value in asdict(hook).items() if name != "secret"}
