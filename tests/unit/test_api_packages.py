"""Code packages: the service says that it has one only while the very zip is there."""

from __future__ import annotations

import errno
import io
import os
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from service.shipping.unpacking import package_file
from tests.serving import Served, serving, spec


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as found:
        yield found


def package(code: str = "x = 1\n") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("net.py"), code)  # whose time is always the same
    return packed.getvalue()


def send(served: Served) -> str:
    """The digest of a package that has been sent."""
    digest = sha256(package()).hexdigest()
    assert served.ask("submitter", "PUT", f"/packages/{digest}", content=package()).status_code == 201
    return digest


def asked(served: Served, digest: str) -> tuple[int, int]:
    """How the service answers whether it has the package, and a sweep with it."""
    head = served.ask("submitter", "HEAD", f"/packages/{digest}")
    return head.status_code, served.ask(
        "submitter", "POST", "/sweeps", json={"spec": spec(), "code": digest}
    ).status_code


@pytest.mark.parametrize("what", ["lost", "cut"])
def test_a_package_whose_zip_is_not_there_any_more_is_sent_again(served: Served, what: str) -> None:
    digest = send(served)
    assert asked(served, digest) == (200, 201)
    kept = package_file(served.service.home, digest)
    if what == "lost":
        kept.unlink()
    else:
        kept.write_bytes(kept.read_bytes()[:-1])
    assert asked(served, digest) == (404, 422)
    assert send(served) == digest
    assert asked(served, digest) == (200, 201)


def test_what_a_killed_service_left_half_done_is_removed_with_the_next_package(served: Served) -> None:
    folder = served.service.home / "packages"
    for name in (".old.tried", "..old.tried.part", ".new.tried"):
        (folder / name).mkdir(parents=True)
        (folder / name / "net.py").write_text("x = 1")
    (folder / ".old.partial").write_bytes(b"PK")
    (folder / ".new.partial").write_bytes(b"PK")
    for left in folder.glob(".*old*"):
        os.utime(left, (0, 0))
    digest = send(served)
    assert {path.name for path in folder.iterdir()} == {".new.tried", ".new.partial", f"{digest}.zip"}


def test_a_disk_that_is_full_is_said_to_be(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/srv/tuneyard/packages/x")

    with monkeypatch.context() as patched:
        patched.setattr("service.api.packages.unpack", full)
        answer = served.ask("submitter", "PUT", f"/packages/{sha256(b'x').hexdigest()}", content=b"x")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:tuneyard:no-storage")
    assert answer.headers["Retry-After"], "nothing was done: a client asks again by itself"
    assert "/srv" not in answer.text
    send(served)


def test_a_project_keeps_no_more_code_than_its_quota_has_room_for(served: Served) -> None:
    first, second = package(), package("y = 2\n")
    path = f"/packages/{sha256(second).hexdigest()}"
    assert served.ask("operator", "PUT", "/quotas/user/*", json={"package_bytes": 1}).status_code == 422
    quota = {"package_bytes": len(first) + len(second) - 1}
    assert (
        served.ask("operator", "PUT", "/quotas/project/default", json=quota).json()["package_bytes"]
        == len(first) * 2 - 1
    )
    send(served)
    refused = served.ask("submitter", "PUT", path, content=second)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:tuneyard:over-quota")
    assert f"{len(second) - 1} bytes more" in refused.json()["detail"]
    assert [file.name for file in (served.service.home / "packages").iterdir()] == [f"{sha256(first).hexdigest()}.zip"]
    send(served)  # what is there takes no room
    served.ask("operator", "DELETE", "/quotas/project/default")
    assert served.ask("submitter", "PUT", path, content=second).status_code == 201
