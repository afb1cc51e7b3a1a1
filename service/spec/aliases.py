"""Turns the words of W&B, Katib and Determined into the canonical ones, in place, so that nothing else knows them.

W&B: method, run_cap, early_terminate, distribution names, q, probabilities, nested parameters. Katib: maxTrialCount,
parallelTrialCount, maxFailedTrialCount, objective, algorithm. Determined: searcher, max_length, max_trials,
max_concurrent_trials. An alias beside its canonical form is a fault: which one is meant would be a guess.
"""

from __future__ import annotations

from typing import Final

from service.plugins import nearest
from service.spec.document import Node, Place, Steps, written
from service.spec.faults import Faults

RENAMED: Final[dict[str, Steps]] = {
    "method": ("search", "name"),
    "run_cap": ("budget", "max_trials"),
    "maxTrialCount": ("budget", "max_trials"),
    "parallelTrialCount": ("budget", "max_concurrent_trials"),
    "maxFailedTrialCount": ("budget", "max_failed_trials"),
    "max_trials": ("budget", "max_trials"),
    "max_concurrent_trials": ("budget", "max_concurrent_trials"),
    "max_length": ("scheduler", "max_epochs"),
}
SECTIONS: Final = {
    "objective": "metric",
    "algorithm": "search",
    "early_terminate": "scheduler",
    "searcher": "search",
}
_NO_SCRIPT: Final = (
    "no script is run: put the LightningCLI config of what it trains under `fit:`, or its file in `base:`"
)
EXPLAINED: Final = {
    "program": _NO_SCRIPT,
    "command": _NO_SCRIPT,
    "entrypoint": _NO_SCRIPT,
    "trialTemplate": "no pod is run: put the LightningCLI config under `fit:` and what a trial needs in `resources:`",
    "hyperparameters": "write `parameters:`, each name a dotted path into the LightningCLI config",
    "project": "write `tracking: {experiment: ...}`",
    "entity": "write `tracking: {experiment: ...}`",
}
_SEARCHERS: Final = {
    "bayesianoptimization": ("bayes", "tpe"), "bayes": ("bayes", "tpe"), "multivariate-tpe": ("tpe",),
    "cma-es": ("cmaes",), "bayesopt": ("gp",),
}  # fmt: skip
_DISTRIBUTIONS: Final = {
    "log_uniform_values": "log_uniform",
    "q_uniform": "uniform",
    "q_log_uniform_values": "log_uniform",
}
_PLAIN: Final = {"constant": "value", "categorical": "values", "categorical_w_probabilities": "values"}
_KATIB_OBJECTIVE: Final = {"objectiveMetricName": "name", "type": "goal", "goal": "target"}
_HYPERBAND: Final = ("type", "min_iter", "max_iter", "eta", "s")
_SEARCHER: Final = (
    "name",
    "metric",
    "smaller_is_better",
    "max_trials",
    "max_concurrent_trials",
    "max_length",
    "divisor",
)


def canonical_steps(steps: Steps) -> Steps:
    """The canonical form of the path of an override: `run_cap` is `budget.max_trials`."""
    return (*RENAMED.get(str(steps[0]), (steps[0],)), *steps[1:])


def canonicalise(root: Node, searchers: tuple[str, ...], faults: Faults) -> None:
    """Rewrite `root` in place; `searchers` are the names there are, for words that mean the best one at hand."""
    _Aliases(root, searchers, faults).run()


