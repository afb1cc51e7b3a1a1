"""What every cluster backend owes its callers, tried on each `cluster/<name>.py` with real processes."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import psutil
import pytest

from cluster import ray_head
from cluster.backend import (
    Backend,
    Capacity,
    JobError,
    JobRequest,
    JobState,
    JobStatus,
    Node,
    UnknownJobError,
)
from cluster.ray_jobs import Access, RayJobsBackend
from tests.apart import Apart
from tests.kube.place import REAL, KubePlace, a_place
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = sorted(p.stem for p in (ROOT / "cluster").glob("[a-z]*.py") if "\ndef build(" in p.read_text())
RAY_STOP_WAIT_S = 1
PATIENCE_S = 120.0
ROUNDS = count()

POLITE = """
import time
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""


REAL_KUBERAY = "kuberay-real"
IF_REAL = pytest.mark.skipif(not REAL, reason="TUNEYARD_TEST_KUBECONFIG names no API server that has KubeRay's CRDs")


@pytest.fixture(scope="module")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubePlace]:
    """What behaves as Kubernetes, for all tests."""
    with (
        pytest.MonkeyPatch.context() as patch,
        a_place(tmp_path_factory.mktemp("kube"), patch) as place,
    ):
        yield place


@pytest.fixture(scope="module")
def real_kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubePlace]:
    """The API server of TUNEYARD_TEST_KUBECONFIG, where KubeRay is played."""
    with pytest.MonkeyPatch.context() as patch, a_place(tmp_path_factory.mktemp("real"), patch, is_real=True) as place:
        yield place


@pytest.fixture(params=[*NAMES, pytest.param(REAL_KUBERAY, marks=IF_REAL)])
def connect(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Backend]]:
    """A new connection to one and the same place, as another process would make it; its jobs are ended afterwards."""
    for patience in ("local._SUPERVISOR_WAIT_S", "ray_jobs._KILL_S", "kuberay.KILL_S"):
        monkeypatch.setattr(f"cluster.{patience}", PATIENCE_S)  # a slow machine must not make it give up
    prefix, places = f"test-{next(ROUNDS)}", {}
    places["local"] = lambda: importlib.import_module("cluster.local").build(str(tmp_path / "jobs"))
    if request.param == "ray_jobs":
        head: ray_head.RayHead = request.getfixturevalue("ray")
        access = Access(head.token_path)
        places["ray_jobs"] = lambda: Apart(RayJobsBackend(head.url, access, stop_wait_s=RAY_STOP_WAIT_S), prefix)
    if request.param in ("kuberay", REAL_KUBERAY):
        kube: KubePlace = request.getfixturevalue("kube" if request.param == "kuberay" else "real_kube")
        places[request.param] = lambda: Apart(kube.connect(), prefix)
    connect: Callable[[], Backend] = places[request.param]
    yield connect
    for job_id in connect().statuses(["job", "other"]):
        connect().stop(job_id, wait_s=0)


def python(code: str, *, attempt: int = 1, job_id: str = "job", env: dict[str, str | None] | None = None) -> JobRequest:
    return JobRequest(job_id, (sys.executable, "-c", code), str(ROOT), attempt, env or {})


def killed_until_third(folder: Path, restarts: int) -> JobRequest:
    """A job that kills itself with SIGKILL twice, and then ends well."""
    code = f"""
import os, signal, pathlib
mark = pathlib.Path({str(folder)!r}, "starts")
mark.write_text((mark.read_text() if mark.exists() else "") + "x")
print("start", len(mark.read_text()), flush=True)
if len(mark.read_text()) < 3:
    os.kill(os.getpid(), signal.SIGKILL)
"""
    return JobRequest("job", (sys.executable, "-c", code), str(ROOT), restarts=restarts)


def finish(backend: Backend, job_id: str = "job") -> JobStatus:
    until(lambda: backend.status(job_id).state.is_over)
    return backend.status(job_id)


def said(backend: Backend, text: str) -> bool:
    return text in backend.logs("job").text


def test_a_job_runs_with_its_environment_and_its_logs_outlive_it(connect: Callable[[], Backend]) -> None:
    backend = connect()
    code = "import os, sys; print(os.getcwd()); print(os.environ['ADDED']); print('REMOVED' in os.environ)"
    os.environ["REMOVED"] = "here"
    try:
        backend.submit(python(code, env={"ADDED": "a value", "REMOVED": None}))
    finally:
        del os.environ["REMOVED"]
    assert finish(backend) == JobStatus("job", 1, JobState.SUCCEEDED, 0)
    first = connect().logs("job")
    assert first.text.split("\n") == [str(ROOT), "a value", "False", ""]
    assert connect().logs("job", offset=first.next_offset).text == ""


