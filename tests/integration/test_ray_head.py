"""Tuneyard's own Ray is adopted by whoever comes next, replaced when it breaks, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from cluster import ray_head

ROOT = Path(__file__).resolve().parent.parent.parent
OWNER = """
import os, signal, sys
from pathlib import Path
from cluster import ray_head
print(ray_head.own(Path(sys.argv[1]), cpus=1).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def marked(folder: Path) -> list[int]:
    """The processes of that Ray, found without what is tested."""
    word = f"--temp-dir={ray_head._scratch(folder)}"  # which the command lines name
    return [p.pid for p in psutil.process_iter(["cmdline"]) if any(word in part for part in p.info["cmdline"] or ())]


def test_ray_outlives_its_owner_and_leaves_nothing_behind(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],  # for as long as this process is there
        stdin=subprocess.PIPE,
        env={**os.environ, ray_head.MARK_VARIABLE: "another"},
    )
    started = subprocess.run(
        [sys.executable, "-c", OWNER, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert started.returncode == -signal.SIGKILL, started.stderr
    adopted = ray_head.own(tmp_path)
    assert adopted.pid == int(started.stdout)
    assert adopted.backend().capacity().cpus == 1

    os.kill(adopted.pid, signal.SIGKILL)
    second = ray_head.own(tmp_path, cpus=1)
    assert second.pid != adopted.pid
    assert second.backend().capacity().nodes == 1
    assert len(marked(tmp_path)) >= 1

    ray_head.end(tmp_path)
    assert (marked(tmp_path), second.is_alive(), ray_head.read(tmp_path)) == ([], False, None)
    ray_head.end(tmp_path)
    assert other.poll() is None
    other.kill()
    other.communicate()
    token = tmp_path / "token"
    assert token.stat().st_mode & 0o077 == 0
    assert token.read_text() not in (tmp_path / "ray.log").read_text()
