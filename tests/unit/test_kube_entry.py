"""A command reaches its process as it is, through every shell that KubeRay and Ray have on the way."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster._entry import entrypoint, is_plain, plain_environment
from cluster.backend import JobRequest

ROOT = Path(__file__).resolve().parents[2]
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


def run(line: str, shells: int) -> subprocess.CompletedProcess[bytes]:
    """Run the line where so many shells look at it: one in KubeRay's HTTPMode, two behind its submitter."""
    for _ in range(shells - 1):
        split = subprocess.run(["/bin/bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
        line = shlex.join(split.stdout.decode().split("\0")[:-1])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "GONE": "here"}
    return subprocess.run(["/bin/bash", "-c", line], env=environment, capture_output=True, check=False)


@settings(deadline=None, max_examples=15)  # each is four processes
@given(arguments=st.lists(TEXTS, max_size=4), shells=st.sampled_from([1, 2]))
def test_a_command_survives_every_shell(arguments: list[str], shells: int) -> None:
    request = JobRequest("job", ("printf", "<%s>\\n", *arguments), "/")
    done = run(entrypoint(request), shells)
    assert done.stdout.decode() == "".join(f"<{text}>\n" for text in arguments or [""])
    assert all(is_plain(word) for word in entrypoint(request).split(" "))


@pytest.mark.parametrize("value", ["plain", "$HOME", "a b", 'say "hi"', "`id`", "", "b64:AAAA", "ü"])
def test_variables_are_set_as_they_are_and_others_taken_away(value: str) -> None:
    request = JobRequest("job", ("printenv", "SET", "GONE"), "/", env={"SET": value, "GONE": None})
    outside = plain_environment(request)
    assert set(outside) == ({"SET"} if is_plain(value) else set())
    done = run(f"{''.join(f'{name}={text} ' for name, text in outside.items())}{entrypoint(request)}", 1)
    assert done.stdout.decode() == f"{value}\n"


def test_what_people_read_is_readable() -> None:
    request = JobRequest(
        "job", ("python", "-P", "-m", "service.tuning.driver", "s3://b/sweeps/a-1"), "/data", restarts=3
    )
    line = "python -P -m cluster._entry /data 3 0 python -P -m service.tuning.driver s3://b/sweeps/a-1"
    assert entrypoint(request) == line


@pytest.mark.parametrize(
    ("command", "folder", "code", "said"),
    [
        (("true",), "/no-such-folder", 126, "the working directory /no-such-folder does not exist"),
        (("no-such-command",), "/", 127, "no-such-command cannot be started: there is no such command"),
        (("sh", "-c", "exit 7"), "/", 7, ""),
        (("sh", "-c", "kill -9 $$"), "/", 137, "the job was killed by SIGKILL; it is started again"),
    ],
)
def test_a_command_ends_as_a_shell_says_it(command: tuple[str, ...], folder: str, code: int, said: str) -> None:
    done = run(entrypoint(JobRequest("job", command, folder, restarts=1)), 1)
    assert (done.returncode, done.stdout.decode().strip()) == (code, said)