def test_a_failing_job_keeps_its_exit_code(connect: Callable[[], Backend]) -> None:
    backend = connect()
    backend.submit(python("import sys; sys.exit(7)"))
    assert finish(backend).state == JobState.FAILED
    assert (connect().status("job").exit_code, connect().status("job").message) == (7, "exit code 7")


def test_submitting_twice_is_one_job(connect: Callable[[], Backend], tmp_path: Path) -> None:
    count, may_end = tmp_path / "count", tmp_path / "may-end"
    waits = f"import os, time\nwhile not os.path.exists({str(may_end)!r}): time.sleep(0.02)"
    request = python(f"open({str(count)!r}, 'a').write('x')\n{waits}")
    with ThreadPoolExecutor(4) as pool:
        states = {status.state for status in pool.map(lambda _: connect().submit(request), range(4))}
    assert states <= {JobState.PENDING, JobState.RUNNING}
    may_end.touch()
    finish(connect())
    connect().submit(request)
    assert count.read_text() == "x"


def test_a_higher_attempt_starts_an_ended_job_anew(connect: Callable[[], Backend]) -> None:
    backend = connect()
    backend.submit(python("import sys; sys.exit(1)"))
    finish(backend)
    backend.submit(python("print('again')", attempt=2))
    assert finish(backend) == JobStatus("job", 2, JobState.SUCCEEDED, 0)
    assert said(backend, "again")


def test_a_higher_attempt_waits_for_the_one_before(connect: Callable[[], Backend]) -> None:
    backend = connect()
    backend.submit(python(POLITE))
    with pytest.raises(JobError, match="still runs"):
        backend.submit(python(POLITE, attempt=2))


def test_stop_lets_the_job_end_by_itself_and_is_idempotent(connect: Callable[[], Backend]) -> None:
    backend = connect()
    backend.submit(python(POLITE, env={"RAY_JOB_STOP_WAIT_TIME_S": "30"}))  # as a service has it: it is never killed
    until(lambda: said(backend, "ready"))
    stopped = connect().stop("job")
    assert (stopped.state, stopped.message) == (JobState.STOPPED, "stopped on request")
    assert stopped.exit_code in (0, None)  # Ray does not tell
    assert said(backend, "interrupted")
    assert backend.stop("job") == backend.status("job")


def test_stop_kills_what_will_not_end_with_all_its_descendants(connect: Callable[[], Backend]) -> None:
    backend = connect()
    backend.submit(python(STUBBORN))
    until(lambda: said(backend, "\n"))
    child = int(backend.logs("job").text)
    assert not backend.status("job").state.is_over
    began = time.monotonic()
    assert backend.stop("job", wait_s=0).state == JobState.STOPPED
    assert time.monotonic() - began < 5
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_stopping_an_ended_job_leaves_it_as_it_is(connect: Callable[[], Backend]) -> None:
    backend = connect()
    backend.submit(python("pass"))
    ended = finish(backend)
    assert backend.stop("job") == ended


def test_an_unknown_id_is_an_error(connect: Callable[[], Backend]) -> None:
    backend = connect()
    for ask in (backend.status, backend.stop, backend.logs):
        with pytest.raises(UnknownJobError, match="other"):
            ask("other")


@pytest.mark.parametrize("job_id", ["", "../job", ".hidden"])
def test_an_id_that_leaves_the_place_is_refused(connect: Callable[[], Backend], job_id: str) -> None:
    with pytest.raises(JobError, match="job id"):
        connect().submit(python("pass", job_id=job_id))


@pytest.mark.parametrize(
    ("command", "folder", "said"),
    [("no-such-command", str(ROOT), "no-such-command"), ("true", "/no-such-folder", "does not exist")],
)
def test_a_command_that_cannot_start_says_so(
    connect: Callable[[], Backend], command: str, folder: str, said: str
) -> None:
    """At once where the place knows it at once, else as the message of the job that failed."""
    backend, message = connect(), ""
    try:
        backend.submit(JobRequest("job", (command,), folder))
    except JobError as error:
        message = str(error)
    else:
        assert finish(backend).state == JobState.FAILED
        message = backend.status("job").message
    assert said in message


