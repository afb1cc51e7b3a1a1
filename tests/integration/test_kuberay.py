"""The Kubernetes backend beside its contract: an API server in trouble, lost heads, ends without help, what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster._kube_api import POD, RAY_CLUSTER, Api, NotThereError
from cluster._kube_leaks import Leaks
from cluster._kube_rules import QUEUE
from cluster.backend import Capacity, JobError, JobState, PlaceLostError, UnknownJobError
from tests.kube.jobs import SLEEP, python, rayjob, server_of, state, template
from tests.kube.place import TEMPLATE, KubePlace, a_place
from tests.kube.server import SERVICE
from tests.waiting import until


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubePlace]:
    with a_place(tmp_path, monkeypatch) as found:
        yield found


def test_what_is_asked_of_kubernetes_is_what_its_role_allows(place: KubePlace) -> None:
    place.operator.is_away = True
    backend, server = place.connect(), server_of(place)
    server.asked.clear()
    backend.submit(python("pass"))
    posts = [asked for asked in server.asked if asked.method == "POST"]
    assert [(asked.who, asked.query["fieldValidation"]) for asked in posts] == [(SERVICE, "Strict")]
    assert backend.statuses(["a-job", "other"])["a-job"].state is JobState.PENDING
    assert backend.logs("a-job").text == ""
    place.operator.is_away = False
    until(lambda: state(backend) is JobState.SUCCEEDED)
    before = len(server.asked)
    for _ in range(50):
        backend.statuses(["a-job"])
    mine = [asked for asked in server.asked[before:] if asked.who == SERVICE and asked.path.endswith("/a-job")]
    assert mine == []  # what the watch has told is not asked for again
    assert backend.stop("a-job").state is JobState.SUCCEEDED
    backend.submit(python(SLEEP, attempt=2))
    until(lambda: state(backend) is JobState.RUNNING)
    assert backend.stop("a-job").state is JobState.STOPPED
    assert server.forbidden == []
    assert {asked.method for asked in server.asked if asked.who == SERVICE} == {"GET", "POST", "PATCH", "DELETE"}


def test_two_that_submit_at_once_make_one_job(place: KubePlace) -> None:
    backends = [place.connect() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda backend: backend.submit(python(SLEEP)), backends))
    assert {status.attempt for status in found} == {1}
    [made] = server_of(place).objects.list("rayjobs", "test", "")
    until(lambda: state(backends[0]) is JobState.RUNNING)
    assert rayjob(place)["metadata"]["uid"] == made["metadata"]["uid"]
    assert list(place.operator.dashboards.heads) == [rayjob(place)["status"]["rayClusterName"]]


def test_a_lost_head_is_a_failed_job_whose_next_attempt_takes_its_place(place: KubePlace) -> None:
    backend = place.connect()
    backend.submit(python(SLEEP))
    until(lambda: state(backend) is JobState.RUNNING)
    first = rayjob(place)
    place.operator.lose_head("a-job")
    until(lambda: state(backend) is JobState.FAILED)
    assert "the head of its Ray cluster was lost" in backend.status("a-job").message
    assert backend.submit(python("pass", attempt=2)).attempt == 2
    assert rayjob(place)["metadata"]["uid"] != first["metadata"]["uid"]
    with pytest.raises(NotThereError):  # it went first, with all its pods
        backend._api.get(RAY_CLUSTER, first["status"]["rayClusterName"])
    until(lambda: state(backend) is JobState.SUCCEEDED)
    assert backend.submit(python("pass", attempt=1)).attempt == 2


def test_what_ray_cannot_be_asked_to_end_loses_its_pods(place: KubePlace) -> None:
    backend = place.connect()
    backend.submit(python(SLEEP))
    until(lambda: state(backend) is JobState.RUNNING)
    place.operator.dashboards.is_closed = True  # a network policy
    head = next(iter(place.operator.dashboards.heads.values()))
    stopped = backend.stop("a-job", wait_s=120)
    assert (stopped.state, stopped.message) == (JobState.STOPPED, "stopped on request")
    until(lambda: head.status != "RUNNING")
    assert place.connect().stop("a-job") == place.connect().status("a-job") == stopped


def test_a_job_is_ended_although_what_it_wrote_cannot_be_read(
    place: KubePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = place.connect()
    backend.submit(python(SLEEP))
    until(lambda: state(backend) is JobState.RUNNING)
    listed = Api.list

    def without_pods(api: Api, kind: str, labels: str) -> tuple[list[dict[str, Any]], str]:
        if kind == POD:
            msg = "Kubernetes does not allow it (HTTP 403)"
            raise PlaceLostError(msg)
        return listed(api, kind, labels)

    monkeypatch.setattr(Api, "list", without_pods)
    place.operator.dashboards.is_closed = True
    assert backend.stop("a-job", wait_s=120).state is JobState.STOPPED


def test_kueue_admits_what_was_handed_over_and_what_waits_there_can_be_stopped(
    place: KubePlace, tmp_path: Path
) -> None:
    backend = place.connect(template=template(tmp_path, labels={QUEUE: "sweeps"}))
    place.operator.admits = False
    backend.submit(python("pass"))
    until(lambda: (rayjob(place).get("status") or {}).get("jobDeploymentStatus") == "Suspended")
    assert backend.status("a-job").message == "it waits for Kueue to admit it"
    assert rayjob(place)["spec"]["suspend"] is True
    place.operator.admits = True
    until(lambda: state(backend) is JobState.SUCCEEDED)
    place.operator.admits = False
    backend.submit(python("pass", job_id="other"))
    until(lambda: (rayjob(place, "other").get("status") or {}).get("jobDeploymentStatus") == "Suspended")
    assert backend.stop("other").state is JobState.STOPPED
    with pytest.raises(UnknownJobError):
        backend.status("other")


def test_a_shared_cluster_outlives_its_jobs(place: KubePlace) -> None:
    backend, cluster = place.connect(shared="ours"), yaml.safe_load(TEMPLATE.read_text())["spec"]["rayClusterSpec"]
    with pytest.raises(PlaceLostError, match="no RayCluster 'ours'"):
        backend.capacity()
    made = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "ours"}, "spec": cluster}
    server_of(place).objects.create("rayclusters", "test", made, is_strict=True)
    found = backend.capacity()
    assert found == Capacity(2.0, 0.0, 1, found.of_nodes)
    backend.submit(python(SLEEP))
    until(lambda: state(backend) is JobState.RUNNING)
    assert backend.stop("a-job", wait_s=0).state is JobState.STOPPED
    assert backend._api.get(RAY_CLUSTER, "ours")["spec"] == cluster
    assert "a-job" not in backend.statuses(["a-job"])


def test_a_job_whose_submitter_never_gets_anywhere_is_ended(place: KubePlace, tmp_path: Path) -> None:
    backend = place.connect(template=template(tmp_path, preRunningDeadlineSeconds=1))
    place.operator.keeps_submitting = True
    backend.submit(python("pass"))
    until(lambda: backend.status("a-job").message.startswith("its Ray cluster is there, and the job has not started"))
    assert state(backend) is JobState.PENDING

    def is_ended() -> bool:
        Leaks(backend._api).end([rayjob(place)])
        return state(backend) is JobState.FAILED

    until(is_ended)
    assert "DeadlineExceeded" in backend.status("a-job").message


def test_what_nobody_wants_any_more_is_found_by_label_and_deleted(place: KubePlace) -> None:
    backend, objects = place.connect(), server_of(place).objects
    backend.submit(python("pass"))
    until(lambda: state(backend) is JobState.SUCCEEDED)
    job = rayjob(place)
    labels = {"tuneyard.dev/job": "gone", "app.kubernetes.io/managed-by": "tuneyard"}
    gone = {"kind": "RayJob", "name": "gone", "uid": "no-longer", "apiVersion": "ray.io/v1"}
    for name, about in (
        ("left", {"labels": labels, "ownerReferences": [gone]}),
        ("theirs", {"ownerReferences": [gone]}),
        ("shared", {"labels": labels}),
    ):
        objects.create("rayclusters", "test", {"metadata": {"name": name, **about}}, is_strict=False)
    later: dict[str, timedelta] = {"by": timedelta(minutes=1)}
    leaks = Leaks(backend._api, lambda: datetime.now(UTC) + later["by"])

    def clusters() -> set[str]:
        return {str(cluster["metadata"]["name"]) for cluster in objects.list("rayclusters", "test", "")}

    own = job["status"]["rayClusterName"]
    leaks.end([job])
    assert clusters() == {own, "left", "theirs", "shared"}
    leaks._looked_at, later["by"] = None, timedelta(minutes=10)
    leaks.end([job])
    until(lambda: clusters() == {own, "theirs", "shared"})
    leaks._looked_at, later["by"] = None, timedelta(minutes=20)  # its ten minutes and the grace are over
    leaks.end([job])
    until(lambda: clusters() == {"theirs", "shared"})
    assert backend.status("a-job").state is JobState.SUCCEEDED
    later["by"] = timedelta(days=2)
    leaks.end([job])
    until(lambda: not objects.list("rayjobs", "test", ""))


def test_a_rayjob_of_somebody_else_is_let_be(place: KubePlace) -> None:
    backend = place.connect()
    theirs = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "a-job"}, "spec": {"suspend": True}}
    server_of(place).objects.create("rayjobs", "test", theirs, is_strict=True)
    asks: list[Callable[[], object]] = [
        lambda: backend.submit(python("pass")),
        lambda: backend.stop("a-job"),
        lambda: backend.status("a-job"),
    ]
    for ask in asks:
        with pytest.raises(JobError, match="none of Tuneyard's"):
            ask()
    assert backend.statuses(["a-job"]) == {}


def test_logs_come_from_the_submitter_once_the_cluster_is_gone(place: KubePlace, tmp_path: Path) -> None:
    backend = place.connect(template=template(tmp_path, ttlSecondsAfterFinished=0))
    backend.submit(python("print('hello')"))
    until(lambda: state(backend) is JobState.SUCCEEDED)
    pod = {"metadata": {"name": "a-job-x", "labels": {"job-name": "a-job"}}}
    server_of(place).objects.create("pods", "test", pod, is_strict=False)
    until(lambda: not place.operator.dashboards.heads)
    server_of(place).logs["a-job-x"] = (
        "Job submission server address: http://x\nRunning entrypoint for job y: python z\nhello\nworld\n"
        "\n------------------\nJob 'y' succeeded\n------------------\n\n"
    )
    late = place.connect()
    assert late.logs("a-job").text == "hello\nworld\n"
    server_of(place).logs.clear()
    assert late.logs("a-job", offset=6).text == "world\n"  # what it was told before, it remembers