class _Aliases:
    def __init__(self, root: Node, searchers: tuple[str, ...], faults: Faults) -> None:
        self._root, self._searchers, self._faults = root, searchers, faults

    def run(self) -> None:
        top = self._root.mapping
        handlers = {
            "objective": self._objective, "algorithm": self._algorithm,
            "early_terminate": self._early_terminate, "searcher": self._searcher,
        }  # fmt: skip
        for key in list(top):
            if key in RENAMED:
                node = top.pop(key)
                self._put(RENAMED[key], node)
            elif key in handlers:
                handlers[key](top.pop(key))
        self._name_searcher()
        for parameter in _flattened(top.get("parameters")):
            _canonical_parameter(parameter, self._faults)

    def _put(self, target: Steps, node: Node, original: Node | None = None) -> None:
        """Give `target` (a key, or a section and its key) the value `node`, made of `original`, unless it is taken."""
        holder = self._root
        for step in target[:-1]:
            holder.mapping.setdefault(str(step), Node({}, Place(node.place.file, node.place.line, (step,))))
            holder = holder.mapping[str(step)]
        if not isinstance(holder.value, dict):
            return  # the section itself is wrong, which is noted when it is read
        taken = holder.mapping.get(str(target[-1]))
        if taken is None:
            holder.value[str(target[-1])] = node
            return
        meaning, other = written(target), written(taken.place.steps)
        given = f"line {taken.place.line} gives" + (f" as `{other}`" if other != meaning else "")
        self._note(original or node, f"means `{meaning}`, which {given} too: keep one")

    def _note(self, node: Node, message: str, allowed: str | None = None, near: str | None = None) -> None:
        self._faults.at(node, message, allowed=allowed, near=near)

    def _section(self, node: Node, known: tuple[str, ...]) -> dict[str, Node]:
        if not isinstance(node.value, dict):
            self._note(node, "must be a mapping", allowed=", ".join(known))
            return {}
        for key, value in node.value.items():
            if key not in known:
                self._note(value, "unknown key", allowed=", ".join(known), near=nearest(key, known))
        return {key: value for key, value in node.value.items() if key in known}

    def _objective(self, node: Node) -> None:
        given = self._section(node, tuple(_KATIB_OBJECTIVE))
        missing = [key for key in ("objectiveMetricName", "type") if key not in given]
        if missing and isinstance(node.value, dict):
            self._note(node, f"needs {' and '.join(missing)}")
        elif given:
            self._put(
                ("metric",), Node({_KATIB_OBJECTIVE[key]: value for key, value in given.items()}, node.place), node
            )

    def _algorithm(self, node: Node) -> None:
        name = self._section(node, ("algorithmName",)).get("algorithmName")
        if name is not None:
            self._put(("search", "name"), name)

    def _name_searcher(self) -> None:
        """A word of theirs for a kind of search becomes a searcher: for `bayes`, the best Bayesian one at hand."""
        node, rest = self._root.locate(("search", "name"))
        if not rest and isinstance(node.value, str) and node.value not in self._searchers:
            names = [name for name in _SEARCHERS.get(node.value, ()) if name in self._searchers]
            node.value = names[0] if names else node.value

    def _early_terminate(self, node: Node) -> None:
        """W&B's hyperband judges trials as they come at fixed brackets, and that is what `asha` does here."""
        given = self._section(node, _HYPERBAND)
        kind = given.get("type")
        if kind is None or kind.value != "hyperband":
            self._note(kind or node, "only this type is known", allowed="type: hyperband")
            return
        self._put(("scheduler", "name"), Node("asha", kind.place))
        for theirs, ours in {"max_iter": "max_epochs", "eta": "reduction_factor", "min_iter": "grace_epochs"}.items():
            if theirs in given:
                self._put(("scheduler", ours), given[theirs])
        if "s" in given:
            self._brackets(given)

    def _brackets(self, given: dict[str, Node]) -> None:
        """W&B's `s`: rungs at max_iter / eta, max_iter / eta^2, … so many times; the last one is the first to come."""
        eta = given["eta"].value if "eta" in given else 3
        most, rungs = given["max_iter"].value if "max_iter" in given else None, given["s"].value
        numbers = [n for n in (most, rungs, eta) if isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= 10**6]
        if len(numbers) < 3 or "min_iter" in given:  # noqa: PLR2004  # max_iter, s and eta
            self._note(given["s"], "goes with max_iter (and not with min_iter), all whole numbers from 1")
            return
        first = numbers[0]
        for _ in range(min(numbers[1], 20)):
            first = max(1, first // numbers[2])
        self._put(("scheduler", "grace_epochs"), Node(first, given["s"].place))

    def _searcher(self, node: Node) -> None:
        given = self._section(node, _SEARCHER)
        for theirs in ("max_trials", "max_concurrent_trials"):
            if theirs in given:
                self._put(("budget", theirs), given[theirs])
        self._searcher_name(given.get("name"))
        if "divisor" in given and "name" not in given:  # their word for how `asha` halves
            self._put(("scheduler", "name"), Node("asha", given["divisor"].place))
        for theirs, ours in {"max_length": "max_epochs", "divisor": "reduction_factor"}.items():
            length = self._epochs(given.get(theirs))
            if length is not None:
                self._put(("scheduler", ours), length)
        if "metric" in given:
            flag = given.get("smaller_is_better")
            goal = Node("maximize" if flag is not None and flag.value is False else "minimize", given["metric"].place)
            self._put(("metric",), Node({"name": given["metric"], "goal": goal}, node.place), given["metric"])

    def _searcher_name(self, node: Node | None) -> None:
        """Determined's searchers hold the scheduler too."""
        pairs = {
            "random": ("random", "fifo"), "grid": ("grid", "fifo"),
            "adaptive_asha": ("random", "asha"), "async_halving": ("random", "asha"),
        }  # fmt: skip
        if node is None:
            return
        if not isinstance(node.value, str) or node.value not in pairs:
            near = nearest(node.value, pairs) if isinstance(node.value, str) else None
            self._note(node, "is no searcher of Determined that is known here", ", ".join(pairs), near)
            return
        search, scheduler = pairs[node.value]
        self._put(("search", "name"), Node(search, node.place))
        self._put(("scheduler", "name"), Node(scheduler, node.place))

    def _epochs(self, node: Node | None) -> Node | None:
        if node is None or not node.mapping:
            return node
        if set(node.mapping) == {"epochs"}:
            return node.mapping["epochs"]
        self._note(node, "lengths are counted in epochs", allowed="{epochs: 27}, or the bare number")
        return None


def _flattened(parameters: Node | None) -> list[Node]:
    """The entries of `parameters:`; nested ones (W&B: {a: {parameters: {b: ...}}}) become dotted, in place."""
    if parameters is None or not isinstance(parameters.value, dict):
        return []
    entries: dict[str, Node] = {}
    for name, node in parameters.value.items():
        inner = node.mapping.get("parameters")
        if inner is not None and len(node.mapping) == 1 and inner.mapping:
            _flattened(inner)
            entries.update({f"{name}.{below}": child for below, child in inner.mapping.items()})
        else:
            entries[name] = node
    parameters.value = entries
    return list(entries.values())


def _canonical_parameter(node: Node, faults: Faults) -> None:
    given = node.mapping
    for theirs, ours in (("q", "step"), ("probabilities", "weights")):
        if theirs in given and ours in given:
            faults.at(given.pop(theirs), f"means `{ours}`, which is given too: keep one")
        elif theirs in given:
            node.value = {ours if key == theirs else key: value for key, value in given.items()}
            given = node.mapping
    word = given.get("distribution")
    if word is None or not isinstance(word.value, str):
        return
    if word.value in _PLAIN:
        del given["distribution"]
        if _PLAIN[word.value] not in given:
            faults.at(node, f"{word.value} needs `{_PLAIN[word.value]}:`")
    elif word.value in _DISTRIBUTIONS:
        given["distribution"] = Node(_DISTRIBUTIONS[word.value], word.place)
        if word.value.startswith("q_") and "step" not in given:
            given["step"] = Node(1, word.place)
