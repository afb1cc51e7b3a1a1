"""Who may do what, and who did: projects, tokens, quotas, code packages, webhooks and the audit log."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import sqlalchemy as sa

from service.records import AuditRecord, CodePackage, Quota, Role, TokenRecord, Webhook
from service.store.audit import Deed, note
from service.store.database import Database
from service.store.keys import NO_PROJECT, UNKEYED, KeyConflictError, Once, Origin, claim, first_of
from service.store.rows import audit_of, package_of, quota_of, quota_row, token_of, webhook_of
from service.store.schema import audit, deliveries, packages, projects, quotas, sweeps, tokens, webhooks

DEFAULT_PROJECT: Final = "default"


class Access:
    """The store's part for people and what is theirs."""

    _database: Database

    def add_project(self, name: str, *, once: Once | None = None) -> None:
        """Make a project, unless there is one of this name. KeyConflictError where `once` was another request."""

        def work(connection: sa.Connection) -> None:
            now = self._database.now(connection)
            claim(self._database, connection, once, NO_PROJECT, name, now)
            self._database.insert_new(connection, projects, {"name": name, "created_at": now})

        self._database.write(work)

    def projects(self) -> list[str]:
        """All projects by name; `default` is always there."""
        query = sa.select(projects.c.name).order_by(projects.c.name)
        return self._database.read(lambda c: [str(name) for name in c.scalars(query)])

    def add_token(
        self,
        user: str,
        name: str,
        roles: Mapping[str, Role],
        *,
        token_hash: str,
        expires_at: float | None = None,
        origin: Origin = UNKEYED,
    ) -> TokenRecord:
        """Keep a token by its hash.

        KeyConflictError where `origin.once` came before, if only with the same: nobody has the token's text any more.
        """

        def work(connection: sa.Connection) -> TokenRecord:
            chosen, now = secrets.token_hex(6), self._database.now(connection)
            before = claim(self._database, connection, origin.once, NO_PROJECT, chosen, now)
            if before is not None:
                msg = f"this Idempotency-Key made the token {before}, whose text is shown once; if that was lost, "
                raise KeyConflictError(msg + "revoke it and take a new key")
            plain = {project: role.value for project, role in roles.items()}
            row: dict[str, Any] = {"id": chosen, "user": user, "name": name, "roles": plain, "token_hash": token_hash}
            row["made_with"] = origin.made_with
            connection.execute(sa.insert(tokens).values({**row, "created_at": now, "expires_at": expires_at}))
            return TokenRecord(chosen, user, name, dict(roles), now, expires_at)

        return self._database.write(work)

    def token_by_hash(self, token_hash: str) -> TokenRecord | None:
        """The token of this hash, also where it has expired or been revoked; None where there never was one."""
        query = sa.select(tokens).where(tokens.c.token_hash == token_hash)
        row = self._database.read(lambda c: c.execute(query).one_or_none())
        return None if row is None else token_of(row)

    def token(self, token_id: str, user: str | None) -> TokenRecord | None:
        """The token of this id, if it is `user`'s, or anybody's; also one that is of no use any more."""
        query = sa.select(tokens).where(tokens.c.id == token_id)
        query = query if user is None else query.where(tokens.c.user == user)
        row = self._database.read(lambda c: c.execute(query).one_or_none())
        return None if row is None else token_of(row)

    def tokens(self, user: str | None) -> list[TokenRecord]:
        """The tokens of `user`, or of everyone, the newest first; also those that are of no use any more."""
        query = sa.select(tokens).order_by(tokens.c.created_at.desc(), tokens.c.id)
        query = query if user is None else query.where(tokens.c.user == user)
        return self._database.read(lambda c: [token_of(row) for row in c.execute(query)])

    def revoke_token(self, token_id: str, *, alone: bool = False) -> bool:
        """Make a token useless from now on, and all that were made with it unless `alone`; whether it was of use."""

        def work(connection: sa.Connection) -> bool:
            now, counts = self._database.now(connection), tokens.c.revoked_at.is_(None)
            change = sa.update(tokens).values(revoked_at=now)
            was_of_use = bool(connection.execute(change.where(tokens.c.id == token_id, counts)).rowcount)
            if not alone:
                heirs = sa.select(tokens.c.id).where(tokens.c.made_with == token_id).cte(recursive=True)
                heirs = heirs.union(sa.select(tokens.c.id).where(tokens.c.made_with == heirs.c.id))
                connection.execute(change.where(tokens.c.id.in_(sa.select(heirs.c.id)), counts))
            return was_of_use

        return self._database.write(work)

    def set_quota(self, kind: Literal["user", "project"], name: str, quota: Quota) -> None:
        """Set what a user or a project may have; the name `*` stands for each that has no quota of its own."""
        row = {"kind": kind, "name": name, "quota": quota_row(quota)}
        change = self._database.insert(quotas).values(row).on_conflict_do_update(
            index_elements=[quotas.c.kind, quotas.c.name], set_={"quota": row["quota"]}
        )  # fmt: skip
        self._database.write(lambda connection: connection.execute(change))

    def remove_quota(self, kind: Literal["user", "project"], name: str) -> bool:
        """Forget what a user or a project may have, so that the quota of `*` counts; whether there was any."""
        gone = sa.delete(quotas).where(quotas.c.kind == kind, quotas.c.name == name)
        return self._database.write(lambda connection: bool(connection.execute(gone).rowcount))

    def quotas(self) -> dict[tuple[str, str], Quota]:
        """All quotas by kind (`user` or `project`) and name."""
        query = sa.select(quotas)
        return self._database.read(lambda c: {(row.kind, row.name): quota_of(row) for row in c.execute(query)})

    def add_package(self, project: str, digest: str, size_bytes: int) -> CodePackage:
        """Note that a project has sent a code package; sending it again changes nothing."""

        def work(connection: sa.Connection) -> CodePackage:
            now = self._database.now(connection)
            row = {"digest": digest, "project": project, "size_bytes": size_bytes, "created_at": now}
            self._database.insert_new(connection, packages, row)
            is_it = (packages.c.digest == digest) & (packages.c.project == project)
            return package_of(connection.execute(sa.select(packages).where(is_it)).one())

        return self._database.write(work)

    def package_bytes(self, project: str) -> int:
        """How much the code packages of a project take, together."""
        query = sa.select(sa.func.sum(packages.c.size_bytes)).where(packages.c.project == project)
        return self._database.read(lambda connection: int(connection.scalar(query) or 0))

    def forget_packages(self, before: float) -> list[str]:
        """Forget the code packages that were sent before then and that no sweep is about; the digests of those gone."""

        def work(connection: sa.Connection) -> list[str]:
            is_wanted = sa.select(sweeps.c.id).where(sweeps.c.code == packages.c.digest).exists()
            is_old = packages.c.created_at < before
            gone = connection.execute(sa.delete(packages).where(is_old, ~is_wanted).returning(packages.c.digest))
            digests = set(gone.scalars())
            left = connection.execute(sa.select(packages.c.digest).where(packages.c.digest.in_(digests)))
            return sorted(digests - set(left.scalars()))

        return self._database.write(work)

    def package(self, digest: str, projects: frozenset[str] | None) -> CodePackage | None:
        """The code package of this digest, if one of `projects` has sent it."""
        return next(iter(self._packages(projects, digest)), None)

    def packages(self, projects: frozenset[str] | None) -> list[CodePackage]:
        """The code packages that `projects` have sent, the newest first, each once."""
        return list({package.digest: package for package in self._packages(projects, None)}.values())

    def _packages(self, projects: frozenset[str] | None, digest: str | None) -> list[CodePackage]:
        query = sa.select(packages).order_by(packages.c.created_at.desc(), packages.c.digest)
        query = query if projects is None else query.where(packages.c.project.in_(projects))
        query = query if digest is None else query.where(packages.c.digest == digest)
        return self._database.read(lambda c: [package_of(row) for row in c.execute(query)])

    def add_audit(
        self, user: str, project: str | None, action: str, subject: str, outcome: str, address: str = ""
    ) -> None:
        """Put on record for good who did what; the database itself refuses to change or remove it."""

        def work(connection: sa.Connection) -> None:
            what = {"project": project, "subject": subject, "outcome": outcome, "at": self._database.now(connection)}
            note(self._database, connection, Deed(user, action, address), what)

        self._database.write(work)

    def audit(
        self,
        projects: frozenset[str] | None,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int = 200,
        newest: bool = False,
    ) -> list[AuditRecord]:
        """Entries with a number above `after` and below `before`, the oldest first.

        Those of no project only where `projects` is None. Of more than `limit` the first ones, or with `newest` the
        last ones.
        """
        order = audit.c.number.desc() if newest else audit.c.number
        query = sa.select(audit).where(audit.c.number > after).order_by(order).limit(limit)
        query = query if projects is None else query.where(audit.c.project.in_(projects))
        query = query if before is None else query.where(audit.c.number < before)
        found = self._database.read(lambda c: [audit_of(row) for row in c.execute(query)])
        return found[::-1] if newest else found

    def add_webhook(
        self, project: str, url: str, kinds: Sequence[str], secret: str, *, once: Once | None = None
    ) -> Webhook:
        """Have `url` told of the project's events of these kinds from now on; or what `once` made before.

        KeyConflictError where that was another request, or its webhook has been removed since.
        """

        def work(connection: sa.Connection) -> Webhook:
            chosen, now = secrets.token_hex(6), self._database.now(connection)
            before = claim(self._database, connection, once, project, chosen, now)
            if before is not None:
                return _made(connection, before)
            hook = Webhook(chosen, project, url, tuple(kinds), secret, now)
            row: dict[str, Any] = {"id": chosen, "project": project, "url": url, "kinds": list(kinds)}
            connection.execute(sa.insert(webhooks).values({**row, "secret": secret, "created_at": now}))
            return hook

        return self._database.write(work)

    def webhook_made_with(self, once: Once, project: str) -> Webhook | None:
        """The webhook that this very request made before; None where its key is new. KeyConflictError as above."""

        def work(connection: sa.Connection) -> Webhook | None:
            before = first_of(connection, once, (project,))
            return None if before is None else _made(connection, before)

        return self._database.read(work)

    def webhooks(self, project: str | None) -> list[Webhook]:
        """The webhooks of a project, or of all, the oldest first."""
        query = sa.select(webhooks).order_by(webhooks.c.created_at, webhooks.c.id)
        query = query if project is None else query.where(webhooks.c.project == project)
        return self._database.read(lambda c: [webhook_of(row) for row in c.execute(query)])

    def remove_webhook(self, webhook_id: str, projects: frozenset[str] | None) -> bool:
        """Forget a webhook of `projects` and what it has not been told yet; whether there was one."""

        def work(connection: sa.Connection) -> bool:
            is_it = webhooks.c.id == webhook_id
            is_it = is_it if projects is None else is_it & webhooks.c.project.in_(projects)
            if not connection.execute(sa.delete(webhooks).where(is_it)).rowcount:
                return False
            connection.execute(sa.delete(deliveries).where(deliveries.c.webhook_id == webhook_id))
            return True

        return self._database.write(work)


def _made(connection: sa.Connection, webhook_id: str) -> Webhook:
    row = connection.execute(sa.select(webhooks).where(webhooks.c.id == webhook_id)).one_or_none()
    if row is None:
        msg = f"this Idempotency-Key made the webhook {webhook_id}, which has been removed since; take a new key"
        raise KeyConflictError(msg)
    return webhook_of(row)
