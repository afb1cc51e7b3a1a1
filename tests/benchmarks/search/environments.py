"""Environments of the peers, made when they are first needed: one folder under `.peers/` for each, versions pinned.

Nothing that a peer needs gets into the project's own environment, and no two peers share one.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[3]
PEERS: Final = ROOT / "tests" / "benchmarks" / "peers"
FOLDER: Final = ROOT / ".peers"


def python_of(peer: str) -> Path:
    """The interpreter of `peer`'s environment, which is made, or made anew where its requirements have changed."""
    home = FOLDER / peer
    if not _is_ready(peer):
        sys.stderr.write(f"making the environment of {peer} …\n")
        venv.create(home, clear=True, with_pip=False)
        alone = ["--no-deps"] if _requirements(peer).read_text().startswith("# complete") else []
        _pip("--python", str(home / "bin" / "python"), "install", "--quiet", *alone, "-r", str(_requirements(peer)))
        _mark_ready(peer)
    return home / "bin" / "python"


def add_curves_runtime() -> None:
    """Makes onnxruntime importable here, which reads the curves and which nothing else of the project needs."""
    home = FOLDER / "curves"
    if not _is_ready("curves"):
        _pip("install", "--quiet", "--no-deps", "--upgrade", "--target", str(home), "-r", str(_requirements("curves")))
        _mark_ready("curves")
    if str(home) not in sys.path:
        sys.path.append(str(home))


def version_of(peer: str, driver: str) -> str:
    """Changes with what is pinned for `peer` and with its driver."""
    digest = hashlib.sha256()
    for path in (PEERS / peer / f"{driver}.py", _requirements(peer)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def _requirements(peer: str) -> Path:
    return PEERS / peer / "requirements.txt"


def _is_ready(peer: str) -> bool:
    mark = FOLDER / peer / "ready"
    return mark.is_file() and mark.read_text() == _requirements(peer).read_text()


def _mark_ready(peer: str) -> None:
    (FOLDER / peer / "ready").write_text(_requirements(peer).read_text())


def _pip(*arguments: str) -> None:
    python = ROOT / ".venv" / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, *arguments], check=True)
