"""Code packages: the service says that it has one only while the very zip is there."""

from __future__ import annotations

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


def send(served: Served) -> str:
    """The digest of a package that has been sent."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("net.py"), "x = 1\n")  # whose time is always the same
    digest = sha256(packed.getvalue()).hexdigest()
    assert served.ask("submitter", "PUT", f"/packages/{digest}", content=packed.getvalue()).status_code == 201
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
