"""What each route of the HTTP interface is, and who may use it: the one list from which the checks and tests are made.

A route that is not listed here cannot be added. `needs` is the role in the project that the request is about, and
`SIGNED_IN` anybody with an identity, `PUBLIC` anybody at all, `OPERATOR` an admin of every project.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from service.records import Role

PREFIX: Final = "/api/v1"


class Access(StrEnum):
    """Rules beside the roles of a project."""

    PUBLIC = "public"
    SIGNED_IN = "signed_in"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may use a route; `own` adds that a submitter may do it to sweeps of their own only, an admin to all."""

    needs: Role | Access
    own: bool = False


_VIEW, _SUBMIT, _ADMIN = Rule(Role.VIEWER), Rule(Role.SUBMITTER), Rule(Role.ADMIN)
_OWN = Rule(Role.SUBMITTER, own=True)
_PUBLIC, _SIGNED_IN, _OPERATOR = Rule(Access.PUBLIC), Rule(Access.SIGNED_IN), Rule(Access.OPERATOR)

RULES: Final[dict[str, Rule]] = {
    "GET /healthz": _PUBLIC,
    "GET /readyz": _PUBLIC,
    "GET /metrics": _PUBLIC,
    "GET /api/v1/openapi.json": _PUBLIC,
    "GET /api/v1/docs": _PUBLIC,
    "POST /api/v1/sweeps": _SUBMIT,
    "GET /api/v1/sweeps": _SIGNED_IN,
    "GET /api/v1/sweeps/{sweep}": _VIEW,
    "DELETE /api/v1/sweeps/{sweep}": _OWN,
    "POST /api/v1/sweeps/{sweep}/cancel": _OWN,
    "POST /api/v1/sweeps/{sweep}/pause": _OWN,
    "POST /api/v1/sweeps/{sweep}/resume": _OWN,
    "POST /api/v1/sweeps/{sweep}/extend": _OWN,
    "POST /api/v1/sweeps/{sweep}/prioritise": _OWN,
    "POST /api/v1/sweeps/{sweep}/fork": _SUBMIT,
    "GET /api/v1/sweeps/{sweep}/trials": _VIEW,
    "GET /api/v1/sweeps/{sweep}/trials/{number}/logs": _VIEW,
    "GET /api/v1/sweeps/{sweep}/events": _VIEW,
    "GET /api/v1/sweeps/{sweep}/logs": _VIEW,
    "GET /api/v1/sweeps/{sweep}/report": _VIEW,
    "GET /api/v1/sweeps/{sweep}/report.html": _VIEW,
    "GET /api/v1/sweeps/{sweep}/best": _VIEW,
    "GET /api/v1/events": _SIGNED_IN,
    "GET /api/v1/compare": _SIGNED_IN,
    "GET /api/v1/queue": _SIGNED_IN,
    "GET /api/v1/cluster": _SIGNED_IN,
    "GET /api/v1/packages": _VIEW,
    "HEAD /api/v1/packages/{digest}": _VIEW,
    "PUT /api/v1/packages/{digest}": _SUBMIT,
    "GET /api/v1/whoami": _SIGNED_IN,
    "GET /api/v1/tokens": _SIGNED_IN,
    "POST /api/v1/tokens": _SIGNED_IN,
    "DELETE /api/v1/tokens/{token_id}": _SIGNED_IN,
    "GET /api/v1/projects": _SIGNED_IN,
    "POST /api/v1/projects": _OPERATOR,
    "GET /api/v1/quotas": _SIGNED_IN,
    "PUT /api/v1/quotas/{kind}/{name}": _OPERATOR,
    "DELETE /api/v1/quotas/{kind}/{name}": _OPERATOR,
    "GET /api/v1/audit": _ADMIN,
    "GET /api/v1/webhooks": _ADMIN,
    "POST /api/v1/webhooks": _ADMIN,
    "DELETE /api/v1/webhooks/{webhook_id}": _ADMIN,
}
