"""The objects of a Kubernetes API server: versions, uids, finalizers, status apart, a history that can be compacted."""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tests.kube.schemas import Schema

Thing = dict[str, Any]


class RefusedError(Exception):
    """What the API server answers in place of an object."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message

    def body(self) -> Thing:
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message,
                "reason": self.reason, "code": self.code}  # fmt: skip


class Change(NamedTuple):
    version: int
    plural: str
    kind: str  # ADDED, MODIFIED, DELETED
    thing: Thing


class Objects:
    """All objects of all namespaces. Every change has a version, and is told to whoever watches."""

    def __init__(self, schemas: Mapping[str, Schema]) -> None:
        self._schemas, self._things = schemas, dict[tuple[str, str, str], Thing]()
        self._version, self._oldest = 1, 1
        self._history: list[Change] = []
        self.changed = threading.Condition(threading.RLock())

    @property
    def version(self) -> int:
        return self._version

    def create(self, plural: str, namespace: str, given: Thing, *, is_strict: bool) -> Thing:
        with self.changed:
            thing = self._valid(plural, given, is_strict=is_strict)
            name = thing["metadata"]["name"]
            if (plural, namespace, name) in self._things:
                raise RefusedError(409, "AlreadyExists", f'{plural}.ray.io "{name}" already exists')
            thing.pop("status", None)
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            own = {"namespace": namespace, "uid": str(uuid.uuid4()), "creationTimestamp": now, "generation": 1}
            thing["metadata"] = {**thing["metadata"], **own}
            return self._store(plural, "ADDED", thing)

    def get(self, plural: str, namespace: str, name: str) -> Thing:
        with self.changed:
            found = self._things.get((plural, namespace, name))
            if found is None:
                raise RefusedError(404, "NotFound", f'{plural}.ray.io "{name}" not found')
            return copy.deepcopy(found)

    def list(self, plural: str, namespace: str, selector: str) -> list[Thing]:
        with self.changed:
            found = [thing for (kind, where, _), thing in self._things.items() if (kind, where) == (plural, namespace)]
            return copy.deepcopy(
                sorted((t for t in found if matches(t, selector)), key=lambda t: t["metadata"]["name"])
            )

    def replace(self, plural: str, namespace: str, given: Thing, part: str = "") -> Thing:
        """PUT, of the whole or of its status: refused where the version is not the newest one."""
        with self.changed:
            have = self.get(plural, namespace, given["metadata"]["name"])
            self._same(have, given["metadata"])
            return self._change(plural, have, given, part)

    def patch(self, plural: str, namespace: str, name: str, change: Thing, part: str = "") -> Thing:
        """A merge patch, which may name the uid and the version that it means."""
        with self.changed:
            have = self.get(plural, namespace, name)
            self._same(have, change.get("metadata") or {})
            return self._change(plural, have, merged(have, change), part)

    def delete(self, plural: str, namespace: str, name: str, options: Thing) -> Thing:
        with self.changed:
            have = self.get(plural, namespace, name)
            meant = (options.get("preconditions") or {}).get("uid")
            if meant not in (None, have["metadata"]["uid"]):
                raise RefusedError(409, "Conflict", "the UID in the precondition does not match the UID in record")
            about = have["metadata"]
            if options.get("propagationPolicy") == "Foreground":
                about["finalizers"] = sorted({*about.get("finalizers", []), "foregroundDeletion"})
            if not about.get("finalizers"):
                return self._remove(plural, have)
            about.setdefault("deletionTimestamp", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
            return self._store(plural, "MODIFIED", have)

    def compact(self) -> None:
        """Forget the history: whoever watches from an earlier version has to list again."""
        with self.changed:
            self._version += 1
            self._oldest, self._history = self._version, []

    def since(self, version: int, plural: str, namespace: str, selector: str) -> Iterator[Change]:
        """What has changed after a version. RefusedError where that is too long ago."""
        with self.changed:
            if version < self._oldest:
                raise RefusedError(410, "Expired", f"too old resource version: {version} ({self._oldest})")
            found = [change for change in self._history if change.version > version and change.plural == plural]
        for change in found:
            if change.thing["metadata"]["namespace"] == namespace and matches(change.thing, selector):
                yield change

    def _same(self, have: Thing, meant: Mapping[str, Any]) -> None:
        messages = {
            "uid": "Precondition failed: UID in precondition",
            "resourceVersion": "the object has been modified; please apply your changes to the latest version",
        }
        for key, message in messages.items():
            if meant.get(key) not in (None, have["metadata"][key]):
                raise RefusedError(409, "Conflict", message)

    def _change(self, plural: str, have: Thing, given: Thing, part: str) -> Thing:
        thing = copy.deepcopy(have)
        if part == "status":
            thing["status"] = given.get("status")
        else:
            thing.update({key: value for key, value in given.items() if key not in ("status", "metadata")})
            kept = ("uid", "namespace", "creationTimestamp", "deletionTimestamp", "resourceVersion", "generation")
            own = {key: have["metadata"][key] for key in kept if key in have["metadata"]}
            thing["metadata"] = {**given["metadata"], **own}
        thing = self._valid(plural, thing, is_strict=True)
        if thing == have:
            return have
        if thing.get("spec") != have.get("spec"):
            thing["metadata"]["generation"] += 1
        if "deletionTimestamp" in thing["metadata"] and not thing["metadata"].get("finalizers"):
            return self._remove(plural, thing)
        return self._store(plural, "MODIFIED", thing)

    def _store(self, plural: str, kind: str, thing: Thing) -> Thing:
        self._version += 1
        thing["metadata"]["resourceVersion"] = str(self._version)
        self._things[plural, thing["metadata"]["namespace"], thing["metadata"]["name"]] = copy.deepcopy(thing)
        self._history.append(Change(self._version, plural, kind, copy.deepcopy(thing)))
        self.changed.notify_all()
        return thing

    def _remove(self, plural: str, thing: Thing) -> Thing:
        self._version += 1
        thing["metadata"]["resourceVersion"] = str(self._version)
        del self._things[plural, thing["metadata"]["namespace"], thing["metadata"]["name"]]
        self._history.append(Change(self._version, plural, "DELETED", copy.deepcopy(thing)))
        self.changed.notify_all()
        return thing

    def _valid(self, plural: str, thing: Thing, *, is_strict: bool) -> Thing:
        schema, thing = self._schemas.get(plural), copy.deepcopy(thing)
        if schema is None:
            return thing
        unknown, wrong = schema.check(thing)
        if wrong:
            raise RefusedError(422, "Invalid", f"is invalid: {'; '.join(wrong)}")
        if unknown and is_strict:
            fields = ", ".join(f'unknown field "{path}"' for path in unknown)
            raise RefusedError(400, "BadRequest", f"strict decoding error: {fields}")
        return thing

    def wait(self, timeout_s: float) -> None:
        with self.changed:
            self.changed.wait(timeout_s)


def matches(thing: Thing, selector: str) -> bool:
    """Whether the labels are those of `a=b,c`."""
    labels = thing["metadata"].get("labels") or {}
    wanted = [term.partition("=") for term in selector.split(",") if term]
    return all(key in labels and (not sign or labels[key] == value) for key, sign, value in wanted)


def merged(have: object, change: Thing) -> Thing:
    """A merge patch (RFC 7396)."""
    found = dict(have) if isinstance(have, dict) else {}
    for key, value in change.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value) if isinstance(value, dict) else value
    return found
