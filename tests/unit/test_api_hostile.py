"""What means harm is refused with its reason, and nothing of it is imported, opened, run or asked."""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from service.plugins import find, names
from tests.hostile import MARK, Attack, attacks
from tests.hostile_zips import hostile_zips
from tests.serving import Served, serving

NEVER: Final = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class", "marshal.loads",
    "ctypes.dlopen", "socket.connect", "socket.bind", "urllib.Request", "exec",
)  # fmt: skip
CHANGES: Final = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.chmod",
    "shutil.rmtree",
)


class Watch:
    """Notes what the interpreter does while it is on."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, tuple[Any, ...]]] = []
        self.is_on = False
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_on and (event in NEVER or event in CHANGES or event in ("open", "import", "compile")):
            self.seen.append((event, arguments))

    def complaints(self, home: Path) -> list[str]:
        found = []
        for event, arguments in self.seen:
            text = repr(arguments)[:300]
            if event in NEVER or MARK in text:
                found.append(f"{event}: {text}")
            elif event == "open" and not _is_allowed(arguments, home):
                found.append(f"opened {text}")
            elif event in CHANGES and str(home) not in text:
                found.append(f"{event}: {text}")
        return found


def _is_allowed(arguments: tuple[Any, ...], home: Path) -> bool:
    """The service's own folder; elsewhere nothing is written, and only Python's own files are read."""
    path, mode, flags = arguments
    if not isinstance(path, str | bytes):
        return True  # a descriptor that is open already
    text = path.decode(errors="replace") if isinstance(path, bytes) else path
    is_written = isinstance(mode, str) and any(letter in mode for letter in "wax+")
    if text.startswith(str(home)):
        return True
    return not is_written and (
        text.startswith((sys.prefix, sys.base_prefix, "/etc/hosts", "/dev/null")) or flags is None
    )


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("hostile")) as found:
        sweep_id = found.submit("submitter")["id"]
        for path in (f"/sweeps/{sweep_id}", f"/sweeps/{sweep_id}/logs", "/sweeps", "/queue", "/whoami", "/nothing"):
            found.ask("submitter", "GET", path)  # whatever is imported late, is by now
        found.ask("admin", "POST", "/webhooks", json={"url": "http://127.0.0.1/", "kinds": ["failed"]})
        found.ask("submitter", "POST", f"/sweeps/{sweep_id}/fork", json={"overrides": ["seed=1"]})
        for _, content in hostile_zips():
            found.ask("submitter", "PUT", f"/packages/{hashlib.sha256(content).hexdigest()}", content=content)
        for kind in ("searchers", "schedulers"):
            for plugin in names(kind):
                find(kind, plugin)
        found.ask("submitter", "GET", f"/compare?sweep={sweep_id}")
        yield found


@pytest.fixture(scope="module")
def sweep_id(served: Served) -> str:
    return str(served.submit("submitter")["id"])


ALL: Final = attacks()


def test_there_are_many() -> None:
    assert len(ALL) + len(list(hostile_zips())) >= 200
    assert len({attack.name for attack in ALL}) == len(ALL)


@pytest.mark.parametrize("attack", ALL, ids=lambda attack: attack.name[:60])
def test_harm_is_refused_with_its_reason_and_nothing_happens(
    served: Served, watch: Watch, sweep_id: str, attack: Attack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tuneyard")
    who = "admin" if attack.name.startswith("webhook") else "submitter"
    watch.seen, watch.is_on = [], True
    try:
        answer = served.ask(who, attack.method, attack.path.replace("{sweep}", sweep_id), **attack.given)
    finally:
        watch.is_on = False
    assert answer.status_code == attack.status, answer.text[:500]
    assert watch.complaints(served.service.home) == []
    assert not any(MARK in name for name in sys.modules)
    if attack.status >= 400:
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["detail"]
        assert attack.says in answer.text
        assert len(answer.content) < 40_000, "a refusal does not throw everything back"
    assert all(
        "\n" not in r.getMessage() and "\r" not in r.getMessage()
        for r in caplog.records
        if r.name.startswith("tuneyard")
    )
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("name", "content"), list(hostile_zips()), ids=lambda part: part[:40] if isinstance(part, str) else ""
)
def test_a_hostile_package_leaves_nothing(served: Served, watch: Watch, name: str, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    watch.seen, watch.is_on = [], True
    try:
        answer = served.ask("submitter", "PUT", f"/packages/{digest}", content=content)
    finally:
        watch.is_on = False
    assert answer.status_code == 422, f"{name}: {answer.text[:300]}"
    assert answer.json()["faults"]
    assert watch.complaints(served.service.home) == []
    home = served.service.home
    left = [path for folder in ("packages", "code") if (home / folder).exists() for path in (home / folder).iterdir()]
    assert left == []
    assert served.ask("submitter", "HEAD", f"/packages/{digest}").status_code == 404
