"""Idempotency-Keys: whatever makes something makes it once for each, and says the same of it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.api.auth import issue
from service.records import Role
from tests.serving import Served, once, serving, spec


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as found:
        yield found


def test_the_same_key_is_the_same_sweep(served: Served) -> None:
    body = json.dumps({"spec": spec()})
    headers = {"Idempotency-Key": "once", "Content-Type": "application/json"}

    def send(_: int) -> tuple[int, str]:
        answer = served.ask("submitter", "POST", "/sweeps", content=body, headers=headers)
        return answer.status_code, answer.json()["id"]

    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(send, range(30)))
    assert sorted(status for status, _ in found) == [200] * 29 + [201]
    assert len({sweep_id for _, sweep_id in found}) == 1
    other = served.ask("submitter", "POST", "/sweeps", json={"spec": spec(), "priority": 1}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (409, "urn:tuneyard:key-conflict")
    assert served.ask("colleague", "POST", "/sweeps", json={"spec": spec()}, headers=headers).status_code == 201


CONFLICT = (409, "urn:tuneyard:key-conflict")


def test_a_key_is_looked_up_before_anything_else(served: Served) -> None:
    source = served.submit(spec={**spec(), "name": "source"})
    content = json.dumps({"spec": {**spec(), "search": {"name": "bayes", "warm_start": ["source"]}}})
    status, first = once(served, "/sweeps", content)
    assert status == 201
    served.service.store.forget_sweep(source["id"])
    assert served.ask("operator", "PUT", "/quotas/user/*", json={"running_sweeps": 0}).status_code == 200
    assert once(served, "/sweeps", content, "new") == (422, "urn:tuneyard:invalid"), "it would be refused by now"
    assert once(served, "/sweeps", content) == (200, first)
    assert once(served, "/sweeps", json.dumps({"spec": {"name": "no sweep"}})) == CONFLICT
    assert once(served, "/sweeps", content + " ") == CONFLICT, "it is another body, byte for byte"
    assert once(served, "/sweeps", json.dumps({"spec": spec(), "project": "other"})) == CONFLICT
    served.service.store.forget_sweep(first)
    assert once(served, "/sweeps", content) == CONFLICT, "a deleted sweep is not made again"


def test_a_webhook_is_made_once_for_each_key(served: Served) -> None:
    body = json.dumps({"url": "https://1.1.1.1/hook", "kinds": ["failed"]})
    headers = {"Idempotency-Key": "hook", "Content-Type": "application/json"}
    answers = [served.ask("operator", "POST", "/webhooks", content=body, headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert len({answer.text for answer in answers}) == 1, "the secret, too"
    assert len(served.service.store.webhooks(None)) == 1
    assert once(served, "/webhooks", body.replace("failed", "finished"), "hook", "operator") == CONFLICT
    assert once(served, "/sweeps", json.dumps({"spec": spec()}), "hook", "operator") == CONFLICT
    served.ask("operator", "DELETE", f"/webhooks/{answers[0].json()['id']}")
    assert once(served, "/webhooks", body, "hook", "operator") == CONFLICT, "it has been removed since"


def test_a_token_is_made_once_for_each_key_and_its_text_is_kept_nowhere(served: Served) -> None:
    store, body = served.service.store, json.dumps({"name": "laptop"})
    before = len(store.tokens("submitter"))
    headers = {"Idempotency-Key": "token", "Content-Type": "application/json"}
    made = served.ask("submitter", "POST", "/tokens", content=body, headers=headers)
    again = served.ask("submitter", "POST", "/tokens", content=body, headers=headers)
    assert (made.status_code, again.status_code) == (201, 409)
    assert made.json()["id"] in again.json()["detail"]
    assert "revoke it" in again.json()["detail"]
    assert once(served, "/tokens", json.dumps({"name": "other"}), "token") == CONFLICT
    assert len(store.tokens("submitter")) == before + 1
    secret = made.json()["token"].rpartition("_")[2]
    files = [path.read_bytes() for path in served.service.home.rglob("*") if path.is_file()]
    assert files
    assert not any(secret.encode() in content for content in files)


def test_a_project_is_made_once_for_each_key(served: Served) -> None:
    headers = {"Idempotency-Key": "project"}
    answers = [
        served.ask("operator", "POST", "/projects", json={"name": name}, headers=headers).status_code
        for name in ("vision", "vision", "audio")
    ]
    assert answers == [201, 201, 409]
    assert "audio" not in served.service.store.projects()


def test_a_fork_by_name_is_made_once_though_the_name_is_its_own_by_now(served: Served) -> None:
    old = served.submit()
    path, content = f"/sweeps/{old['name']}/fork", json.dumps({"overrides": ["seed=1"]})
    status, fork = once(served, path, content)
    assert status == 201
    assert served.ask("viewer", "GET", f"/sweeps/{old['name']}").json()["id"] == fork
    assert once(served, path, content) == (200, fork)
    assert once(served, f"/sweeps/{old['id']}/fork", content) == CONFLICT
    assert once(served, "/sweeps", json.dumps({"spec": spec()})) == CONFLICT
    served.service.store.forget_sweep(old["id"])
    assert once(served, path, content) == (200, fork)


def test_a_key_shows_nobody_a_sweep_that_they_may_not_see(served: Served) -> None:
    content = json.dumps({"spec": spec(), "project": "other"})
    _, theirs = once(served, "/sweeps", content, who="operator")
    served.tokens["operator"] = issue(served.service.store, "operator", "less", {"default": Role.SUBMITTER})[0]
    status, kind = once(served, "/sweeps", content, who="operator")
    assert (status, kind) == (404, "urn:tuneyard:not-found")
    assert theirs
