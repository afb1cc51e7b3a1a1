"""Who may do what on a server, for Python programs: tokens, projects, quotas, webhooks, the audit log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final, Literal
from urllib.parse import quote

from service.api.models import PackageAnswer, PackageList
from service.api.models_access import (
    AuditAnswer,
    AuditPage,
    NewToken,
    NewWebhook,
    ProjectAnswer,
    ProjectList,
    QuotaAnswer,
    QuotaList,
    TokenAnswer,
    TokenList,
    WebhookAnswer,
    WebhookList,
)
from service.client.http import Call, Transport, new_key
from service.records import Quota, Role

AUDIT_PAGE: Final = 1000


class Access:
    """`Client.access`."""

    def __init__(self, http: Transport, project: str | None) -> None:
        self._http = http
        self._project = project

    def tokens(self, *, everybody: bool = False) -> list[TokenAnswer]:
        """The caller's tokens, the newest first; with `everybody` all of them, for an admin of every project."""
        return self._http.get(TokenList, "/tokens", everybody=everybody or None).items

    def create_token(
        self,
        name: str,
        *,
        user: str | None = None,
        roles: Mapping[str, Role] | None = None,
        expires_in_s: float | None = None,
    ) -> NewToken:
        """A new token, whose secret is shown this once; its roles never exceed the caller's, which are the default."""
        given = None if roles is None else {project: str(role) for project, role in roles.items()}
        body = {"name": name, "user": user, "roles": given, "expires_in_s": expires_in_s}
        return self._http.ask(NewToken, Call("POST", "/tokens", body=body, key=new_key()))

    def revoke_token(self, token_id: str, *, alone: bool = False) -> None:
        """End a token at once, and all that were made with it unless `alone`."""
        query = {"alone": "true"} if alone else None
        self._http.send(Call("DELETE", f"/tokens/{quote(token_id, safe='')}", query))

    def projects(self) -> list[ProjectAnswer]:
        """The projects that the caller may look into."""
        return self._http.get(ProjectList, "/projects").items

    def create_project(self, name: str) -> ProjectAnswer:
        """A new project."""
        return self._http.ask(ProjectAnswer, Call("POST", "/projects", body={"name": name}, key=new_key()))

    def quotas(self) -> list[QuotaAnswer]:
        """The limits that bind the caller; all of them for an admin of every project."""
        return self._http.get(QuotaList, "/quotas").items

    def set_quota(self, kind: Literal["user", "project"], name: str, quota: Quota) -> QuotaAnswer:
        """Replace the limits of a user or a project."""
        path = f"/quotas/{kind}/{quote(name, safe='')}"
        return self._http.ask(QuotaAnswer, Call("PUT", path, body=asdict(quota)))

    def remove_quota(self, kind: Literal["user", "project"], name: str) -> None:
        """Have no limits of its own for a user or a project: those of `*` count."""
        self._http.send(Call("DELETE", f"/quotas/{kind}/{quote(name, safe='')}"))

    def packages(self) -> list[PackageAnswer]:
        """The code packages of the project."""
        return self._http.get(PackageList, "/packages", project=self._project).items

    def webhooks(self) -> list[WebhookAnswer]:
        """Where the project's events go."""
        return self._http.get(WebhookList, "/webhooks", project=self._project).items

    def add_webhook(self, url: str, kinds: Sequence[str], *, secret: str | None = None) -> NewWebhook:
        """Tell `url` of the project's events of these kinds, signed with a secret that is shown this once."""
        body = {"url": url, "kinds": list(kinds), "project": self._project, "secret": secret}
        return self._http.ask(NewWebhook, Call("POST", "/webhooks", body=body, key=new_key()))

    def remove_webhook(self, webhook_id: str) -> None:
        """Tell it nothing any more."""
        path = f"/webhooks/{quote(webhook_id, safe='')}"
        self._http.send(Call("DELETE", path, {"project": self._project}))

    def audit(self, *, after: int = 0, newest: int | None = None, before: int | None = None) -> AuditPage:
        """Who did what, from behind entry `after` on; with `newest` only the last of them, so many (at most 1000).

        With `before` only what came before that entry.
        """
        query = {"before": before, **({} if newest is None else {"limit": newest, "newest": True})}
        return self._http.get(AuditPage, "/audit", project=self._project, after=after, **query)

    def newest_audit(self, most: int) -> list[AuditAnswer]:
        """The last `most` entries of the audit log, the newest first."""
        found: list[AuditAnswer] = []
        while len(found) < most:
            before = found[-1].number if found else None
            page = self.audit(newest=min(AUDIT_PAGE, most - len(found)), before=before).items
            found += reversed(page)
            if not page:
                break
        return found
