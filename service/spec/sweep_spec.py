"""SweepSpec, what a sweep file means, and the ways to one: from a file, from a text, from the ledger.

A spec that was loaded is resolved: the LightningCLI config stands in `fit`, the scheduler knows its `max_epochs`, the
words of other tools are gone. It holds everything a job needs, so it can travel.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, SkipValidation

from service import plugins
from service.errors import SpecError
from service.spec import overrides as spec_overrides
from service.spec.aliases import canonicalise
from service.spec.document import Node, parse, read
from service.spec.faults import Faults
from service.spec.objective import Constraint, Objectives
from service.spec.parameters import to_data
from service.spec.reader import ORDER, Reader, embed_base, resolved_tree
from service.spec.sections import Head, Limits, Metric, SchedulerSection, SearchSection
from service.spec.space import Parameter, Space

__all__ = ["SpecError", "SweepSpec", "load_sweep", "parse_sweep"]

_FIT_KEYS: Final = frozenset({"model", "data", "trainer"})  # that a LightningCLI config begins with
_SWEEP_KEYS: Final = frozenset({"kind", "base", "fit", "parameters", "metric", "metrics", "search"})


class SweepSpec(Head, Limits):
    """A sweep: what is trained, what is searched, how, and until when. Made by `load_sweep` or `from_dict`."""

    base: str | None = None
    """The path of a LightningCLI config, relative to the sweep file."""
    fit: dict[str, Any]
    """The LightningCLI config."""
    metric: Metric | None = None
    """The objective."""
    metrics: tuple[Metric, ...] = ()
    """The objectives, where there are several."""
    parameters: dict[str, Annotated[Parameter, SkipValidation]]
    """What is searched: dotted paths into the LightningCLI config."""
    search: SearchSection
    """Which searcher proposes configurations."""
    scheduler: SchedulerSection
    """Which scheduler stops, pauses and promotes trials."""

    @property
    def max_epochs(self) -> int:
        """Epochs after which a trial is complete."""
        return self.scheduler.max_epochs

    @cached_property
    def objectives(self) -> Objectives:
        """All metrics with their goals, and the constraints."""
        metrics = (self.metric,) if self.metric is not None else self.metrics
        return Objectives(tuple(m.objective for m in metrics), tuple(map(Constraint.parse, self.constraints)))

    @cached_property
    def space(self) -> Space:
        """The search space."""
        return Space(self.parameters)

    def search_options(self) -> Any:  # noqa: ANN401  # each plugin has its own Options
        """The searcher's own options, validated."""
        return plugins.find("searchers", self.search.name).Options.model_validate(self.search.options)

    def scheduler_options(self) -> Any:  # noqa: ANN401  # each plugin has its own Options
        """The scheduler's own options, validated; `max_epochs` among them."""
        options = {**self.scheduler.options, "max_epochs": self.max_epochs}
        return plugins.find("schedulers", self.scheduler.name).Options.model_validate(options)

    def to_dict(self) -> dict[str, Any]:
        """The whole spec in canonical words, as JSON can hold it; None and empty parts are left out."""
        data: dict[str, Any] = {name: _dumped(getattr(self, name)) for name in ORDER}
        data["fit"] = copy.deepcopy(self.fit)
        data["parameters"] = {name: to_data(parameter) for name, parameter in self.parameters.items()}
        data["search"] |= copy.deepcopy(self.search.options)
        data["scheduler"] |= copy.deepcopy(self.scheduler.options)
        return {name: value for name, value in data.items() if value is not None and value != []}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. SpecError where `data` is no resolved spec; aliases and `base` are not read."""
        root = resolved_tree(data)
        faults = Faults(root)
        fields = Reader(root, None, faults).fields()
        faults.raise_any()
        return cls(**fields)


def _dumped(value: object) -> Any:  # noqa: ANN401  # any JSON value
    if isinstance(value, BaseModel):
        dumped = value.model_dump(mode="json", by_alias=True)
        return {key: item for key, item in dumped.items() if item is not None}
    return [_dumped(item) for item in value] if isinstance(value, tuple) else value


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """The resolved spec of a sweep file. SpecError with all faults at once.

    `overrides` are `a.b=c` with YAML values; `base` and `code.root` are taken relative to the file's folder.
    """
    return _resolve(read(path), path.parent, overrides)


def parse_sweep(text: str | bytes, *, file: str, root: Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """As `load_sweep`, of a text that is called `file` in faults and whose paths are relative to `root`."""
    return _resolve(parse(text, file=file), root, overrides)


def change_sweep(data: Mapping[str, Any], overrides: Sequence[str]) -> SweepSpec:
    """The resolved spec `data` with overrides applied, as `load_sweep` takes them. SpecError with all faults."""
    root = resolved_tree(data)
    faults = Faults(root)
    spec_overrides.apply(root, overrides, faults)
    canonical_tree(root, faults)
    fields = Reader(root, None, faults).fields()
    faults.raise_any()
    return SweepSpec(**fields)


def canonical_tree(root: Node, faults: Faults) -> None:
    """Turn the words of other tools into the canonical ones, in place."""
    if not isinstance(root.value, dict):
        faults.at(root, "must be a mapping", allowed="a sweep: kind, name, metric, parameters, …")
        faults.raise_any()
    if _FIT_KEYS & root.mapping.keys() and not _SWEEP_KEYS & root.mapping.keys():
        message = "this is a LightningCLI config, and no sweep file"
        faults.at(root, message, allowed="a sweep file that names it under `base:`; `tuneyard new` writes a first one")
        faults.raise_any()
    canonicalise(root, plugins.names("searchers"), faults)


def _resolve(root: Node, folder: Path, overrides: Sequence[str]) -> SweepSpec:
    faults = Faults(root)
    canonical_tree(root, faults)
    embed_base(root, folder, faults)
    if overrides:
        spec_overrides.apply(root, overrides, faults)
        canonical_tree(root, faults)
    fields = Reader(root, folder, faults).fields()
    faults.raise_any()
    return SweepSpec(**fields)
