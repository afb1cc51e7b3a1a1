"""Code packages: the same files give the same bytes, what stays behind stays, and what is refused is named."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from service.errors import PackageError, SpecError
from service.shipping import packages, unpacking
from service.shipping.packages import build
from service.shipping.unpacking import unpack


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(content: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(content)).namelist()


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    files = {"net.py": "x = 1\n", "sub/data.txt": "rows\n" * 999, "sub/a.py": "", "Z.py": "z"}
    for name, order in (("one", list(files)), ("two", sorted(files, reverse=True))):
        write(tmp_path / name, {key: files[key] for key in order})
    (tmp_path / "two" / "net.py").chmod(0o600)
    os.utime(tmp_path / "two" / "net.py", (1e9, 1e9))
    one, two = build(tmp_path / "one"), build(tmp_path / "two")
    assert one == two
    assert one.files == 4
    write(tmp_path / "two", {"net.py": "x = 2\n"})
    assert build(tmp_path / "two").digest != one.digest


def test_what_arrives_is_what_was_sent(tmp_path: Path) -> None:
    write(
        tmp_path / "code",
        {"net.py": "x = 1\n", "pkg/__init__.py": "", "pkg/run.sh": "#!/bin/sh\n", "zeros": "0" * 10**6},
    )
    (tmp_path / "code" / "pkg" / "run.sh").chmod(0o700)
    package = build(tmp_path / "code")
    home = tmp_path / "home"
    archive = unpacking.package_file(home, package.digest)
    archive.parent.mkdir(parents=True)
    archive.write_bytes(package.content)
    folder = unpack(archive, home / "sweep" / "code", digest=package.digest)
    assert build(folder) == package
    assert (folder / "zeros").read_text() == "0" * 10**6
    assert (folder / "pkg" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (folder / "net.py").stat().st_mode & 0o777 == 0o644
    assert unpack(archive, folder) == folder  # a second time nothing happens
    assert [path.name for path in folder.parent.iterdir()] == ["code"]


def test_ignored_files_stay_behind(tmp_path: Path) -> None:
    write(tmp_path, {
        ".git/config": "", ".gitignore": "*.ckpt\n/data/\nsecret.env\n", "net.py": "", "a.ckpt": "", "data/x.csv": "",
        "code/.gitignore": "!keep.ckpt\n", "code/keep.ckpt": "", "code/other.ckpt": "", "code/data/y.csv": "",
        "__pycache__/net.pyc": "", "venv/pyvenv.cfg": "", "venv/lib.py": "", "code/secret.env": "",
    })  # fmt: skip
    assert names(build(tmp_path).content) == [
        ".gitignore", "code/.gitignore", "code/data/y.csv", "code/keep.ckpt", "net.py",
    ]  # fmt: skip
    # the working tree's .gitignore counts where the sweep file lies further down
    assert names(build(tmp_path / "code").content) == [".gitignore", "data/y.csv", "keep.ckpt"]
    taken_back = names(build(tmp_path, ["!data/x.csv", "code/"]).content)
    assert taken_back == [".gitignore", "data/x.csv", "net.py"]


def test_links_travel_only_as_files_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path, {"secret": "s", "code/net.py": "x = 1\n", "code/sub/a.py": ""})
    root = tmp_path / "code"
    (root / "alias.py").symlink_to("net.py")
    (root / "leak").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to("sub")
    (root / "gone").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    package = build(root)
    assert names(package.content) == ["alias.py", "net.py", "sub/a.py"]
    assert package.left_behind == ("folder", "gone", "leak")


def test_what_is_too_large_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MAX_PACKAGE_BYTES", 20_000)
    write(tmp_path, {"net.py": "", "small.txt": "a"})
    (tmp_path / "weights.bin").write_bytes(os.urandom(30_000))
    with pytest.raises(PackageError, match=r"is too large(.|\n)*code.exclude(.|\n)*weights.bin \(0.0 MB\), small.txt"):
        build(tmp_path, file="sweep.yaml")
    assert build(tmp_path, ["*.bin"]).files == 2
    monkeypatch.setattr(packages, "MAX_TOTAL_BYTES", 30_000)
    with pytest.raises(PackageError, match=r"30,001 bytes"):
        build(tmp_path)
    monkeypatch.setattr(packages, "MAX_MEMBERS", 2)
    with pytest.raises(PackageError, match=r"too many files"):
        build(tmp_path)


@pytest.mark.parametrize("name", ["a\\b.py", "new\nline.py", "blank .", "CON\x07"])
def test_a_name_that_not_every_system_takes_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"net.py": "", name: ""})
    with pytest.raises(PackageError):
        build(tmp_path)


def test_names_that_differ_in_case_only_are_named(tmp_path: Path) -> None:
    write(tmp_path, {"Net.py": "", "net.py": ""})
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system takes the two names for one")
    with pytest.raises(PackageError, match=r"net.py: clashes with 'Net.py'"):
        build(tmp_path)


def test_a_package_with_a_name_of_ours_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"service/__init__.py": ""})
    with pytest.raises(SpecError, match="has the name of one of Tuneyard's"):
        build(tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="is no folder"):
        build(tmp_path / "none")


def test_the_file_with_which_a_working_tree_names_its_repository_stays(tmp_path: Path) -> None:
    write(tmp_path, {".git": "gitdir: ../net/.git/worktrees/net\n", "sub/.git": "gitdir: ../x\n", "net.py": ""})
    assert names(build(tmp_path).content) == ["net.py"]