def test_a_job_that_is_over_is_forgotten_with_all_its_attempts(connect: Callable[[], Backend]) -> None:
    backend = connect()
    backend.forget("other")
    for attempt in (1, 2, 3):
        backend.submit(python("print('once')", attempt=attempt))
        finish(backend)
    connect().forget("job")
    assert connect().statuses(["job"]) == {}
    for place in (backend, connect()):
        with pytest.raises(UnknownJobError):
            place.status("job")
    connect().forget("job")
    backend.submit(python("print('anew')"))
    assert finish(connect()).attempt == 1


def test_a_job_that_runs_is_not_forgotten(connect: Callable[[], Backend]) -> None:
    backend = connect()
    backend.submit(python(POLITE))
    with pytest.raises(JobError, match="still runs"):
        connect().forget("job")
    assert not backend.status("job").state.is_over


def test_several_jobs_are_asked_for_at_once(connect: Callable[[], Backend]) -> None:
    backend = connect()
    backend.submit(python("pass"))
    finish(backend)
    assert connect().statuses(["job", "other"]) == {"job": backend.status("job")}


def test_a_place_says_what_it_has(connect: Callable[[], Backend]) -> None:
    capacity = connect().capacity()
    assert (capacity.cpus >= 1, capacity.gpus >= 0, capacity.nodes) == (True, True, 1)


def test_a_recycled_process_number_is_not_the_job(tmp_path: Path) -> None:
    backend = importlib.import_module("cluster.local").build(str(tmp_path))
    backend.submit(python("pass"))
    finish(backend)
    record = tmp_path / "job" / "job.json"
    me = os.getpid()
    record.write_text(f'{{"attempt": 1, "pid": {me}, "mark": "0/0", "supervisor": {me}, "supervisor_mark": "0/0"}}')
    assert backend.status("job").state == JobState.FAILED
    assert backend.stop("job").state == JobState.FAILED


@pytest.mark.parametrize("content", ["", "{", "[]", '{"attempt": 1}', "\udcff"])
def test_a_damaged_record_is_told_of_and_nothing_is_started_beside_it(tmp_path: Path, content: str) -> None:
    backend = importlib.import_module("cluster.local").build(str(tmp_path))
    backend.submit(python("pass"))
    finish(backend)
    (tmp_path / "job" / "job.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(JobError, match="is damaged"):
        backend.status("job")
    with pytest.raises(JobError, match="is damaged"):
        backend.submit(python("pass"))


def test_a_job_that_was_killed_is_started_again(connect: Callable[[], Backend], tmp_path: Path) -> None:
    connect().submit(killed_until_third(tmp_path, restarts=2))
    until(lambda: connect().status("job").state.is_over)
    assert connect().status("job") == JobStatus("job", 1, JobState.SUCCEEDED, 0)
    assert [line for line in connect().logs("job").text.splitlines() if "start " in line] == [
        f"start {n}" for n in (1, 2, 3)
    ]


def test_a_job_that_is_killed_too_often_has_failed(connect: Callable[[], Backend], tmp_path: Path) -> None:
    connect().submit(killed_until_third(tmp_path, restarts=1))
    until(lambda: connect().status("job").state.is_over)
    assert connect().status("job").message == "killed by SIGKILL"
    assert (tmp_path / "starts").read_text() == "xx"


def test_a_job_that_was_stopped_is_not_started_again(connect: Callable[[], Backend]) -> None:
    request = JobRequest("job", (sys.executable, "-c", STUBBORN), str(ROOT), restarts=3)
    connect().submit(request)
    until(lambda: bool(connect().logs("job").text))
    assert connect().stop("job", wait_s=0).state is JobState.STOPPED
    time.sleep(0.5)
    assert connect().status("job").state is JobState.STOPPED


@pytest.mark.parametrize("token", ["", "another"])
def test_ray_lets_nobody_in_without_its_token(ray: ray_head.RayHead, tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(token)
    with pytest.raises(JobError, match="wants another token"):
        RayJobsBackend(ray.url, Access(str(tmp_path / "token"))).capacity()


def test_ray_is_reached_as_its_own_clients_reach_it(ray: ray_head.RayHead, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", ray.token_path)
    seen = importlib.import_module("cluster.ray_jobs").build(f"{ray.url}/").capacity()
    assert seen == Capacity(2.0, 0.0, 1, (Node(2.0, 0.0, seen.of_nodes[0].memory_bytes),))
    assert seen.of_nodes[0].memory_bytes > 2**20
