"""Writes a first sweep file for a user's own classes: what they log becomes the objective, what they take the space."""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from service.errors import Fault, SpecError
from service.spec.objective import Goal
from service.sweeps.apart import ask
from service.sweeps.starting_space import Knob, StartingSpace, starting_space

TIMEOUT_S: Final = 180.0  # importing and, where need be, one batch of training
MAX_EPOCHS: Final = 27
_OPTIMIZER: Final[dict[str, Any]] = {
    "optimizer.class_path": "torch.optim.AdamW",
    "optimizer.init_args.lr": {"min": 1e-4, "max": 1e-1, "distribution": "log_uniform"},
    "optimizer.init_args.weight_decay": {"min": 1e-6, "max": 1e-1, "distribution": "log_uniform"},
}
_BETTER_HIGHER: Final = re.compile(r"acc|auc|auroc|f1|precision|recall|score|r2|iou|dice|ndcg|hit|bleu|reward|psnr")
_BETTER_LOWER: Final = re.compile(r"loss|err|mse|mae|rmse|perplexity|ppl|wer|cer|nll|mape")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a new sweep is for: a LightningCLI config (`fit`), where it is written (None: inline), and the objective."""

    fit: Mapping[str, Any]
    base: str | None
    code_root: Path
    metric: str | None = None
    goal: Goal | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """The text of a sweep file that is written for somebody, and what a person should know about it."""

    text: str
    metric: str
    searched: tuple[str, ...]
    left: tuple[str, ...]


def new_sweep(wanted: Wanted) -> Draft:
    """The sweep file for what is wanted. SpecError where classes cannot be imported, or no objective can be found."""
    said = _asked(wanted)
    knobs = [Knob(k["path"], k["kind"], k["default"], tuple(k["choices"])) for k in said["knobs"]]
    space = _with_optimizer(starting_space(knobs), wanted.fit)
    metric, goal = _objective(wanted, said["metrics"])
    if not space.parameters:
        names = ", ".join(knob.path for knob in knobs) or "none"
        message = "none of the arguments has a name and type that a search space could be guessed for"
        raise SpecError([Fault(message, "fit", given=names, allowed="a sweep file by hand: see the README")])
    text = _text(wanted, space, {"name": metric, "goal": goal})
    return Draft(text, metric, tuple(space.parameters), space.left)


def _asked(wanted: Wanted) -> dict[str, Any]:
    request = {"fit": dict(wanted.fit), "code_root": str(wanted.code_root), "tries": wanted.metric is None}
    try:
        done = ask("service.tuning.signature_check_knobs", request, wanted.code_root, TIMEOUT_S)
        said: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        message = f"importing the classes, and training on one batch, took longer than {TIMEOUT_S:g} s"
        raise SpecError([Fault(message, "fit", allowed="give --metric, so that nothing has to be trained")]) from None
    except ValueError:
        words = "; ".join(done.stderr.strip().splitlines()[-5:])
        raise SpecError([Fault("the process that imports the classes gave no answer", "fit", given=words)]) from None
    if said["trouble"]:
        raise SpecError(
            [Fault(said["trouble"], "fit", allowed="classes that can be imported from " + str(wanted.code_root))]
        )
    return said


def _with_optimizer(space: StartingSpace, fit: Mapping[str, Any]) -> StartingSpace:
    """With a learning rate in any case: where no class takes one, the sweep brings the optimizer."""
    if "optimizer" in fit or any(path.endswith((".lr", "learning_rate")) for path in space.parameters):
        return space
    return StartingSpace({**space.parameters, **_OPTIMIZER}, space.left)


def _objective(wanted: Wanted, logged: Sequence[str]) -> tuple[str, Goal]:
    candidates = [name for name in logged if name.startswith("val") and goal_of(name)]
    metric = wanted.metric or next(iter(candidates), None)
    if metric is None:
        message = "the model logs no validation metric whose name says which way is better"
        allowed = "--metric NAME --goal minimize|maximize"
        raise SpecError([Fault(message, "metric", given=", ".join(logged) or None, allowed=allowed)])
    goal = wanted.goal or goal_of(metric)
    if goal is None:
        message = "the name does not say which way is better"
        raise SpecError([Fault(message, "metric.goal", given=metric, allowed="--goal minimize or --goal maximize")])
    return metric, goal


def goal_of(metric: str) -> Goal | None:
    """Which way is better, as far as a metric's name tells."""
    name = metric.lower()
    if _BETTER_LOWER.search(name):
        return "minimize"
    return "maximize" if _BETTER_HIGHER.search(name) else None


def _text(wanted: Wanted, space: StartingSpace, metric: Mapping[str, str]) -> str:
    trainer = wanted.fit.get("trainer")
    epochs = (trainer if isinstance(trainer, Mapping) else {}).get("max_epochs")
    model = wanted.fit.get("model")
    class_path = str(model.get("class_path") if isinstance(model, Mapping) else model)
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "-", class_path.rpartition(".")[2]).lower().strip("-")
    head = {"kind": "sweep", "name": name[:31].rstrip("-") or "sweep"}
    source = {"base": wanted.base} if wanted.base else {"fit": dict(wanted.fit)}
    lines = [
        "# A starting point, from the names, types and defaults of the arguments: change what you know better.",
        "# `tuneyard plan` says what it would cost.",
        *_dumped({**head, **source}),
        f"metric: {_flow(metric)}",
        "parameters:",
        *(f"  {path}: {_flow(entry)}" for path, entry in space.parameters.items()),
        *_remark("left as they are: " + ", ".join(space.left) if space.left else ""),
        f"scheduler: {{max_epochs: {epochs if isinstance(epochs, int) and epochs > 0 else MAX_EPOCHS}}}",
        "budget: {max_trials: 30, max_concurrent_trials: 2}",
        "resources: {cpu: 1}",
    ]
    return "\n".join(lines) + "\n"


def _remark(text: str) -> list[str]:
    return textwrap.wrap(text, 120, initial_indent="  # ", subsequent_indent="  #   ", break_on_hyphens=False)


def _dumped(section: Mapping[str, Any]) -> list[str]:
    return yaml.safe_dump(dict(section), sort_keys=False, allow_unicode=True).splitlines()


def _flow(entry: object) -> str:
    return yaml.safe_dump(entry, default_flow_style=True, sort_keys=False, width=1000).strip().removesuffix("\n...")
