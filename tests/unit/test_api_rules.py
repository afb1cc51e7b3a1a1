"""Who may do what, for every operation that the OpenAPI document has and everybody who could ask."""

from __future__ import annotations

import hashlib
import io
import ipaddress
import zipfile
from collections.abc import Iterator
from typing import Any, Final

import pytest
from fastapi import APIRouter
from fastapi.routing import iter_route_contexts

from service.api.app import openapi_document
from service.api.auth import issue
from service.api.guard import GuardedRoute, UndeclaredRouteError
from service.api.rules import RULES
from service.api.service import Limits
from service.records import Role
from service.shipping.unpacking import package_file
from tests.serving import PEOPLE, Served, serving, spec

PUBLIC_HOOK: Final = "http://192.0.2.7/hook"  # of documentation: allowed by the service below, never asked here
ANYBODY: Final = ("nobody", "bad", "expired", "revoked", *PEOPLE)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    networks = (ipaddress.ip_network("192.0.2.0/24"),)
    patient = Limits(failures_burst=10_000, public_burst=10_000)
    with serving(tmp_path_factory.mktemp("rules"), webhook_networks=networks, limits=patient) as found:
        store = found.service.store
        expired, _ = issue(store, "late", "test", {"*": Role.ADMIN}, expires_at=store.now() - 1)
        revoked, record = issue(store, "gone", "test", {"*": Role.ADMIN})
        store.revoke_token(record.id)
        bad = found.tokens["operator"][:-1] + ("0" if found.tokens["operator"][-1] != "0" else "1")
        found.tokens |= {"bad": bad, "expired": expired, "revoked": revoked}
        yield found


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as package:
        package.writestr(zipfile.ZipInfo("mine.py"), "lr = 0.1\n")  # whose time is always the same
    return content.getvalue()


def bodies() -> dict[str, Any]:
    return {
        "CreateSweep": {"spec": spec(), "project": "default"},
        "ForkSweep": {"overrides": ["budget.max_trials=7"], "keep_results": False},
        "ExtendSweep": {"max_trials": 9},
        "PrioritiseSweep": {"priority": 1},
        "CreateToken": {"name": "another"},
        "CreateProject": {"name": "third"},
        "QuotaBody": {"cpus": 64.0},
        "CreateWebhook": {"url": PUBLIC_HOOK, "kinds": ["finished"], "project": "default"},
    }


def request_for(served: Served, who: str, path: str, operation: dict[str, Any]) -> dict[str, Any]:
    """A request that is right in everything but, perhaps, who asks."""
    store = served.service.store
    values: dict[str, Any] = {"number": 0, "kind": "user", "name": "somebody"}
    names = {parameter["name"]: parameter for parameter in operation.get("parameters", ())}
    if "sweep" in names:
        values["sweep"] = served.submit("submitter")["id"]
    if "digest" in names:
        values["digest"] = hashlib.sha256(zipped()).hexdigest()
        if "put" not in operation["operationId"]:
            store.add_package("default", values["digest"], len(zipped()))
            kept = package_file(served.service.home, values["digest"])
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes(zipped())
    if "token_id" in names:
        values["token_id"] = issue(store, who, "extra", {"default": Role.VIEWER})[1].id
    if "webhook_id" in names:
        values["webhook_id"] = store.add_webhook("default", PUBLIC_HOOK, ("failed",), "s" * 16).id
    query = {"project": "default"} if "project" in names else {}
    if names.get("sweep", {}).get("in") == "query":
        query["sweep"] = values["sweep"]
    given: dict[str, Any] = {"params": query}
    content = operation.get("requestBody", {}).get("content", {})
    if "application/zip" in content:
        given["content"] = zipped()
    elif content:
        given["json"] = bodies()[content["application/json"]["schema"]["$ref"].rpartition("/")[2]]
    if who != "nobody":
        given["headers"] = {"Authorization": f"Bearer {served.tokens[who]}"}
    return {"url": path.format(**values), **given}


