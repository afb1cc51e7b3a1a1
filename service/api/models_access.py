"""The shapes of the HTTP interface about people: tokens, projects, quotas, the audit log, webhooks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from service.api.models import EVENT_KIND, NAME, ROLE_PLACE, Answer, Body, ProjectName, UserName
from service.records import Role


class CreateToken(Body):
    """A new API token."""

    name: Annotated[str, Field(pattern=NAME)]
    """What it is for."""
    user: UserName | None = None
    """Whose it is; the caller's own where left out. Only an admin of every project may name another."""
    roles: Annotated[dict[Annotated[str, Field(pattern=ROLE_PLACE)], Annotated[Role, Field(strict=False)]],
                     Field(min_length=1, max_length=100)] | None = None  # fmt: skip
    """A role for each project, `*` for all; the caller's own where left out. None may exceed the caller's."""
    expires_in_s: Annotated[float, Field(gt=0, le=10 * 366 * 86_400)] | None = None
    """Seconds until it ends; left out, it lasts until it is revoked."""


class TokenAnswer(Answer):
    """A token without its secret."""

    id: str
    user: str
    name: str
    roles: dict[str, Role]
    created_at: float
    expires_at: float | None
    revoked_at: float | None


class NewToken(TokenAnswer):
    """A token with its secret, which is shown this once."""

    token: str


class TokenList(Answer):
    """Tokens, the newest first."""

    items: list[TokenAnswer]


class WhoAmI(Answer):
    """Who asks."""

    user: str
    roles: dict[str, Role]
    """For each project, `*` for all."""
    default_project: str
    """The project of requests that name none."""
    token_id: str | None
    version: str
    """Of the server."""


class CreateProject(Body):
    """A new project."""

    name: ProjectName


class ProjectAnswer(Answer):
    """A project and the caller's role in it."""

    name: str
    role: Role


class ProjectList(Answer):
    """The projects that the caller may look into."""

    items: list[ProjectAnswer]


Limit = Annotated[int, Field(ge=0, le=10**9)]
Amount = Annotated[float, Field(ge=0, le=1e12)]


class QuotaBody(Body):
    """Limits of a user or a project; null is no limit."""

    running_sweeps: Limit | None = None
    concurrent_trials: Limit | None = None
    cpus: Amount | None = None
    gpus: Amount | None = None
    trial_hours: Amount | None = None
    package_bytes: Annotated[int, Field(ge=0, le=10**15)] | None = None
    """Of all the code packages that are kept for a project; only for projects."""


class QuotaAnswer(Answer):
    """The limits of a user or a project."""

    kind: Literal["user", "project"]
    name: str
    running_sweeps: int | None
    concurrent_trials: int | None
    cpus: float | None
    gpus: float | None
    trial_hours: float | None
    package_bytes: int | None = None


class QuotaList(Answer):
    """Limits that bind the caller, or all of them for an admin of every project."""

    items: list[QuotaAnswer]


class AuditAnswer(Answer):
    """Who did what to what, and with which outcome."""

    number: int
    at: float
    user: str
    project: str | None
    action: str
    subject: str
    outcome: str
    address: str


class AuditPage(Answer):
    """The audit log in its order."""

    items: list[AuditAnswer]
    next: int
    """The `after` from which to ask on."""


class CreateWebhook(Body):
    """A place that is told of a project's events."""

    url: Annotated[str, Field(min_length=8, max_length=2000)]
    kinds: Annotated[tuple[Annotated[str, Field(pattern=EVENT_KIND)], ...],
                     Field(min_length=1, max_length=20, strict=False)]  # fmt: skip
    """Which events, as in started, improved, finished, failed."""
    project: ProjectName | None = None
    secret: Annotated[str, Field(min_length=16, max_length=200)] | None = None
    """Signs what is sent; made up where left out."""


class WebhookAnswer(Answer):
    """A webhook without its secret."""

    id: str
    project: str
    url: str
    kinds: list[str]
    created_at: float


class NewWebhook(WebhookAnswer):
    """A webhook with its secret, which is shown this once."""

    secret: str


class WebhookList(Answer):
    """The webhooks of a project."""

    items: list[WebhookAnswer]
