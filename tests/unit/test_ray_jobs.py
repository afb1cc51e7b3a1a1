"""What the Ray Jobs backend does without a Ray: the line that a cluster's shell gets, TLS, and what it refuses."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import ray_jobs
from cluster.backend import Capacity, JobError, JobRequest, JobState, Node, PlaceLostError
from cluster.ray_jobs import Access, RayJobsBackend, entrypoint
from service.control.cluster_place import RemotePlace
from service.server.settings import settings_of

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@settings(deadline=None, max_examples=40)  # each is a process
@given(arguments=st.lists(TEXTS, max_size=4), restarts=st.sampled_from([0, 2]))
def test_a_command_reaches_the_shell_as_it_is(arguments: list[str], restarts: int) -> None:
    request = JobRequest("job", ("printf", "<%s>\\n", *arguments), "/", env={"HOME": None}, restarts=restarts)
    done = subprocess.run(["/bin/sh", "-c", entrypoint(request)], capture_output=True, check=True)
    assert done.stdout.decode() == "".join(f"<{text}>\n" for text in arguments or [""])


def test_a_cluster_that_is_not_there_is_no_unknown_job(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    gone = RayJobsBackend("http://127.0.0.1:9", Access(str(tmp_path / "token")))
    for ask in (gone.capacity, lambda: gone.status("job"), lambda: gone.submit(JobRequest("job", ("true",), "/"))):
        with pytest.raises(PlaceLostError, match=r"127\.0\.0\.1:9 does not answer") as caught:
            ask()
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["head:8265", "ftp://head", "http://", "http://user:word@head:8265"])
def test_what_is_no_address_of_a_dashboard_is_refused(url: str) -> None:
    with pytest.raises(JobError) as caught:
        RayJobsBackend(url)
    assert "word@" not in str(caught.value)


def test_tls_needs_a_file_that_can_be_read(tmp_path: Path) -> None:
    for name in ("absent.pem", "empty.pem"):
        (tmp_path / "empty.pem").touch()
        with pytest.raises(JobError, match=name):
            RayJobsBackend("https://head:8265", Access(ca_file=str(tmp_path / name)))


class _OneNode(BaseHTTPRequestHandler):
    """What a dashboard says of its nodes."""

    def _nodes(self) -> list[dict[str, object]]:
        return [{"state": "ALIVE", "resources_total": {"CPU": 3.0, "GPU": 1.0, "memory": 5e9}}, {"state": "DEAD"}]

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"data": {"result": {"result": self._nodes()}}}).encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


def certified(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    (folder / "ca.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "ca.pem", folder / "key.pem"


def test_tls_trusts_the_file_that_it_is_given_and_nobody_else(tmp_path: Path) -> None:
    certificate, key = certified(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _OneNode)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_port}"
        seen = RayJobsBackend(url, Access(ca_file=str(certificate))).capacity()
        assert seen == Capacity(3.0, 1.0, 1, (Node(3.0, 1.0, 5e9),))
        chosen = settings_of(tmp_path, {"cluster": url, "cluster_ca": str(certificate)}, {})
        assert RemotePlace(chosen.cluster, chosen.cluster_ca).capacity().nodes == 1
        with pytest.raises(PlaceLostError, match="CERTIFICATE"):
            RayJobsBackend(url).capacity()
        server.shutdown()


class _NoNode(_OneNode):
    """A dashboard whose Ray is back before its nodes are."""

    def _nodes(self) -> list[dict[str, object]]:
        return [{"state": "DEAD", "resources_total": {"CPU": 3.0}}]


def test_a_cluster_without_a_node_is_away() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _NoNode) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(PlaceLostError, match="no node"):
            RayJobsBackend(f"http://127.0.0.1:{server.server_port}").capacity()
        server.shutdown()


class _NextAttempt(BaseHTTPRequestHandler):
    """A cluster on which the job's second attempt starts while the first one is being stopped."""

    asked: ClassVar[list[str]] = []
    looked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.looked.append(self.path)
        first = _about(1, "STOPPED" if self.asked else "RUNNING")
        every = [first, *([_about(2, "RUNNING")] if self.asked else [])]
        self._answer(every if self.path == "/api/jobs/" else first)

    def do_POST(self) -> None:
        self.asked.append(self.path)
        self._answer({"stopped": True})

    def _answer(self, said: object) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


def _about(attempt: int, status: str) -> dict[str, object]:
    metadata = {"tuneyard_job": "job", "tuneyard_attempt": str(attempt)}
    return {"submission_id": f"job.{attempt}", "metadata": metadata, "status": status, "entrypoint": "true"}


def test_stop_ends_the_attempt_that_it_found_and_none_that_follows() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _NextAttempt) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        stopped = RayJobsBackend(f"http://127.0.0.1:{server.server_port}").stop("job", wait_s=2.0)
        server.shutdown()
    assert (stopped.attempt, stopped.state) == (1, JobState.STOPPED)
    assert _NextAttempt.asked == ["/api/jobs/job.1/stop"]
    assert _NextAttempt.looked == ["/api/jobs/", "/api/jobs/job.1"], "all jobs that Ray has ever had are asked for once"


class _OddJobs(BaseHTTPRequestHandler):
    """A cluster on which somebody's jobs say that they are the service's."""

    def do_GET(self) -> None:
        attempts: tuple[object, ...] = ("first", "", "-1", "1" + "0" * 5000, None, [])
        odd = [{"tuneyard_attempt": attempt} for attempt in attempts]
        metadata = [{"tuneyard_job": "job", **more} for more in ({}, *odd)]
        others = [{**_about(9, "RUNNING"), "metadata": each} for each in metadata]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps([*others, _about(1, "RUNNING")]).encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_a_job_of_nonsense_hides_no_other() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _OddJobs) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        found = RayJobsBackend(f"http://127.0.0.1:{server.server_port}").statuses(["job"])
        server.shutdown()
    assert found["job"].attempt == 1


