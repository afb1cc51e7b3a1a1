"""What a sweep is run with, for the record: versions, code and data, as far as they can be told without running any."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = ("tuneyard", "ray", "torch", "pytorch-lightning", "mlflow", "numpy", "scikit-learn")
_LARGEST_FILE: Final = 256 * 2**20  # bytes; larger data files count with their size and time instead of their content
_GIT_TIMEOUT_S: Final = 5


def gather(fit: dict[str, Any], code_root: Path) -> dict[str, str]:
    """Versions of Python and packages, the git commit of the user's code, and a fingerprint of its data section."""
    facts = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return {**facts, **git_facts(code_root), "data_fingerprint": data_fingerprint(fit.get("data"), Path.cwd())}


def git_facts(folder: Path) -> dict[str, str]:
    """`git_commit` and `git_dirty` of the working tree that holds `folder`; empty outside of one."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {}
    status = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit, "git_dirty": "false" if status == "" else "true"}


def data_fingerprint(data: Any, folder: Path) -> str:  # noqa: ANN401  # any JSON value
    """A digest of the data section and of every file it names; it changes when either does."""
    digest = hashlib.blake2b(json.dumps(data, sort_keys=True, default=str).encode(), digest_size=16)
    for text in sorted(set(_strings(data))):
        path = folder / text
        if len(text) < 4096 and "\0" not in text and path.is_file():  # noqa: PLR2004  # the longest path Linux takes
            digest.update(_file_digest(path))
    return digest.hexdigest()


def _file_digest(path: Path) -> bytes:
    stat = path.stat()
    if stat.st_size > _LARGEST_FILE:
        return f"{stat.st_size} {stat.st_mtime_ns}".encode()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").digest()


def _strings(value: Any) -> list[str]:  # noqa: ANN401  # any JSON value
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [text for item in items for text in _strings(item)]


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
