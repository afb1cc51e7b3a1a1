"""How a peer is asked: JSON lines over pipes, so that it lives in a process of its own environment.

`init` with the problem; then `suggest`, `report` of each epoch, and `ended` of each trial that will not train again.
Imports nothing but the standard library, for it runs in every peer's environment.
"""

from __future__ import annotations

import json
import os
import random
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Decision = Literal["continue", "stop", "pause"]


@dataclass(frozen=True)
class Parameter:
    """A number with inclusive bounds."""

    name: str
    low: float
    high: float
    log: bool
    integer: bool


@dataclass(frozen=True)
class Problem:
    """What is asked of a peer: the lowest value within `epochs` epochs; `options` say which of its policies."""

    space: tuple[Parameter, ...]
    epochs: int
    seed: int
    workers: int
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suggestion:
    """A trial to be trained: a new one with `config`, or a paused one that goes on from where it is."""

    trial: int
    config: dict[str, float] | None = None


class Peer(Protocol):
    """A policy of a peer. `now` and `seconds` are simulated time; values are losses."""

    def suggest(self, now: float) -> Suggestion | None:
        """What an idle worker shall train; None where it has to wait for a report."""

    def report(self, trial: int, epoch: int, value: float, now: float) -> Decision:
        """What becomes of `trial` after `epoch`; it ends by itself after the last."""

    def ended(self, trial: int) -> None:
        """`trial` will not train again: it was stopped, or is complete."""


def serve(build: Callable[[Problem], Peer]) -> None:
    """Answers until the pipe closes, on the file descriptor given as first argument: peers print as they like."""
    answers = os.fdopen(int(sys.argv[1]), "w", buffering=1)
    peer: Peer | None = None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if question["op"] == "init":
                peer = build(_problem(question))
            answer = {} if peer is None else _answer(peer, question)
        except Exception:  # noqa: BLE001  # told to who asks
            answer = {"error": traceback.format_exc(limit=-8)}
        answers.write(json.dumps(answer) + "\n")


def _answer(peer: Peer, question: dict[str, Any]) -> dict[str, Any]:
    match question["op"]:
        case "suggest":
            found = peer.suggest(question["now"])
            return {"wait": True} if found is None else {"trial": found.trial, "config": found.config}
        case "report":
            asked = (question["trial"], question["epoch"], question["value"], question["now"])
            return {"decision": peer.report(*asked)}
        case "ended":
            peer.ended(question["trial"])
    return {}


def _problem(question: dict[str, Any]) -> Problem:
    random.seed(question["seed"])
    try:
        import numpy as np

        np.random.seed(question["seed"])  # noqa: NPY002  # peers draw from the global generator
    except ImportError:
        pass
    space = tuple(Parameter(**given) for given in question["space"])
    return Problem(space, question["epochs"], question["seed"], question["workers"], question["options"])
