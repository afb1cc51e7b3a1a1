"""The servers a person works with, their tokens, and which one is meant: a file that only its owner can read.

`--server`, else TUNEYARD_SERVER, else the chosen context, else none: then commands are about this machine.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import urllib.parse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from service import settings
from service.errors import ContextError
from service.plugins import nearest

LOCAL: Final = "local"
FILE: Final = "contexts.json"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")


@dataclass(frozen=True, slots=True)
class Context:
    """A server under a name of the person's own; `project` is the one that is meant where none is given."""

    name: str
    url: str
    token: str | None = field(default=None, repr=False)
    project: str | None = None


@dataclass(frozen=True, slots=True)
class Contexts:
    """All contexts of a person; `current` is the name of the chosen one, None for this machine."""

    current: str | None = None
    known: Mapping[str, Context] = field(default_factory=dict)

    def adding(self, context: Context) -> Contexts:
        """These and `context`, which is chosen; one of the same name is replaced."""
        return Contexts(context.name, {**self.known, context.name: context})

    def choosing(self, name: str) -> Contexts:
        """The same with another choice; `local` for this machine. ContextError for an unknown name."""
        return replace(self, current=None if name == LOCAL else self.named(name).name)

    def without(self, name: str) -> Contexts:
        """The same without one. ContextError for an unknown name."""
        gone = self.named(name).name
        kept = {key: context for key, context in self.known.items() if key != gone}
        return Contexts(self.current if self.current in kept else None, kept)

    def named(self, name: str) -> Context:
        """The context of that name. ContextError says which there are."""
        if name in self.known:
            return self.known[name]
        near = nearest(name, self.known)
        there = f"did you mean {near!r}?" if near else f"there are: {', '.join(self.known) or 'none'}"
        msg = f"no context {name!r}; {there}. Add one with: tuneyard login URL"
        raise ContextError(msg)


def load() -> Contexts:
    """What the file holds; nothing where there is none. ContextError where it cannot be read."""
    path = settings.config_folder() / FILE
    try:
        data = json.loads(path.read_bytes())
        known = {name: Context(name, **{**entry, "url": checked_url(entry["url"])})
                 for name, entry in data["contexts"].items()}  # fmt: skip
        return Contexts(data["current"] if data["current"] in known else None, known)
    except FileNotFoundError:
        return Contexts()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        msg = f"{path} cannot be read ({error}); remove it and log in again with: tuneyard login URL"
        raise ContextError(msg) from error


def save(contexts: Contexts) -> Path:
    """Replace the file as a whole, for the eyes of its owner only; returns where it is."""
    folder = settings.config_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    entries = {name: asdict(context) for name, context in contexts.known.items()}
    for entry in entries.values():
        del entry["name"]
    partial = folder / f".{FILE}.{secrets.token_hex(4)}"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump({"current": contexts.current, "contexts": entries}, stream, indent=1)
    return partial.replace(folder / FILE)


def chosen(server: str | None = None) -> Context | None:
    """The server that is meant: `server` is a context's name, a URL, or `local`; None where it is this machine.

    TUNEYARD_TOKEN goes before the token of a context. A URL takes the token of the context that has the same URL.
    """
    contexts = load()
    named = server or settings.server()
    if named == LOCAL or (named is None and contexts.current is None):
        return None
    if named is not None and "://" in named:
        url = checked_url(named)
        same = [context for context in contexts.known.values() if context.url == url]
        found = same[0] if same else Context(url, url)
    else:
        found = contexts.named(named or contexts.current or "")
    return replace(found, token=settings.token() or found.token)


def checked_url(text: str) -> str:
    """A server's URL without a slash at its end. ContextError where it is none, or would show a password."""
    parts = urllib.parse.urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or not text.isprintable() or " " in text:
        msg = f"{text!r} is no server's URL; it reads like https://tuneyard.example.org or http://127.0.0.1:8700"
        raise ContextError(msg)
    if parts.username or parts.password or parts.query or parts.fragment:
        msg = "a server's URL holds no user, password, `?` or `#`; give the token when `tuneyard login` asks for it"
        raise ContextError(msg)
    return text.rstrip("/")


def checked_name(text: str) -> str:
    """A name for a context. ContextError where it could be taken for something else."""
    if text == LOCAL or not _NAME.match(text):
        msg = f"{text!r} cannot name a context: use letters, digits, hyphens, dots; `{LOCAL}` stands for this machine"
        raise ContextError(msg)
    return text
