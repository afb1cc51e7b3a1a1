"""Has a driver's searcher raise, or propose points outside the space: a searcher as a user might have written it."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from service.spec.space import Params
    from service.tuning.history import History

VARIABLE: Final = (
    "CHAOS_SEARCHER"  # JSON: {"how": "raise" or "outside", "at": [proposals], "times": how often in a row}
)


class BadSearcher:
    """The searcher it stands for, but for the proposals that `plan` names."""

    def __init__(self, good: Any, plan: dict[str, Any]) -> None:  # noqa: ANN401  # any searcher
        self._good, self._how, self._times = good, plan["how"], int(plan["times"])
        self._left = dict.fromkeys(plan["at"], self._times)

    def propose(self, history: History) -> Params | None:
        """What the good one proposes, unless its time has come."""
        if self._left.get(history.proposals, 0) <= 0:
            found: Params | None = self._good.propose(history)
            return found
        self._left[history.proposals] -= 1
        if self._how == "raise":
            msg = "the surrogate's matrix is singular"
            raise ArithmeticError(msg)
        return {"model.x": 7.5, "model.y": float("nan")}


def install() -> None:
    """In a driver, put the bad searcher before the good one."""
    if "service.tuning.driver" not in sys.orig_argv:
        return
    from service.tuning.searchers import random

    good, plan = random.build, json.loads(os.environ[VARIABLE])

    def build(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # stands for the plugin's build
        return BadSearcher(good(*args, **kwargs), plan)

    setattr(random, "build", build)  # noqa: B010  # a module's function is replaced on purpose
