"""How much and how often one may ask, and that nothing of a request is read before its sender is known."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from service.api.auth import AuthSettings, ProxySettings
from service.api.limits import Buckets
from service.api.problems import problem_of
from service.api.service import Limits
from service.api.sweep_views import MOST_ASKING, MOST_READING, ReaderProcess, ViewError
from service.records import Role
from service.store import StoreUnavailableError
from tests.serving import ROOT, URL, Served, serving, spec


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    bursts = {"requests_burst": 20, "failures_burst": 3}  # which do not fill up again while a test asks
    limits = Limits(body_bytes=20_000, package_bytes=1000, requests_per_s=0.01, failures_per_s=0.01, **bursts)
    with serving(tmp_path, limits=limits) as found:
        yield found


def pieces(size: int, sent: list[int]) -> Iterator[bytes]:
    while size > 0:
        sent.append(min(size, 1000))
        yield b" " * sent[-1]
        size -= sent[-1]


def test_a_large_body_is_refused_before_it_is_read(served: Served) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": "999999999"}
    answer = served.ask("submitter", "POST", "/sweeps", headers=headers, content=b"")
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:tuneyard:too-large")


@pytest.mark.parametrize("length", ["-1", "1e3", "\uff19", "18446744073709551617", ""])
def test_a_length_that_is_none_is_refused(served: Served, length: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": length.encode()}
    answer = served.ask("submitter", "POST", "/sweeps", headers=headers, content=b"")
    assert answer.status_code in (413, 422)


def test_a_body_without_a_length_is_cut_at_the_cap(served: Served) -> None:
    sent: list[int] = []
    headers = {"Content-Type": "application/json"}
    answer = served.ask("submitter", "POST", "/sweeps", headers=headers, content=pieces(10**6, sent))
    assert answer.status_code == 413


def test_a_package_has_a_cap_of_its_own_and_leaves_nothing_behind(served: Served) -> None:
    sent: list[int] = []
    answer = served.ask("submitter", "PUT", f"/packages/{'0' * 64}", content=pieces(10**6, sent))
    assert answer.status_code == 413
    other = served.ask("submitter", "PUT", f"/packages/{'0' * 64}", content=b"no zip")
    assert "another SHA-256" in other.text
    assert list((served.service.home / "packages").iterdir()) == []


def test_a_flood_is_told_when_to_come_back(served: Served) -> None:
    statuses = [served.ask("viewer", "GET", "/whoami").status_code for _ in range(25)]
    assert statuses == [200] * 20 + [429] * 5
    answer = served.ask("viewer", "GET", "/whoami")
    assert int(answer.headers["retry-after"]) > 10
    assert served.ask("submitter", "GET", "/whoami").status_code == 200, "others are not held up"


def noting(calls: list[object], do: Callable[[Any], object]) -> Callable[[Any], object]:
    """`do`, with a note of each call."""

    def noted(given: Any) -> object:  # noqa: ANN401  # whatever `do` takes
        calls.append(given)
        return do(given)

    return noted


def test_what_is_refused_for_coming_too_often_leaves_no_trace_in_the_database(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = [served.ask("admin", "POST", "/sweeps", json={"spec": {}}).status_code for _ in range(25)]
    assert statuses == [422] * 20 + [429] * 5
    assert len(served.service.store.audit(None)) == 20
    asked: list[object] = []
    database = served.service.store._database
    for name in ("read", "write"):
        monkeypatch.setattr(database, name, noting(asked, getattr(database, name)))
    for _ in range(5):
        assert served.ask("admin", "POST", "/sweeps", json={"spec": {}}).status_code == 429
    assert len(asked) <= 1, "who asks may be looked up again, after a while"


def test_guessing_tokens_is_slowed_down(served: Served) -> None:
    guess = {"Authorization": f"Bearer ty_abc_{'0' * 40}"}
    assert served.ask("viewer", "GET", "/whoami").status_code == 200
    statuses = [served.client.get("/api/v1/whoami", headers=guess).status_code for _ in range(6)]
    assert statuses == [401] * 3 + [429] * 3
    served.service.changed()
    assert served.ask("viewer", "GET", "/whoami").status_code == 200, "who is known is not held up"


def test_a_guess_too_many_is_not_even_looked_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    tokens = served.service.authenticator._tokens
    monkeypatch.setattr(tokens, "_ask", noting(asked, tokens._ask))
    for n in range(6):
        served.client.get("/api/v1/whoami", headers={"Authorization": f"Bearer ty_abc_{n:040x}"})
    assert len(asked) == 3


def test_a_flood_of_what_everybody_may_ask_is_cut_off_but_for_health(tmp_path: Path) -> None:
    with serving(tmp_path, limits=Limits(public_per_s=0.01, public_burst=3)) as served:
        paths = ("/metrics", "/readyz", "/api/v1/docs", "/metrics", "/readyz")
        assert [served.client.get(path).status_code for path in paths] == [200] * 3 + [429] * 2
        assert served.client.get("/healthz").status_code == 200


def test_buckets_fill_up_again() -> None:
    now = [0.0]
    buckets = Buckets(per_s=2, burst=4, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    now[0] += 0.5
    assert buckets.take("a") == 0
    assert buckets.take("a") == 0.5
    now[0] += 100
    assert [buckets.take("a") > 0 for _ in range(5)] == [False] * 4 + [True]


def test_every_answer_is_marked(served: Served) -> None:
    for path in ("/healthz", "/api/v1/sweeps", "/nowhere"):
        headers = served.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert len(headers["x-request-id"]) == 16
        assert "server" not in headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8700"}, 200),
        ({"Host": "[::1]:8700"}, 200),
        ({"Host": "evil.example.org"}, 403),
        ({"Host": "127.0.0.1.evil.example.org"}, 403),
        ({"Host": "127.0.0.1:8700@evil.example.org"}, 403),
        ({"Host": ""}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:8700"}, 200),
    ],
)
def test_without_auth_only_this_machine_may_ask(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    with serving(tmp_path, auth=AuthSettings("none")) as served:
        assert served.client.get("/api/v1/whoami", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "https://evil.example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://tuneyard.example.org"}, 200),
        ({"Origin": "http://127.0.0.1:8700"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_no_other_page_asks_in_the_name_of_whom_the_proxy_knows(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    proxy = AuthSettings("proxy", proxy=ProxySettings(("10.0.0.0/8",), default_roles={"default": Role.ADMIN}))
    with serving(tmp_path, auth=proxy, public_url="https://tuneyard.example.org/") as served:
        sweep_id = served.submit()["id"]
        client = TestClient(served.app, base_url=URL, client=("10.1.2.3", 1), headers={"X-Forwarded-User": "ada"})
        assert client.post(f"/api/v1/sweeps/{sweep_id}/cancel", headers=headers).status_code == status


def test_two_names_in_one_request_are_nobody(tmp_path: Path) -> None:
    """A proxy that adds its header to one that a client has sent."""
    proxy = AuthSettings("proxy", proxy=ProxySettings(("10.0.0.0/8",), default_roles={"default": Role.ADMIN}))
    with serving(tmp_path, auth=proxy) as served:
        client = TestClient(served.app, base_url=URL, client=("10.1.2.3", 1))
        twice = [("X-Forwarded-User", "eve"), ("x-forwarded-user", "ada")]
        assert client.get("/api/v1/whoami", headers=twice[:1]).json()["user"] == "eve"
        assert client.get("/api/v1/whoami", headers=httpx2.Headers(twice)).status_code == 401
        groups = [*twice[:1], ("X-Forwarded-Groups", "all"), ("x-forwarded-groups", "admins")]
        assert client.get("/api/v1/whoami", headers=httpx2.Headers(groups[:2])).status_code == 200
        assert client.get("/api/v1/whoami", headers=httpx2.Headers(groups)).status_code == 401
        tokens = httpx2.Headers([("Authorization", served.as_(who)["Authorization"]) for who in ("admin", "viewer")])
        assert client.get("/api/v1/whoami", headers=tokens).status_code == 401


def test_without_auth_everybody_is_the_local_admin(tmp_path: Path) -> None:
    with serving(tmp_path, auth=AuthSettings("none")) as served:
        assert served.client.post("/api/v1/sweeps", json={"spec": spec()}).json()["owner"] == "local"
        answer = served.client.post("/api/v1/sweeps", content=b'{"spec": {}}', headers={"Content-Type": "text/plain"})
        assert answer.status_code == 422, "a form of some web page is no JSON"


def test_a_service_whose_database_is_damaged_is_not_ready(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        assert served.client.get("/readyz").status_code == 200
        served.service.store._database.write(lambda c: c.execute(sa.text("DROP TABLE projects")))
        answer = served.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["store"]


@pytest.mark.parametrize(("part", "status"), [("controller", 503), ("cluster", 200)])
def test_readiness_names_what_is_broken(tmp_path: Path, part: str, status: int) -> None:
    """Submissions are taken while the cluster is away."""
    with serving(tmp_path, checks=lambda: {part: "it does not answer"}) as served:
        answer = served.client.get("/readyz")
        assert (answer.status_code, answer.json()["checks"][part]) == (status, "it does not answer")


def test_metrics_count_requests_by_route_and_sweeps_by_state(served: Served) -> None:
    sweep_id = served.submit()["id"]
    served.ask("viewer", "GET", f"/sweeps/{sweep_id}")
    text = served.client.get("/metrics").text
    assert 'tuneyard_http_requests_total{method="GET",route="/api/v1/sweeps/{sweep}",status="200"} 1.0' in text
    assert 'tuneyard_sweeps{state="queued"} 1.0' in text
    assert sweep_id not in text


def test_storage_that_hangs_holds_up_only_those_who_read_it(served: Served) -> None:
    sweep_id, views = served.submit()["id"], served.service.views
    for _ in range(MOST_READING):
        views._reading.acquire()
    assert served.ask("viewer", "GET", f"/sweeps/{sweep_id}").json()["progress"] == {}
    busy = served.ask("viewer", "GET", f"/sweeps/{sweep_id}/logs")
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "2")
    views._reading.release()
    assert served.ask("viewer", "GET", f"/sweeps/{sweep_id}/logs").status_code == 200


FOOTPRINT = """
import sys, tempfile
from pathlib import Path
from typing import Any
import psutil
from tests.serving import serving
with serving(Path(tempfile.mkdtemp())) as served:
    for _ in range(50):
        sweep_id = served.submit()["id"]
    for path in ("/sweeps?limit=1000", f"/sweeps/{sweep_id}", f"/sweeps/{sweep_id}/trials", "/queue", "/cluster"):
        assert served.ask("operator", "GET", path).status_code == 200
