"""From the tree of a sweep file to the fields of a SweepSpec: every section read, then checked against the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from service import plugins
from service.errors import SpecError
from service.plugins import nearest
from service.spec.aliases import EXPLAINED, RENAMED, SECTIONS
from service.spec.document import Node, Place, Steps, read
from service.spec.evaluation import check_evaluation
from service.spec.faults import Faults, validated
from service.spec.parameter_rules import lookup, read_parameters, read_start_points
from service.spec.sections import Budget, Code, Head, Limits, Metric, SchedulerSection, SearchSection
from service.spec.space import Parameter, Space

ORDER: Final = (
    "kind", "name", "description", "seed", "base", "fit", "metric", "metrics", "constraints", "parameters", "search",
    "scheduler", "budget", "resources", "evaluation", "failure", "checkpoints", "tracking", "code",
)  # fmt: skip
MAX_GRID: Final = 1_000_000
_UNREAD: Final = Node({}, Place(""))  # stands in for a config that cannot be read, so that this is one fault
_READABLE: Final = 10**30
_OWN: Final = {
    "search": ("name", "start_from_defaults", "start_points", "warm_start"), "scheduler": ("name", "max_epochs")
}  # fmt: skip
_STAND_IN: Final = 10_000  # for a max_epochs with a fault, so that the scheduler's other options are checked too


def embed_base(root: Node, folder: Path, faults: Faults) -> None:
    """Put the LightningCLI config that `base:` names under `fit`, with its own lines; `base` goes away."""
    base = root.mapping.pop("base", None)
    if base is None:
        return
    if "fit" in root.mapping:
        faults.at(base, "stands beside `fit`: give the LightningCLI config once, in a file or inline")
    elif not isinstance(base.value, str) or not base.value:
        faults.at(base, "must be the path of a LightningCLI config, relative to the sweep file")
    else:
        root.mapping["fit"] = _UNREAD
        try:
            root.mapping["fit"] = _unwrapped(read(folder / base.value, name=str(folder / base.value)))
        except SpecError as error:
            for fault in error.faults:
                if fault.line is None:
                    faults.at(base, f"the file {fault.message}", allowed=fault.allowed)
                else:
                    faults.take([fault])


def _unwrapped(config: Node) -> Node:
    """A config that LightningCLI wrote for its subcommand `fit` holds everything under that word."""
    return config.mapping["fit"] if set(config.mapping) == {"fit"} else config


class Reader:
    """Reads one tree. `folder` is the sweep file's, for paths in it; None for a spec that was resolved before."""

    def __init__(self, root: Node, folder: Path | None, faults: Faults) -> None:
        self._root, self._folder, self._faults = root, folder, faults
        self._fields: dict[str, Any] = {}
        self._is_endless = False  # until the searcher and the space are known to be

    def fields(self) -> dict[str, Any]:
        """The fields of a SweepSpec; those with faults are missing."""
        self._check_keys()
        self._read_head()
        self._read_fit()
        self._read_metrics()
        for name, field in Limits.model_fields.items():
            self._read_section(name, field.annotation)
        parameters = read_parameters(self._root, self._faults)
        self._keep("parameters", parameters)
        self._read_search(parameters)
        self._read_scheduler()
        self._check_end()
        check_evaluation(self._fields, self._faults)
        return self._fields

    def _keep(self, name: str, value: object) -> None:
        if value is not None:
            self._fields[name] = value

    def _plain(self, name: str) -> Any:  # noqa: ANN401  # any JSON value
        node = self._root.mapping.get(name)
        return {} if node is None or node.value is None else node.plain()

    def _check_keys(self) -> None:
        for key in self._root.mapping:
            if key in EXPLAINED:
                self._faults.add((key,), EXPLAINED[key])
            elif key not in ORDER:
                near = nearest(key, [*ORDER, *RENAMED, *SECTIONS])
                self._faults.add((key,), "unknown key", allowed=", ".join(ORDER), near=near)

    def _read_head(self) -> None:
        data = {k: self._root.mapping[k].plain() for k in Head.model_fields if k in self._root.mapping}
        head = validated(Head, data, (), self._faults)
        if head is not None:
            self._fields |= {name: getattr(head, name) for name in Head.model_fields}

    def _read_fit(self) -> None:
        node = self._root.mapping.get("fit")
        if node is None:
            allowed = "base: the path of a LightningCLI config, or fit: with the config inline"
            self._faults.add((), "says nowhere what is to be trained", allowed=allowed)
        elif node is _UNREAD:
            return
        elif not node.mapping:
            self._faults.at(node, "must be a LightningCLI config", allowed="a mapping with model, data, trainer, …")
        else:
            self._keep("fit", _recordable(node.plain()))

    def _read_metrics(self) -> None:
        one, many = self._root.mapping.get("metric"), self._root.mapping.get("metrics")
        if one is not None and many is not None:
            self._faults.add(("metrics",), "stands beside `metric`: give one objective there, or all of them here")
        elif one is None and many is None:
            allowed = "metric: {name: val_acc, goal: maximize}, or metrics: with a list of such"
            self._faults.add((), "says nowhere what is to be optimised", allowed=allowed)
        elif one is not None:
            self._keep("metric", validated(Metric, one.plain(), ("metric",), self._faults))
            self._check_wishes(one, ("metric",))
        elif many is not None:
            self._read_list_of_metrics(many)

    def _read_list_of_metrics(self, node: Node) -> None:
        if not node.items:
            self._faults.at(node, "must be a list of metrics", allowed="[{name: val_acc, goal: maximize}, ...]")
            return
        read = [validated(Metric, n.plain(), ("metrics", i), self._faults) for i, n in enumerate(node.items[:20])]
        if len(node.items) > len(read):
            self._faults.at(Node(len(node.items), node.place), "too many objectives", allowed=f"at most {len(read)}")
        metrics = [metric for metric in read if metric is not None]
        for i, metric in enumerate(metrics):
            if metric.name in [other.name for other in metrics[:i]]:
                self._faults.add(("metrics", i, "name"), "stands twice: each objective has its own metric")
        if len(node.items) == 1:
            self._check_wishes(node.items[0], ("metrics", 0))
        if len(metrics) == len(node.items):
            self._fields["metrics"] = tuple(metrics)

    def _check_wishes(self, node: Node, steps: Steps) -> None:
        """With one objective there is no compromise to choose."""
        for key in ("weight", "reference"):
            if key in node.mapping:
                message = "chooses among several objectives, and this sweep has one"
                self._faults.add((*steps, key), message, allowed="metrics: [{...}, {...}], or leave it out")

    def _read_section(self, name: str, model: object) -> None:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return
        section = validated(model, self._plain(name), (name,), self._faults)
        if isinstance(section, Code) and self._folder is not None:
            section = self._resolved(section, self._folder)
        self._keep(name, section)

    def _resolved(self, code: Code, folder: Path) -> Code:
        root = (folder / code.root).resolve()
        if not root.is_dir():
            self._faults.add(("code", "root"), "is no folder", allowed="a folder, relative to the sweep file")
        return code.model_copy(update={"root": str(root)})

    def _options(self, folder: str, section: str, name: object, options: dict[str, Any]) -> Any:  # noqa: ANN401  # each plugin has its own
        """The validated options of a plugin, or None after noting what is wrong with them."""
        if not isinstance(name, str):
            return None
        try:
            plugin = plugins.find(folder, name)
        except SpecError as error:
            fault = error.faults[0]
            self._faults.add((section, "name"), fault.message, allowed=fault.allowed, near=fault.nearest)
            return None
        return validated(plugin.Options, options, (section,), self._faults, also=_OWN[section])

    def _read_search(self, parameters: Mapping[str, Parameter] | None) -> None:
        own, options = self._split("search")
        search = validated(SearchSection, own, ("search",), self._faults)
        name = own.get("name", SearchSection.model_fields["name"].default)
        read = self._options("searchers", "search", name, options)
        if search is None:
            return
        if search.warm_start and search.name == "grid":
            allowed = "any other searcher, or no warm_start"
            self._faults.add(("search", "warm_start"), "grid walks a list: it learns from nothing", allowed=allowed)
        points = search.start_points
        if parameters is not None:
            space = Space(parameters)
            if "fit" in self._fields:
                points = read_start_points(points, space, self._fields["fit"], self._faults)
            if read is not None:
                self._check_size(search.name, read, space)
        self._fields["search"] = search.model_copy(update={"options": options, "start_points": points})

    def _check_size(self, name: str, options: object, space: Space) -> None:
        size = search_size(name, options, space)
        self._is_endless = size is None
        if size is not None and size > MAX_GRID and hasattr(plugins.find("searchers", name), "size"):
            message = f"has {size:,} points" if size < _READABLE else "has far too many points"
            allowed = f"at most {MAX_GRID:,}: fewer values, larger steps, or another searcher"
            self._faults.add(("search", "name"), message, allowed=allowed)

    def _read_scheduler(self) -> None:
        own, options = self._split("scheduler")
        if own.get("max_epochs") is None:
            own["max_epochs"] = self._trainer_epochs()
        section = validated(SchedulerSection, own, ("scheduler",), self._faults)
        name = own.get("name", SchedulerSection.model_fields["name"].default)
        epochs = section.max_epochs if section is not None else _STAND_IN
        self._options("schedulers", "scheduler", name, {**options, "max_epochs": epochs})
        if section is not None:
            self._fields["scheduler"] = section.model_copy(update={"options": options})

    def _trainer_epochs(self) -> int:
        """`trainer.max_epochs` of the config, where the scheduler does not say how long a trial trains."""
        epochs = lookup(self._fields.get("fit", {}), "trainer.max_epochs")
        if isinstance(epochs, int) and not isinstance(epochs, bool) and epochs >= 1:
            return epochs
        if "fit" in self._fields:
            steps = ("fit", "trainer", "max_epochs") if epochs is not None else ("scheduler", "max_epochs")
            message = "says nowhere how many epochs a trial trains at most"
            allowed = "scheduler: {max_epochs: ...}, or trainer: {max_epochs: ...} from 1 in the LightningCLI config"
            self._faults.add(steps, message, allowed=allowed)
        return _STAND_IN

    def _split(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The keys of a section that are its own, and those of its plugin."""
        data, own = self._plain(name), _OWN[name]
        if not isinstance(data, dict):
            self._faults.add((name,), "must be a mapping", allowed="{name: ...} and its options")
            data = {}
        return {k: v for k, v in data.items() if k in own}, {k: v for k, v in data.items() if k not in own}

    def _check_end(self) -> None:
        budget = self._fields.get("budget")
        objectives = [m for m in (self._fields.get("metric"), *self._fields.get("metrics", ())) if m is not None]
        if not (self._is_endless and isinstance(budget, Budget) and objectives):
            return
        ends = (budget.max_trials, budget.wall_clock_s, budget.cpu_hours, budget.gpu_hours, budget.total_epochs,
                budget.plateau, budget.min_expected_improvement)  # fmt: skip
        if all(end is None for end in (*ends, *(metric.target for metric in objectives))):
            allowed = "budget: {max_trials: 60}, wall_clock, cpu_hours, gpu_hours, total_epochs, plateau or "
            allowed += "min_expected_improvement, or a metric with a target"
            self._faults.add(("budget",), "sets no end: this sweep would never end", allowed=allowed)


def search_size(name: str, options: object, space: Space) -> int | None:
    """How many configurations the searcher has before it is used up; None where it never is.

    A searcher that walks a list says so by a function `size(options, space)` in its file.
    """
    size = getattr(plugins.find("searchers", name), "size", None)
    return space.size if size is None else int(size(options, space))


def _recordable(data: Any) -> Any:  # noqa: ANN401  # any JSON value
    """The config with what JSON has no number for as the text that LightningCLI reads as that number."""
    if isinstance(data, dict):
        return {key: _recordable(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_recordable(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return {math.inf: ".inf", -math.inf: "-.inf"}.get(data, ".nan")
    return data


def resolved_tree(data: Mapping[str, Any]) -> Node:
    """The tree of a spec that was resolved before, as from a ledger."""
    return Node.of(data, Place("the recorded sweep"))
