"""Which server is meant, and where its token is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.client import contexts
from service.client.contexts import Context, Contexts
from service.client.http import Transport
from service.errors import ContextError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("TUNEYARD_SERVER", raising=False)
    monkeypatch.delenv("TUNEYARD_TOKEN", raising=False)
    return tmp_path / "tuneyard"


LAB = Context("lab", "https://lab.example.org", "ty_lab_secret", "vision")
HOME = Context("home", "http://127.0.0.1:8700")


def test_nothing_is_chosen_at_first() -> None:
    assert contexts.load() == Contexts()
    assert contexts.chosen() is None


def test_what_is_saved_is_read_and_only_its_owner_can(folder: Path) -> None:
    path = contexts.save(Contexts().adding(HOME).adding(LAB))
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in folder.iterdir()] == ["contexts.json"]
    known = contexts.load()
    assert known == Contexts("lab", {"home": HOME, "lab": LAB})
    assert contexts.chosen() == LAB
    assert "secret" not in repr(known)
    contexts.save(known.choosing("local"))
    assert contexts.chosen() is None
    assert contexts.load().choosing("home").without("home") == Contexts(None, {"lab": LAB})


def test_the_nearer_choice_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    contexts.save(Contexts().adding(HOME).adding(LAB))
    monkeypatch.setenv("TUNEYARD_SERVER", "home")
    assert contexts.chosen() == HOME
    assert contexts.chosen("lab") == LAB
    assert contexts.chosen("local") is None
    assert contexts.chosen("https://lab.example.org/") == LAB  # a known server's token goes with its URL
    assert contexts.chosen("https://evil.example.org") == Context(
        "https://evil.example.org", "https://evil.example.org"
    )
    monkeypatch.setenv("TUNEYARD_TOKEN", "ty_other")
    found = contexts.chosen("lab")
    assert found is not None
    assert found.token == "ty_other"


def test_an_unknown_name_is_told_what_there_is() -> None:
    contexts.save(Contexts().adding(LAB))
    with pytest.raises(ContextError, match=r"no context 'lap'; did you mean 'lab'\?"):
        contexts.chosen("lap")
    with pytest.raises(ContextError, match="there are: none"):
        Contexts().choosing("lab")


@pytest.mark.parametrize(
    "url", ["lab.example.org", "ftp://x", "http://", "https://me:pw@x", "http://x/?token=1", "http://a b", "http://x\n"]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ContextError) as caught:
        contexts.checked_url(url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("name", ["local", "", "a/b", "-x", "http://x"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ContextError):
        contexts.checked_name(name)


@pytest.mark.parametrize("text", ["", "[]", '{"contexts": {"a": {"nope": 1}}, "current": null}'])
def test_a_damaged_file_says_what_to_do(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "contexts.json").write_text(text)
    with pytest.raises(ContextError, match=r"remove it and log in again"):
        contexts.load()


@pytest.mark.parametrize("url", ["5", '"nonsense"', "null", '"http://ada:hidden@lab.example.org"'])
def test_a_file_that_somebody_has_spoilt_is_said_to_be(folder: Path, url: str) -> None:
    folder.mkdir()
    (folder / "contexts.json").write_text(f'{{"current": "a", "contexts": {{"a": {{"url": {url}}}}}}}')
    with pytest.raises(ContextError) as refused:
        contexts.load()
    assert "hidden" not in str(refused.value)


def test_a_token_that_cannot_travel_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEYARD_TOKEN", "ty_other\r\n")
    found = contexts.chosen("http://127.0.0.1:9")
    assert found is not None
    assert found.token == "ty_other", "what a file's last line ends with is no part of it"
    for token in ("ty_can\nary", "ty_can\u00e4ry", "ty_can ary", "ty_can\0ary"):
        with pytest.raises(ContextError) as refused:
            Transport("http://127.0.0.1:9", token)
        assert "ty_" not in str(refused.value)