heavy = {"ray", "torch", "mlflow", "numpy", "scipy", "sklearn", "pytorch_lightning"} & set(sys.modules)
print(sorted(heavy), psutil.Process().memory_info().rss // 2**20)
"""


def test_the_process_stays_small_and_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", FOOTPRINT], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy, _, mebibytes = done.stdout.strip().rpartition(" ")
    assert heavy == "[]"
    assert int(mebibytes) < 200


def test_health_waits_for_nobody(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(*_: object) -> None:
        raise AssertionError

    served.client.get("/healthz")
    monkeypatch.setattr(served.service.store._database, "read", stuck)
    monkeypatch.setattr("anyio.to_thread.run_sync", stuck)
    assert served.client.get("/healthz").status_code == 200


def test_few_wait_for_the_process_that_reads(tmp_path: Path) -> None:
    reader = ReaderProcess(tmp_path, timeout_s=60.0)
    with ThreadPoolExecutor(MOST_ASKING) as pool:
        with reader._lock:
            waiting = [pool.submit(reader.ask, {"what": "curve", "sweep_id": "none"}) for _ in range(MOST_ASKING)]
            while reader._places._value:
                time.sleep(0.01)
            with pytest.raises(ViewError, match="try again"):
                reader.ask({"what": "curve", "sweep_id": "none"})
        assert [each.result() for each in waiting] == [{"missing": True}] * MOST_ASKING
    reader.close()
    problem = problem_of(ViewError("busy"))
    assert problem is not None
    assert (problem.status_code, problem.headers) == (503, {"Retry-After": "2"})


def test_who_is_told_that_the_database_is_away_does_not_wait_for_the_note_of_it(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_back, noted = threading.Event(), threading.Event()
    add_audit = served.service.store.add_audit

    def is_away(*_: object, **__: object) -> None:
        msg = "the database does not answer"
        raise StoreUnavailableError(msg)

    def slowly(*given: Any) -> None:  # noqa: ANN401  # as the store has it
        is_back.wait()
        add_audit(*given)
        noted.set()

    monkeypatch.setattr(served.service.store, "create_sweep", is_away)
    monkeypatch.setattr(served.service.store, "add_audit", slowly)
    assert served.ask("submitter", "POST", "/sweeps", json={"spec": spec()}).status_code == 503
    is_back.set()
    assert noted.wait(120)
    assert [entry.outcome for entry in served.service.store.audit(None)] == ["503"]
