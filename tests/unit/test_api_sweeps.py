"""Sweeps over HTTP: submitted once for each key, listed, steered, forked, and shown from their folders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from cluster.backend import JobState
from service.api.auth import AuthSettings, ProxySettings
from service.api.models import Details, Sweep
from service.queueing import lifecycle
from service.queueing.lifecycle import Cancel
from service.records import Role
from service.store import audit
from tests.serving import URL, Served, once, serving, spec, write_sweep


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path, mlflow_url="http://mlflow.example.org") as found:
        yield found


def test_a_submitted_sweep_is_queued_as_it_was_sent(served: Served) -> None:
    found = Sweep.model_validate(served.submit("submitter", priority=3, facts={"git_commit": "abc"}))
    assert (found.state, found.owner, found.project, found.priority) == ("queued", "submitter", "default", 3)
    assert found.facts == {"git_commit": "abc"}
    assert {**found.spec, "code": {}} == {**spec(), "code": {}}
    assert found.spec["code"]["root"] == ".", "the folder of whoever sent it means nothing here"
    assert served.ask("viewer", "GET", f"/sweeps/{found.id}").json()["id"] == found.id


def test_only_admins_let_sweeps_go_before_all_others(served: Served) -> None:
    assert served.submit("submitter", priority=100)["priority"] == 100
    urgent = served.submit("admin", priority=1000)
    mine = served.submit("submitter")
    for path, body in (
        ("/sweeps", {"spec": spec(), "priority": 101}),
        (f"/sweeps/{mine['id']}/fork", {"priority": 101}),
        (f"/sweeps/{mine['id']}/prioritise", {"priority": 101}),
    ):
        answer = served.ask("submitter", "POST", path, json=body)
        assert answer.status_code == 422, path
        assert answer.json()["faults"][0]["path"] == "priority"
        assert "at most 100" in answer.text
    assert served.ask("submitter", "POST", f"/sweeps/{urgent['id']}/fork", json={}).json()["priority"] == 100
    assert served.ask("admin", "POST", f"/sweeps/{mine['id']}/prioritise", json={"priority": 1000}).status_code == 200


def test_the_words_of_other_tools_are_read_as_in_a_file(served: Served) -> None:
    body = {**spec(), "search": "tpe"}
    body["algorithm"] = "x"
    refused = served.ask("submitter", "POST", "/sweeps", json={"spec": body})
    assert refused.status_code == 422
    body.pop("algorithm")
    answer = served.ask("submitter", "POST", "/sweeps", json={"spec": {**body, "search": {"name": "tpe"}}})
    assert answer.json()["spec"]["search"]["name"] == "tpe"


def test_all_faults_come_at_once(served: Served) -> None:
    body = {**spec(), "budget": {"max_trials": -1, "max_trails": 5}, "metric": {"name": "val_loss", "goal": "up"}}
    answer = served.ask("submitter", "POST", "/sweeps", json={"spec": body})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    faults = {fault["path"]: fault for fault in answer.json()["faults"]}
    assert set(faults) == {"budget.max_trials", "budget.max_trails", "metric.goal"}
    assert faults["budget.max_trails"]["nearest"] == "max_trials"


def test_a_webhook_for_what_never_happens_is_refused(served: Served) -> None:
    body = {"url": "https://1.1.1.1/hook", "kinds": ["finished", "finish"]}
    refused = served.ask("operator", "POST", "/webhooks", json=body)
    (fault,) = refused.json()["faults"]
    assert (refused.status_code, fault["path"], fault["nearest"]) == (422, "kinds[1]", "finished")


def test_the_audit_log_is_read_page_by_page_from_its_end(served: Served) -> None:
    for name in ("one", "two", "three", "four", "five"):
        served.ask("operator", "POST", "/projects", json={"name": name})
    whole = [entry["number"] for entry in served.ask("operator", "GET", "/audit").json()["items"]]
    seen: list[int] = []
    while True:
        query = {"newest": "true", "limit": 2, **({"before": seen[0]} if seen else {})}
        page = [entry["number"] for entry in served.ask("operator", "GET", "/audit", params=query).json()["items"]]
        if not page:
            break
        seen = page + seen
    assert seen == whole


def test_what_people_saw_counts_as_long_as_a_sweep_only_goes_on(served: Served) -> None:
    sweep_id, store = served.submit()["id"], served.service.store
    path = f"/sweeps/{sweep_id}"
    store.act(sweep_id, None, lifecycle.Placed(1), by="controller")
    store.act(sweep_id, None, lifecycle.JobSeen(1, JobState.RUNNING, {"epochs": 1}), by="controller")
    seen = served.ask("submitter", "GET", path)
    for epochs in (2, 3):
        store.act(sweep_id, None, lifecycle.JobSeen(1, JobState.RUNNING, {"epochs": epochs}), by="controller")
    store.act(sweep_id, None, lifecycle.Rebalanced(2), by="controller")
    headers = {"If-Match": seen.headers["ETag"]}
    body = {"priority": 7}
    assert served.ask("submitter", "POST", f"{path}/prioritise", json=body, headers=headers).status_code == 200
    stale = served.ask("submitter", "POST", f"{path}/prioritise", json=body, headers=headers)
    assert (stale.status_code, stale.json()["type"]) == (412, "urn:tuneyard:version-conflict")
    by_version = {"If-Match": f'"{seen.json()["version"]}"'}
    assert served.ask("submitter", "POST", f"{path}/pause", headers=by_version).status_code == 412


def test_lists_are_filtered_and_come_in_pages(served: Served) -> None:
    ids = [served.submit(who)["id"] for who in ("submitter", "colleague", "submitter")]
    served.ask("submitter", "POST", f"/sweeps/{ids[0]}/cancel")
    first = served.ask("viewer", "GET", "/sweeps", params={"limit": 2}).json()
    second = served.ask("viewer", "GET", "/sweeps", params={"limit": 2, "after": first["next"]}).json()
    assert [item["id"] for item in first["items"] + second["items"]] == ids[::-1]
    assert second["next"] is None

    def listed(**query: str) -> list[str]:
        return [item["id"] for item in served.ask("submitter", "GET", "/sweeps", params=query).json()["items"]]

    assert listed(mine="true") == [ids[2], ids[0]]
    assert listed(state="cancelled") == [ids[0]]
    assert listed(owner="colleague") == [ids[1]]
    assert listed(text=ids[1][-6:]) == [ids[1]]
    assert served.ask("viewer", "GET", "/sweeps", params={"after": "nonsense"}).status_code == 422


def test_what_cannot_be_done_now_says_why(served: Served) -> None:
    sweep_id = served.submit()["id"]
    changed = served.ask("submitter", "POST", f"/sweeps/{sweep_id}/cancel").json()
    again = served.ask("submitter", "POST", f"/sweeps/{sweep_id}/pause")
    assert (again.status_code, again.json()["type"]) == (409, "urn:tuneyard:illegal-move")
    stale = served.ask("submitter", "POST", f"/sweeps/{sweep_id}/cancel", headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["type"]) == (412, "urn:tuneyard:version-conflict")
    fresh = {"If-Match": f'"{changed["version"]}"'}
    longer = served.ask("submitter", "POST", f"/sweeps/{sweep_id}/extend", json={"max_trials": 50}, headers=fresh)
    assert longer.json()["spec"]["budget"]["max_trials"] == 50
    assert longer.json()["state"] == "queued"


def test_a_fork_learns_from_the_old_sweep(served: Served) -> None:
    old = served.submit("submitter", priority=2)
    body = {"name": "second", "overrides": ["parameters.model.init_args.lr.max=0.5", "budget.max_trials=7"]}
    new = served.ask("colleague", "POST", f"/sweeps/{old['id']}/fork", json=body).json()
    assert (new["owner"], new["forked_from"], new["priority"], new["name"]) == ("colleague", old["id"], 2, "second")
    assert new["spec"]["search"]["warm_start"] == [old["id"]]
    assert new["spec"]["parameters"]["model.init_args.lr"]["max"] == 0.5
    bad = served.ask("colleague", "POST", f"/sweeps/{old['id']}/fork", json={"overrides": ["budget.max_trails=7"]})
    assert bad.json()["faults"][0]["nearest"] == "max_trials"
    plain = served.ask("colleague", "POST", f"/sweeps/{old['id']}/fork", json={"keep_results": False}).json()
    assert "warm_start" not in plain["spec"]["search"] or not plain["spec"]["search"]["warm_start"]


def test_a_sweep_learns_only_from_sweeps_of_its_project(served: Served) -> None:
    mine = served.submit()
    foreign = served.ask("stranger", "POST", "/sweeps", json={"spec": {**spec(), "name": "theirs"}}).json()
    good = served.submit("submitter", spec={**spec(), "search": {"name": "bayes", "warm_start": [mine["name"]]}})
    assert good["spec"]["search"]["warm_start"] == [mine["id"]]
    for source in (foreign["id"], "theirs", "mlflow:everything", {"experiment": "x", "uri": "http://10.0.0.1"}):
        body = {**spec(), "search": {"name": "bayes", "warm_start": [source]}}
        answer = served.ask("submitter", "POST", "/sweeps", json={"spec": body})
        assert answer.status_code == 422, source
        assert answer.json()["faults"][0]["path"] == "search.warm_start[0]"


def test_a_quota_is_removed(served: Served) -> None:
    served.ask("operator", "PUT", "/quotas/user/*", json={"running_sweeps": 0})
    assert served.ask("submitter", "POST", "/sweeps", json={"spec": spec()}).status_code == 422
    assert served.ask("submitter", "DELETE", "/quotas/user/*").status_code == 403
    assert served.ask("operator", "DELETE", "/quotas/user/*").status_code == 204
    assert served.ask("operator", "DELETE", "/quotas/user/*").status_code == 404
    assert served.ask("operator", "GET", "/quotas").json() == {"items": []}
    served.submit()


def test_only_an_operator_gives_a_sweep_up_without_its_cluster(served: Served) -> None:
    sweep_id, store = served.submit()["id"], served.service.store
    store.act(sweep_id, None, lifecycle.Placed(1), by="controller")
    path = f"/sweeps/{sweep_id}/cancel"
    assert served.ask("submitter", "POST", path, params={"force": "true"}).status_code == 403
    assert served.ask("submitter", "POST", path).json()["state"] == "stopping"
    given_up = served.ask("operator", "POST", path, params={"force": "true"}).json()
    assert (given_up["state"], given_up["reason"]) == ("cancelled", lifecycle.GIVEN_UP)
    assert served.ask("operator", "POST", path, params={"force": "true"}).status_code == 409
    entry = store.audit(None, newest=True)[-2]
    assert (entry.subject, entry.outcome) == (f"{sweep_id} by force", "200")


def test_a_quota_that_can_never_be_met_is_told_at_once(served: Served) -> None:
    assert served.ask("operator", "PUT", "/quotas/project/default", json={"cpus": 2.0}).status_code == 200
    body = {**spec(), "resources": {"cpu": 4}}
    answer = served.ask("submitter", "POST", "/sweeps", json={"spec": body})
    assert answer.json()["faults"][0]["path"] == "resources.cpu"
    assert "the project default" in answer.json()["faults"][0]["message"]
    assert served.ask("operator", "PUT", "/quotas/user/*", json={"running_sweeps": 0}).status_code == 200
    assert "may run nothing" in served.ask("submitter", "POST", "/sweeps", json={"spec": spec()}).text


def test_what_came_of_a_sweep_is_read_from_its_folder(served: Served) -> None:
    record = served.submit()
    folder = write_sweep(served.service.home, record, [0.5, 0.2, 0.9])
    progress = {"best": {"trial": 1, "value": 0.2}, "metric": {"name": "val_loss", "goal": "minimize"},
                "tracking": {"experiment_id": "3", "run_id": "abc"}, "eta_s": float("nan")}  # fmt: skip
    (folder / "progress.json").write_text(json.dumps(progress))
    shown = served.ask("viewer", "GET", f"/sweeps/{record['id']}").json()
    assert shown["progress"]["best"]["value"] == 0.2
    assert shown["progress"]["eta_s"] is None
    assert shown["mlflow_url"] == "http://mlflow.example.org/#/experiments/3/runs/abc"
    found = Details.model_validate(
        served.ask("viewer", "GET", f"/sweeps/{record['id']}/trials", params={"limit": 2}).json()
    )
    assert ([t.trial for t in found.trials], found.trials_total) == ([1, 0], 3)
    compared = served.ask("viewer", "GET", "/compare", params={"sweep": [record["id"], record["name"]]}).json()
    assert compared["sweeps"][0]["best_over_time"] == [[1, 3.0, 0.5], [2, 13.0, 0.2]]
    best = served.ask("viewer", "GET", f"/sweeps/{record['id']}/best").json()
    assert "0.2" in best["config"]
    assert "lr: 0.01" in best["config"]
    page = served.ask("viewer", "GET", f"/sweeps/{record['id']}/report.html")
    assert page.headers["content-type"].startswith("text/html")
    assert "sandbox" in page.headers["content-security-policy"]
    assert served.ask("viewer", "GET", f"/sweeps/{record['id']}/report").json()["best"]["trial"] == 1


def test_what_a_job_left_as_its_report_is_text_whatever_its_bytes(served: Served) -> None:
    record = served.submit()
    folder = write_sweep(served.service.home, record, [0.5], is_over=True)
    (folder / "report").mkdir()
    for name in ("best.yaml", "report.json", "report.html"):
        (folder / "report" / name).write_bytes(b"lr: \xff")
    served.service.store.act(record["id"], None, Cancel(), by="somebody")
    assert served.ask("viewer", "GET", f"/sweeps/{record['id']}/best").json()["config"] == "lr: \ufffd"
    for page in ("report", "report.html"):
        assert served.ask("viewer", "GET", f"/sweeps/{record['id']}/{page}").content.decode() == "lr: \ufffd"


def test_nothing_of_the_machine_shows(served: Served) -> None:
    record = served.submit()
    write_sweep(served.service.home, record, [0.5])
    for path in ("", "/trials", "/events", "/logs", "/best"):
        answer = served.ask("viewer", "GET", f"/sweeps/{record['id']}{path}")
        assert str(served.service.home) not in answer.text


def test_logs_come_in_pieces_that_fit_together(served: Served) -> None:
    record = served.submit()
    folder = write_sweep(served.service.home, record, [0.5])
    text = "a line of 文字\n" * 8
    (folder / "logs" / "driver.log").write_text(text)
    (folder / "logs" / "trial-0.log").write_bytes(b"broken \xff\xfe text")
    read, offset = "", 0
    while offset < len(text.encode()):
        piece = served.ask("viewer", "GET", f"/sweeps/{record['id']}/logs", params={"offset": offset, "limit": 7})
        read, offset = read + piece.json()["text"], piece.json()["next_offset"]
    assert read == text
    assert not piece.json()["is_complete"]
    end = served.ask("viewer", "GET", f"/sweeps/{record['id']}/logs", params={"offset": -5}).json()
    assert end["text"].endswith("字\n")
    trial = served.ask("viewer", "GET", f"/sweeps/{record['id']}/trials/0/logs").json()
    assert trial["text"] == "broken \ufffd\ufffd text"
    assert served.ask("viewer", "GET", f"/sweeps/{record['id']}/trials/9/logs").json()["text"] == ""


def test_every_change_is_in_the_audit_log_with_its_outcome(served: Served) -> None:
    record = served.submit()
    served.ask("colleague", "POST", f"/sweeps/{record['id']}/cancel")
    found = served.ask("admin", "GET", "/audit", params={"project": "default"}).json()["items"]
    assert [(e["user"], e["action"], e["subject"], e["outcome"]) for e in found] == [
        ("submitter", "POST /api/v1/sweeps", record["id"], "201"),
        ("colleague", "POST /api/v1/sweeps/{sweep}/cancel", record["id"], "403"),
    ]


def test_a_sweep_and_the_note_of_it_are_one_transaction(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    made = served.submit()
    store = served.service.store
    seconds: list[object] = []
    monkeypatch.setattr(store, "add_audit", lambda *given: seconds.append(given))
    once(served, "/sweeps", json.dumps({"spec": spec()}))
    once(served, f"/sweeps/{made['id']}/fork", "{}", "other")
    found = [(entry.action, entry.user, entry.outcome, entry.address) for entry in store.audit(None)]
    assert found == [
        ("POST /api/v1/sweeps", "submitter", "201", "testclient"),
        ("POST /api/v1/sweeps", "submitter", "201", "testclient"),
        ("POST /api/v1/sweeps/{sweep}/fork", "submitter", "201", "testclient"),
    ]
    monkeypatch.setattr(audit, "_ADD", None)
    assert served.ask("submitter", "POST", "/sweeps", json={"spec": spec()}).status_code == 503
    assert sum(store.counts().values()) == 3, "no sweep without its note"
    assert len(seconds) == 1, "only what came to nothing is noted by itself"


def test_a_token_is_shown_once_and_ends_when_it_is_revoked(served: Served) -> None:
    made = served.ask("submitter", "POST", "/tokens", json={"name": "laptop", "expires_in_s": 60}).json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert served.client.get("/api/v1/whoami", headers=headers).json()["roles"] == {"default": "submitter"}
    listed = served.ask("submitter", "GET", "/tokens").text
    assert made["token"] not in listed
    assert made["token"].rpartition("_")[2] not in listed
    assert served.ask("colleague", "DELETE", f"/tokens/{made['id']}").status_code == 404
    assert served.ask("submitter", "DELETE", f"/tokens/{made['id']}").status_code == 204
    assert served.client.get("/api/v1/whoami", headers=headers).status_code == 401


@pytest.mark.parametrize(("asked", "expected"), [(None, 60), (30, 30), (10**6, 60)])
def test_a_token_lives_no_longer_than_the_one_that_makes_it(served: Served, asked: int | None, expected: float) -> None:
    first = served.ask("submitter", "POST", "/tokens", json={"name": "short", "expires_in_s": 60}).json()
    served.tokens["submitter"] = first["token"]
    second = served.ask("submitter", "POST", "/tokens", json={"name": "endless", "expires_in_s": asked}).json()
    assert second["expires_at"] - first["created_at"] == pytest.approx(expected, abs=20)
    assert second["expires_at"] <= first["expires_at"]


def test_who_has_no_token_makes_none_that_lasts_for_ever(tmp_path: Path) -> None:
    proxy = AuthSettings("proxy", proxy=ProxySettings(("10.0.0.0/8",), default_roles={"default": Role.ADMIN}))
    with serving(tmp_path, auth=proxy) as served:
        client = TestClient(served.app, base_url=URL, client=("10.1.2.3", 1), headers={"X-Forwarded-User": "ada"})
        made = client.post("/api/v1/tokens", json={"name": "endless"}).json()
        assert made["expires_at"] - made["created_at"] == pytest.approx(90 * 86_400, abs=60)
        heir = served.client.post(
            "/api/v1/tokens", json={"name": "heir"}, headers={"Authorization": f"Bearer {made['token']}"}
        ).json()
        assert heir["expires_at"] <= made["expires_at"]
        assert client.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
        again = served.client.get("/api/v1/whoami", headers={"Authorization": f"Bearer {heir['token']}"})
        assert again.status_code == 401


def test_a_name_means_a_sweep_of_the_project_that_is_given(served: Served) -> None:
    ours, theirs = served.submit(), served.submit("operator", project="other")  # of one name; the newest is theirs
    of_default, of_other = {"project": "default"}, {"project": "other"}
    name = ours["name"]
    assert served.ask("operator", "GET", f"/sweeps/{name}").json()["id"] == theirs["id"]
    assert served.ask("operator", "GET", f"/sweeps/{name}", params=of_default).json()["id"] == ours["id"]
    paused = served.ask("operator", "POST", f"/sweeps/{name}/pause", params=of_default).json()
    gone = served.ask("operator", "DELETE", f"/sweeps/{name}", params=of_default)
    assert (paused["id"], gone.json()["id"]) == (ours["id"], ours["id"])
    compared = served.ask("operator", "GET", "/compare", params={**of_default, "sweep": [name, ours["id"]]})
    assert {entry["sweep_id"] for entry in compared.json()["sweeps"]} == {ours["id"]}
    for part in ("logs", "events", "trials"):
        assert served.ask("operator", "GET", f"/sweeps/{name}/{part}", params=of_other).status_code == 200
    assert served.ask("operator", "GET", f"/sweeps/{ours['id']}", params=of_other).json()["id"] == ours["id"]
    assert served.ask("submitter", "GET", f"/sweeps/{name}", params=of_other).status_code == 404
    assert served.ask("submitter", "GET", f"/sweeps/{theirs['id']}", params=of_default).status_code == 404
    assert served.ask("operator", "GET", f"/sweeps/{name}", params={"project": "nowhere"}).status_code == 404
