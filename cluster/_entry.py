"""Runs a job's command where only plain words survive the way there.

`python -P -m cluster._entry FOLDER RESTARTS COUNT ENV… ARGV…`, with COUNT variables in ENV.

KubeRay pastes a RayJob's entrypoint as it is into a shell script of its submitter, and Ray gives what comes out of that
to another shell; its other ways of submitting have one shell less. So an entrypoint that means the same on every way
may hold no character that a shell looks at: a word that does is written in base64.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import subprocess
import sys
from types import FrameType
from typing import Final

from cluster._ray_attempt import NO_COMMAND, NO_FOLDER, OF_SIGNAL
from cluster.backend import JobRequest

_CODED: Final = "b64:"
_PLAIN: Final = re.compile(r"[A-Za-z0-9_@%+:,./=-]+")


def is_plain(text: str) -> bool:
    """Whether no shell sees anything in `text` but a word."""
    return bool(_PLAIN.fullmatch(text))


def entrypoint(request: JobRequest) -> str:
    """The line that runs the request's command, in words that no shell changes.

    Only those variables are in it that no plain word can set, and those to be removed; see `plain_environment`.
    """
    coded = [f"{name}={value}" for name, value in request.env.items() if value is not None and not is_plain(value)]
    env = [*coded, *(name for name, value in request.env.items() if value is None)]
    words = (request.folder, str(request.restarts), str(len(env)), *env, *request.argv)
    return " ".join(("python", "-P", "-m", "cluster._entry", *map(_word, words)))


def plain_environment(request: JobRequest) -> dict[str, str]:
    """The variables that can be set as they are."""
    return {name: value for name, value in request.env.items() if value is not None and is_plain(value)}


def run(words: list[str]) -> int:
    """Run what `entrypoint` has written; a shell's exit code."""
    folder, restarts, count, *rest = map(_text, words)
    env, argv = rest[: int(count)], rest[int(count) :]
    for entry in env:
        name, is_set, value = entry.partition("=")
        if is_set:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)
    try:
        os.chdir(folder)
    except OSError:
        return _say(f"the working directory {folder} does not exist", NO_FOLDER)
    if shutil.which(argv[0]) is None:
        return _say(f"{argv[0]} cannot be started: there is no such command", NO_COMMAND)
    return _Job(argv).run(int(restarts))


class _Job:
    """The command, which is started again where a signal killed it although nobody asked for its end."""

    def __init__(self, argv: list[str]) -> None:
        self._argv, self._is_told = argv, False

    def run(self, restarts: int) -> int:
        for number in (signal.SIGINT, signal.SIGTERM):  # Ray sends it to the command as well
            signal.signal(number, self._hear)
        while True:
            code = subprocess.Popen(self._argv).wait()
            if code >= 0:
                return code
            if self._is_told or restarts <= 0:
                return OF_SIGNAL - code
            restarts -= 1
            _say(f"the job was killed by {signal.Signals(-code).name}; it is started again", 0)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self._is_told = True


def _say(text: str, code: int) -> int:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    return code


def _word(text: str) -> str:
    if is_plain(text) and not text.startswith(_CODED):
        return text
    return _CODED + base64.urlsafe_b64encode(text.encode()).decode()


def _text(word: str) -> str:
    coded = word.removeprefix(_CODED)
    return word if coded == word else base64.urlsafe_b64decode(coded).decode()


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