def expected(who: str, operation: dict[str, Any], path: str) -> int:
    """200 for yes, else the status of the refusal."""
    needs = operation["x-needs"]
    if needs == "public":
        return 200
    if who in ("nobody", "bad", "expired", "revoked"):
        return 401
    if needs == "operator":
        return 200 if who == "operator" else 403
    names = {parameter["name"] for parameter in operation.get("parameters", ())}
    is_about_default = needs != "signed_in" or not names.isdisjoint({"project", "sweep"}) or "{sweep}" in path
    if who == "stranger":
        return 404 if is_about_default else 200
    role = PEOPLE[who].get("default", Role.ADMIN)
    is_role_enough = needs == "signed_in" or role.covers(Role(needs))
    return 200 if is_role_enough and not (operation["x-own"] and who == "colleague") else 403


def operations() -> list[tuple[str, str]]:
    return [(rule.split(" ")[0], rule.split(" ")[1]) for rule in RULES]


@pytest.mark.parametrize(("method", "path"), operations(), ids=lambda part: part)
def test_each_operation_is_for_those_whom_its_rule_names(served: Served, method: str, path: str) -> None:
    operation = openapi_document(served.app)["paths"][path][method.lower()]
    wrong = []
    for who in ANYBODY:
        given = request_for(served, who, path, operation)
        answer = served.client.request(method, **given)
        is_fine = answer.status_code < 400 or "no-report" in answer.text
        status = 200 if is_fine else answer.status_code
        if status != expected(who, operation, path):
            wrong.append(f"{who}: {answer.status_code} {answer.text[:200]}")
        if who == "stranger" and operation["x-needs"] != "public":
            assert "submitter" not in answer.text, "what belongs to another project must not show"
    assert not wrong, "\n".join(wrong)


def test_the_document_has_every_rule_and_nothing_else(served: Served) -> None:
    paths = openapi_document(served.app)["paths"]
    assert {f"{method.upper()} {path}" for path, item in paths.items() for method in item} == set(RULES)


def test_a_route_without_a_rule_cannot_be_added() -> None:
    routes = APIRouter(route_class=GuardedRoute)
    with pytest.raises(UndeclaredRouteError, match="GET /api/v1/secrets has no rule"):
        routes.get("/api/v1/secrets")(lambda: None)


def test_no_route_goes_around_its_guard(served: Served) -> None:
    found = [context.original_route for context in iter_route_contexts(served.app.routes)]
    assert len(found) == len(RULES)
    assert all(isinstance(route, GuardedRoute) for route in found)


def test_lists_hold_nothing_of_other_projects(served: Served) -> None:
    sweep_id = served.submit("submitter")["id"]
    for path in ("/sweeps", "/events", "/queue", "/projects", "/quotas", "/webhooks", "/packages"):
        answer = served.ask("stranger", "GET", path)
        assert answer.status_code == 200, answer.text
        assert sweep_id not in answer.text
        assert "default" not in answer.text


def test_everybody_known_without_a_role_is_told_so(served: Served) -> None:
    text, _ = issue(served.service.store, "newcomer", "test", {})
    served.tokens["newcomer"] = text
    answer = served.ask("newcomer", "GET", "/sweeps")
    assert answer.status_code == 403
    assert "no role in any project" in answer.json()["detail"]


def test_a_token_never_exceeds_its_maker(served: Served) -> None:
    for roles in ({"default": "admin"}, {"*": "viewer"}, {"other": "viewer"}):
        answer = served.ask("submitter", "POST", "/tokens", json={"name": "up", "roles": roles})
        assert answer.status_code == 422, roles
        assert "no token can do more" in answer.text
    answer = served.ask("submitter", "POST", "/tokens", json={"name": "up", "user": "operator"})
    assert answer.status_code == 403
    assert served.ask("operator", "POST", "/tokens", json={"name": "up", "user": "eve"}).status_code == 201
