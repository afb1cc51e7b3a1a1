"""Keeps data modules between the trials of a warm worker, so that unchanged data is set up once.

A module is kept only if that cannot change a result: setting it up drew nothing from the global random states, and its
class overrides neither `teardown` nor the hooks that give it a state. Its own generators are wound back for each trial.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import pytorch_lightning as pl

from service.tuning.trial_generators import generator_state, generators_of, set_generator_state
from service.tuning.trial_state import is_same_random_state, random_state

_MAX_KEPT_BYTES: Final = 1 << 30
_STATEFUL_HOOKS: Final = ("teardown", "state_dict", "load_state_dict")
_PAGE_BYTES: Final = 4096


class WarmData:
    """One data module with what is known about it: may it be kept, which stages are set up, how large it is."""

    def __init__(self, module: pl.LightningDataModule, *, drew_randomness: bool) -> None:
        self.module = module
        overrides = any(getattr(type(module), h) is not getattr(pl.LightningDataModule, h) for h in _STATEFUL_HOOKS)
        self.may_keep = not (overrides or drew_randomness)
        self.size_bytes = 0
        self._stages: set[str | None] = set()
        self._is_prepared = False
        self._generators: dict[str, Any] = {}
        if self.may_keep:
            self._watch("prepare_data")
            self._watch("setup")

    def _watch(self, name: str) -> None:
        original = getattr(self.module, name)

        @functools.wraps(original)
        def once(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # stands in for any signature
            stage = name if name == "prepare_data" else str(kwargs.get("stage", args[0] if args else None))
            if stage not in self._stages or not self.may_keep:
                self._run(original, *args, **kwargs)
                self._stages.add(stage)

        setattr(self.module, name, once)

    def _run(self, original: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # as above
        before, memory = random_state(), _resident_bytes()
        original(*args, **kwargs)
        self.may_keep = self.may_keep and is_same_random_state(before, random_state())
        self.size_bytes += max(0, _resident_bytes() - memory)
        self._generators = {name: generator_state(one) for name, one in generators_of(self.module).items()}

    def rewind(self) -> None:
        """Put the module's own generators back to where they were when it had just been set up."""
        for name, state in self._generators.items():
            set_generator_state(getattr(self.module, name), state)


_KEPT: OrderedDict[str, WarmData] = OrderedDict()


def create(kind: type[pl.LightningDataModule], *args: Any, **kwargs: Any) -> WarmData:  # noqa: ANN401  # any signature
    """A new data module that may be kept later."""
    before = random_state()
    module = kind(*args, **kwargs)
    return WarmData(module, drew_randomness=not is_same_random_state(before, random_state()))


def take(key: str) -> WarmData | None:
    """The kept data module of this configuration, wound back; None where there is none."""
    warm = _KEPT.pop(key, None)
    if warm is not None:
        warm.rewind()
    return warm


def keep(key: str, warm: WarmData) -> None:
    """Offer a data module after a fit that ended well; the oldest ones go once all of them together exceed 1 GiB."""
    warm.module.trainer = None
    if not warm.may_keep:
        return
    _KEPT[key] = warm
    while len(_KEPT) > 1 and sum(one.size_bytes for one in _KEPT.values()) > _MAX_KEPT_BYTES:
        _KEPT.popitem(last=False)


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):  # no such file on this system: sizes count as zero
        return 0
