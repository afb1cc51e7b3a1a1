"""Takes the README apart for the tests that hold it against the project: its blocks by language, its sections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Block:
    """A fenced block; its `name` is the file that its first line names in a comment."""

    language: str
    name: str
    code: str


@cache
def text() -> str:
    """The whole README."""
    return (ROOT / "README.md").read_text()


def blocks(language: str) -> list[Block]:
    """The fenced blocks of a language, in order."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", text(), re.MULTILINE | re.DOTALL)
    return [Block(language, _name(code), code) for code in found]


def named(name: str) -> Block:
    """The one block that shows the file `name`."""
    [found] = [block for block in [*blocks("yaml"), *blocks("python")] if block.name == name]
    return found


def section(title: str) -> str:
    """What stands under a second-level heading."""
    return text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def _name(code: str) -> str:
    match = re.match(r"# ([\w.-]+)", code)
    return match[1] if match else ""
