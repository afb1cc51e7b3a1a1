"""The words of W&B, Katib and Determined: each means what it means there, and never two things at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service import plugins
from service.errors import SpecError
from service.spec.objective import Objective
from service.spec.parameters import to_data
from service.spec.space import Choice, Constant, Integer, Real
from service.spec.sweep_spec import SweepSpec, load_sweep, parse_sweep
from service.spec.text import canonical_text

VALID = Path(__file__).parents[1] / "cases" / "valid"
BASE = "name: a\nfit: {trainer: {max_epochs: 9}}\n"
METRIC = "metric: {name: val_loss, goal: minimize}\n"
LR = "parameters: {lr: {min: 0.1, max: 0.2}}\n"
BAYESIAN = next(name for name in ("bayes", "tpe") if name in plugins.names("searchers"))


def load(text: str) -> SweepSpec:
    return parse_sweep(BASE + text, file="a.yaml", root=VALID)


def faults(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        load(text)
    return "\n".join(map(str, caught.value.faults))


def test_a_wandb_sweep() -> None:
    spec = load_sweep(VALID / "wandb.yaml")
    assert (spec.search.name, spec.budget.max_trials) == (BAYESIAN, 30)
    assert (spec.scheduler.name, spec.max_epochs) == ("asha", 27)
    assert spec.scheduler.options == {"reduction_factor": 3, "grace_epochs": 3}
    assert spec.parameters == {
        "model.init_args.width": Real(8, 64, step=8),
        "optimizer.class_path": Choice(("torch.optim.SGD", "torch.optim.Adam"), (0.25, 0.75)),
        "optimizer.init_args.lr": Real(1e-5, 1e-1, log=True),
        "optimizer.init_args.weight_decay": Constant(0.01),
        "data.init_args.batch_size": Integer(16, 256),
        "trainer.gradient_clip_val": Constant(1.0),
    }


def test_wandb_brackets_begin_at_min_iter() -> None:
    spec = load_sweep(VALID / "wandb_min_iter.yaml")
    assert (spec.max_epochs, spec.scheduler.options) == (9, {"grace_epochs": 3})


def test_a_katib_experiment() -> None:
    spec = load_sweep(VALID / "katib.yaml")
    budget = spec.budget
    assert (budget.max_trials, budget.max_concurrent_trials, budget.max_failed_trials) == (12, 3, 3)
    assert spec.objectives.objectives == (Objective("val_acc", "maximize", 0.99),)
    assert spec.search.name == BAYESIAN


def test_a_determined_searcher() -> None:
    spec = load_sweep(VALID / "determined.yaml")
    assert (spec.search.name, spec.scheduler.name, spec.max_epochs) == ("random", "asha", 27)
    assert (spec.budget.max_trials, spec.budget.max_concurrent_trials) == (16, 4)
    assert spec.objectives.objectives == (Objective("val_acc", "maximize"),)


@pytest.mark.parametrize(
    ("text", "get", "value"),
    [
        ("method: grid\n", lambda s: s.search.name, "grid"),
        ("method: bayes\n", lambda s: s.search.name, BAYESIAN),
        ("search: {name: bayes}\n", lambda s: s.search.name, BAYESIAN),
        ("algorithm: {algorithmName: multivariate-tpe}\n", lambda s: s.search.name, "tpe"),
        ("algorithm: {algorithmName: cma-es}\n", lambda s: s.search.name, "cmaes"),
        ("search: {name: bayesopt}\n", lambda s: s.search.name, "gp"),
        ("max_length: 4\n", lambda s: s.max_epochs, 4),
        ("searcher: {name: grid}\n", lambda s: (s.search.name, s.scheduler.name), ("grid", "fifo")),
        ("searcher: {divisor: 4}\n", lambda s: s.scheduler_options().reduction_factor, 4),
        ("early_terminate: {type: hyperband, max_iter: 81, s: 2, eta: 3}\n",
         lambda s: s.scheduler_options().grace_epochs, 9),
        ("early_terminate: {type: hyperband, max_iter: 2, s: 9}\n", lambda s: s.scheduler_options().grace_epochs, 1),
    ],
)  # fmt: skip
def test_words_of_the_search(text: str, get: Any, value: object) -> None:  # noqa: ANN401  # a lambda
    assert get(load(METRIC + LR + "budget: {max_trials: 3}\n" + text)) == value


@pytest.mark.parametrize(
    ("theirs", "canonical"),
    [
        ("{value: 3}", "3"),
        ("{distribution: constant, value: [1, 2]}", "{value: [1, 2]}"),
        ("{distribution: categorical, values: [a, b]}", "{values: [a, b]}"),
        ("{values: [a, b], probabilities: [0.1, 0.9]}", "{values: [a, b], weights: [0.1, 0.9]}"),
        ("{min: 1, max: 9}", "{min: 1, max: 9, distribution: int_uniform}"),
        ("{min: 1, max: 9.0}", "{min: 1, max: 9, distribution: uniform}"),
        ("{distribution: q_uniform, min: 0, max: 1, q: 0.1}", "{min: 0, max: 1, step: 0.1, distribution: uniform}"),
        ("{distribution: q_uniform, min: 0, max: 9}", "{min: 0, max: 9, step: 1, distribution: uniform}"),
        ("{distribution: log_uniform_values, min: 0.1, max: 1}", "{min: 0.1, max: 1, distribution: log_uniform}"),
        ("{distribution: q_log_uniform_values, min: 1, max: 9, q: 2}",
         "{min: 1, max: 9, step: 2, distribution: log_uniform}"),
    ],
)  # fmt: skip
def test_parameter_forms_mean_their_canonical_form(theirs: str, canonical: str) -> None:
    rest = METRIC + "budget: {max_trials: 3}\n"
    first, second = (load(f"{rest}parameters: {{p: {form}}}\n").parameters["p"] for form in (theirs, canonical))
    assert first == second
    assert to_data(first) == to_data(second)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("run_cap: 3\nbudget: {max_trials: 3}\n", "run_cap: means `budget.max_trials`, which line 6 gives too"),
        (
            "run_cap: 3\nmaxTrialCount: 3\n",
            "maxTrialCount: means `budget.max_trials`, which line 5 gives as `run_cap` too",
        ),
        ("method: grid\nsearch: {name: grid}\n", "method: means `search.name`"),
        ("objective: {type: minimize, objectiveMetricName: a}\n", "objective: means `metric`"),
        ("early_terminate: {type: median}\n", "allowed: type: hyperband"),
        ("early_terminate: {type: hyperband, s: 2}\n", "goes with max_iter"),
        ("early_terminate: hyperband\n", "early_terminate: must be a mapping"),
        ("algorithm: {algorithmName: tpee}\n", "did you mean 'tpe'?"),
        ("algorithm: {algorithmNme: tpe}\n", "did you mean 'algorithmName'?"),
        ("maxTrialCont: 3\n", "did you mean 'maxTrialCount'?"),
        ("program: train.py\n", "program: no script is run: put the LightningCLI config"),
        ("command: [python]\n", "command: no script is run"),
        ("searcher: {max_length: {batches: 9}}\n", "lengths are counted in epochs"),
        ("run_cap: many\n", "run_cap: must be a whole number"),
        ("budget: 3\nrun_cap: 3\n", "budget: must be a mapping"),
    ],
)
def test_faults_speak_of_what_was_written(text: str, words: str) -> None:
    assert words in faults(METRIC + LR + text)


def test_an_objective_without_its_goal_is_refused() -> None:
    assert "objective: needs type" in faults(LR + "objective: {objectiveMetricName: a}\nrun_cap: 3\n")


def test_exponents_of_wandbs_log_uniform_are_noticed() -> None:
    text = METRIC + "run_cap: 3\nparameters: {lr: {distribution: log_uniform, min: -9, max: -1}}\n"
    assert "bounds are real values, not exponents" in faults(text)


def test_canonical_text_holds_no_word_of_theirs() -> None:
    text = canonical_text(VALID / "wandb.yaml")
    assert "base: ../fit.yaml\nmetric: {name: val/loss, goal: minimize}\nparameters:\n" in text
    assert "  optimizer.init_args.lr: {min: 1.0e-05, max: 0.1, distribution: log_uniform}\n" in text
    assert f"search: {{name: {BAYESIAN}}}\n" in text
    assert "scheduler: {name: asha, max_epochs: 27, reduction_factor: 3, grace_epochs: 3}\n" in text
    assert "budget: {max_trials: 30}\n" in text