class _Submissions(BaseHTTPRequestHandler):
    """A cluster that knows no job and takes none: it says so as `refusal` has it."""

    refusal: ClassVar[tuple[int, str]] = (500, "")

    def do_GET(self) -> None:
        self._answer(200, "[]")

    def do_POST(self) -> None:
        self._answer(*self.refusal)

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("refusal", "is_its_own"),
    [((500, "RuntimeError: Request failed with status code 500: no space left."), True),
     ((500, "No available agent to submit job, please try again later."), True), ((401, "no"), True),
     ((500, "RuntimeError: Request failed with status code 400: ValueError: pip."), False), ((400, "bad"), False)],
)  # fmt: skip
def test_a_cluster_in_trouble_is_told_from_a_job_that_it_refuses(
    monkeypatch: pytest.MonkeyPatch, refusal: tuple[int, str], *, is_its_own: bool
) -> None:
    monkeypatch.setattr(_Submissions, "refusal", refusal)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Submissions) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(JobError) as caught:
            RayJobsBackend(f"http://127.0.0.1:{server.server_port}").submit(JobRequest("job", ("true",), "/"))
        server.shutdown()
    assert isinstance(caught.value, PlaceLostError) == is_its_own


class _Crowded(BaseHTTPRequestHandler):
    """A cluster full of other people's jobs, beside attempts of one of ours, which can be submitted and deleted."""

    jobs: ClassVar[dict[str, dict[str, object]]] = {}
    asked: ClassVar[list[str]] = []

    def _answer(self, said: object) -> None:
        self.asked.append(f"{self.command} {self.path}")
        self.send_response(404 if said is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def do_GET(self) -> None:
        others = [{"submission_id": f"raysubmit_{n}", "status": "SUCCEEDED", "metadata": {}} for n in range(100)]
        one = self.path.removeprefix("/api/jobs/")
        self._answer(self.jobs.get(one) if one else [*others, *self.jobs.values()])

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.jobs[sent["submission_id"]] = {**sent, "status": "RUNNING"}
        self._answer({})

    def do_DELETE(self) -> None:
        self._answer({} if self.jobs.pop(self.path.removeprefix("/api/jobs/"), None) else None)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def crowded() -> Iterator[RayJobsBackend]:
    _Crowded.jobs.clear()
    _Crowded.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Crowded) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield RayJobsBackend(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def attempt(number: int) -> JobRequest:
    return JobRequest("job", ("true",), "/", number)


def test_all_jobs_of_a_cluster_are_not_asked_for_with_each_look(crowded: RayJobsBackend) -> None:
    crowded.submit(attempt(1))
    _Crowded.asked.clear()
    for _ in range(20):
        assert crowded.statuses(["job", "never"])["job"].state is JobState.RUNNING
    assert _Crowded.asked == ["GET /api/jobs/job"] * 20, "the submission has listed them already"
    _Crowded.jobs["job"]["status"] = "SUCCEEDED"
    assert [crowded.statuses(["job"])["job"].state for _ in range(3)] == [JobState.SUCCEEDED] * 3
    assert len(_Crowded.asked) == 21, "what is over stays so"
    crowded.submit(attempt(2))
    assert crowded.statuses(["job"])["job"].attempt == 2


def test_what_is_known_of_a_cluster_is_not_believed_for_long(
    crowded: RayJobsBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded.submit(attempt(1))
    _Crowded.jobs.clear()
    assert crowded.statuses(["job"]) == {}, "a job that is gone has all of them asked for"
    crowded.submit(attempt(1))
    _Crowded.jobs["job.2"] = _about(2, "RUNNING")
    assert crowded.status("job").attempt == 2
    _Crowded.jobs["job.3"] = _about(3, "RUNNING")
    assert crowded.statuses(["job"])["job"].attempt == 2
    monkeypatch.setattr(ray_jobs, "LIST_EVERY_S", 0.0)
    assert crowded.statuses(["job"])["job"].attempt == 3


def test_attempts_that_were_superseded_are_deleted_but_for_the_last_one(crowded: RayJobsBackend) -> None:
    for number in (1, 2, 3, 4):
        crowded.submit(attempt(number))
        _Crowded.jobs["job" if number == 1 else f"job.{number}"]["status"] = "FAILED"
    assert sorted(_Crowded.jobs) == ["job.3", "job.4"]


def test_a_cluster_that_does_not_forget_says_so(crowded: RayJobsBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    crowded.submit(attempt(1))
    _Crowded.jobs["job"]["status"] = "FAILED"
    monkeypatch.setattr(_Crowded, "do_DELETE", lambda handler: handler.send_error(500, "no agent"))
    with pytest.raises(JobError, match="does not forget job"):
        crowded.forget("job")


def test_what_ray_writes_of_a_job_that_was_deleted_is_in_nobody_s_way(
    crowded: RayJobsBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Crowded.jobs["job"] = {"submission_id": "job", "status": "SUCCEEDED", "entrypoint": "Entrypoint not found."}
    take = _Crowded.do_POST

    def refuse_twice(handler: _Crowded) -> None:
        if "job" in _Crowded.jobs:
            handler.send_error(500, "Job with submission_id job already exists.")
        else:
            take(handler)

    monkeypatch.setattr(_Crowded, "do_POST", refuse_twice)
    assert crowded.submit(attempt(1)).state is JobState.RUNNING
    assert crowded.submit(attempt(1)) == crowded.status("job")
