"""Parameters reach the right place of a LightningCLI config; decisions on a report; what a restored optimizer keeps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from service.errors import MissingMetricError, TrialError
from service.tuning.assignment import Assignment, Report
from service.tuning.config_merge import merge_config
from service.tuning.lightning_config import accepted_arguments, merge
from service.tuning.reporting import DIVERGED, Before, made_finite, should_checkpoint, wanted_metrics
from service.tuning.trial_state import carry_over, fresh_state, is_same_random_state, random_state, set_random_state

FIT = {
    "model": {
        "class_path": "m.Net",
        "init_args": {"width": 8, "encoder": {"class_path": "m.E", "init_args": {"n": 1}}},
    },
    "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}},
    "trainer": {"callbacks": [{"class_path": "EarlyStopping", "init_args": {"monitor": "val_loss"}}]},
}


def assignment(**changes: Any) -> Assignment:  # noqa: ANN401  # any field
    fields: dict[str, Any] = {
        "sweep_id": "s", "trial": 0, "attempt": 1, "params": {}, "fit": {}, "metrics": ("val_acc",), "seed": 0,
        "max_epochs": 9, "checkpoint_epochs": (3,), "storage": "/s", "best_metric": ("val_acc", "maximize"),
    }  # fmt: skip
    return Assignment(**{**fields, **changes})


def test_a_path_is_set_and_the_base_stays_as_it_was() -> None:
    merged = merge(FIT, {"model.init_args.encoder.init_args.n": 5, "lr_scheduler.init_args.gamma": 0.5})
    assert merged["model"]["init_args"]["encoder"]["init_args"]["n"] == 5
    assert merged["lr_scheduler"] == {"init_args": {"gamma": 0.5}}
    assert FIT["model"]["init_args"]["encoder"]["init_args"]["n"] == 1  # type: ignore[index]  # a union of shapes
    assert "lr_scheduler" not in FIT


def test_a_path_may_lead_into_a_list() -> None:
    merged = merge(FIT, {"trainer.callbacks.0.init_args.patience": 2})
    assert merged["trainer"]["callbacks"][0]["init_args"] == {"monitor": "val_loss", "patience": 2}
    with pytest.raises(TrialError, match="is no place in a list of 1"):
        merge(FIT, {"trainer.callbacks.1.init_args.patience": 2})


def test_a_path_through_a_number_is_refused() -> None:
    with pytest.raises(TrialError, match=r"parameters.optimizer.init_args.lr.max"):
        merge(FIT, {"optimizer.init_args.lr.max": 2})


def test_another_class_drops_what_it_does_not_accept() -> None:
    merged = merge(FIT, {"optimizer.class_path": "torch.optim.AdamW"})
    assert merged["optimizer"] == {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.1}}


def test_the_same_class_drops_nothing() -> None:
    assert merge(FIT, {"optimizer.class_path": "torch.optim.SGD"}) == FIT


def test_what_a_parameter_sets_is_kept_so_that_the_parser_can_refuse_it() -> None:
    merged = merge(FIT, {"optimizer.init_args.momentum": 0.5, "optimizer.class_path": "torch.optim.AdamW"})
    assert merged["optimizer"]["init_args"] == {"lr": 0.1, "momentum": 0.5}


def test_an_unknown_class_keeps_the_arguments() -> None:
    merged = merge(FIT, {"optimizer.class_path": "no.such.Class"})
    assert merged["optimizer"]["init_args"] == {"lr": 0.1, "momentum": 0.9}
    assert accepted_arguments("no.such.Class") is None


def test_a_bare_string_is_a_class() -> None:
    merged = merge_config({"optimizer": "torch.optim.SGD"}, {"optimizer.init_args.lr": 1}, accepts=lambda *_: None)
    assert merged["optimizer"] == {"class_path": "torch.optim.SGD", "init_args": {"lr": 1}}


def test_a_whole_section_goes_before_what_is_set_in_it() -> None:
    section = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1.0}}
    merged = merge(FIT, {"optimizer.init_args.lr": 2.0, "optimizer": section})
    assert merged["optimizer"] == {"class_path": "torch.optim.Adam", "init_args": {"lr": 2.0}}
    assert section["init_args"] == {"lr": 1.0}


def test_an_assignment_survives_json() -> None:
    import json

    one = assignment(checkpoint={"path": "p", "epoch": 1, "size_bytes": 2, "digest": "d"}, save_above=-0.5)
    again = Assignment.from_dict(json.loads(json.dumps(one.to_dict())))
    assert again == one
    assert again.start is not None
    assert again.start.epoch == 1


@pytest.mark.parametrize(
    ("report", "best", "expected"),
    [
        (Report(3, {"val_acc": 0.1}, 0, None, diverged=False), math.inf, True),
        (Report(3, {"val_acc": 0.1}, 0, None, diverged=True), math.inf, False),
        (Report(4, {"val_acc": 0.95}, 0, None, diverged=False), -0.93, True),
        (Report(4, {"val_acc": 0.95}, 0, None, diverged=False), -0.96, False),
        (Report(4, {"val_acc": 0.89}, 0, None, diverged=False), math.inf, False),
    ],
)
def test_when_an_epoch_is_saved(report: Report, best: float, *, expected: bool) -> None:
    decision, reason = should_checkpoint(
        assignment(save_above=-0.9), report, Before(best, report.epoch - 1), is_last=False
    )
    assert decision is expected
    assert reason


def test_the_last_epoch_is_saved() -> None:
    report = Report(5, {"val_acc": 0.1}, 0, None, diverged=False)
    assert should_checkpoint(assignment(), report, Before(-0.9, 4), is_last=True) == (
        True,
        "the fit ends with this epoch",
    )
    assert should_checkpoint(assignment(), report, Before(-0.9, 4), is_last=False)[0] is False


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e31])
def test_a_diverged_objective_becomes_the_worst_finite_value(value: float) -> None:
    assert made_finite({"a": value, "b": math.nan}, {"a": "maximize"}) == (
        {"a": -DIVERGED, "b": pytest.approx(math.nan, nan_ok=True)}, True
    )  # fmt: skip
    assert made_finite({"a": value}, {"a": "minimize"})[0] == {"a": DIVERGED}
    assert made_finite({"a": 1.0}, {"a": "minimize"}) == ({"a": 1.0}, False)


def test_metrics_become_floats_and_a_missing_one_names_what_was_logged() -> None:
    logged = {"val_acc": torch.tensor(0.5), "epoch": 3, "text": "x"}
    assert wanted_metrics(logged, ("val_acc",)) == {"val_acc": 0.5, "epoch": 3.0}
    with pytest.raises(MissingMetricError, match="did not log 'val_f1'; it logged 'epoch', 'val_acc'"):
        wanted_metrics(logged, ("val_f1",))
    with pytest.raises(TrialError, match="'text' is a str"):
        wanted_metrics(logged, ("text",))
    with pytest.raises(TrialError, match=r"tensor of shape \(2,\)"):
        wanted_metrics({"two": torch.ones(2)}, ("two",))


def test_a_random_state_continues_every_sequence() -> None:
    import random

    import numpy as np

    state = random_state()
    draws = [(random.random(), np.random.rand(), float(torch.rand(()))) for _ in range(2)]  # noqa: NPY002  # the global one
    assert not is_same_random_state(state, random_state())
    set_random_state(state)
    assert is_same_random_state(state, random_state())
    assert [(random.random(), np.random.rand(), float(torch.rand(()))) for _ in range(2)] == draws  # noqa: NPY002  # as above


def trained(
    kind: type[torch.optim.Optimizer],
    **options: Any,  # noqa: ANN401  # any option
) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """An optimizer after two epochs of a halving schedule: it, the schedule, the fresh state, the checkpoint."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer: Any = kind([weight], **options)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    fresh = fresh_state([optimizer], [schedule])
    for _ in range(2):
        weight.grad = torch.ones(2)
        optimizer.step()
        schedule.step()
    saved = {"optimizer_states": [optimizer.state_dict()], "lr_schedulers": [schedule.state_dict()]}
    return optimizer, schedule, fresh, saved


def test_a_changed_learning_rate_keeps_its_place_in_the_schedule() -> None:
    _, _, donor, saved = trained(torch.optim.SGD, lr=0.1, momentum=0.9)
    optimizer: Any = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.4, momentum=0.5)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.25)
    carry_over(saved, donor, fresh_state([optimizer], [schedule]), [optimizer], [schedule])
    optimizer.load_state_dict(saved["optimizer_states"][0])
    schedule.load_state_dict(saved["lr_schedulers"][0])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)  # 0.4, halved twice
    assert optimizer.param_groups[0]["momentum"] == 0.5
    assert len(optimizer.state) == 1  # momentum buffers are kept
    assert (schedule.gamma, schedule.base_lrs, schedule.last_epoch) == (0.25, [0.4], 2)
    assert schedule.get_last_lr() == [pytest.approx(0.1)]


def test_what_did_not_change_is_restored_as_saved() -> None:
    optimizer, schedule, donor, saved = trained(torch.optim.SGD, lr=0.1, momentum=0.9)
    carry_over(saved, donor, donor, [optimizer], [schedule])
    assert saved["optimizer_states"][0]["param_groups"][0]["lr"] == 0.025


def test_another_optimizer_class_starts_afresh() -> None:
    _, _, donor, saved = trained(torch.optim.SGD, lr=0.1, momentum=0.9)
    optimizer, schedule, fresh, _ = trained(torch.optim.AdamW, lr=0.01)
    carry_over(saved, donor, fresh, [optimizer], [schedule])
    assert set(saved["optimizer_states"][0]["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}


def test_a_schedule_that_the_donor_lacked_starts_afresh() -> None:
    optimizer, schedule, donor, saved = trained(torch.optim.SGD, lr=0.1)
    donor["schedulers"], saved["lr_schedulers"] = [], []
    carry_over(saved, donor, fresh_state([optimizer], [schedule]), [optimizer], [schedule])
    assert len(saved["lr_schedulers"]) == 1


def test_a_rung_that_was_not_validated_is_saved_with_the_next_report() -> None:
    report = Report(4, {"val_acc": 0.1}, 0, None, diverged=False)
    assert should_checkpoint(assignment(), report, Before(epoch=2), is_last=False)[0] is True
    assert should_checkpoint(assignment(), report, Before(epoch=3), is_last=False)[0] is False


def test_a_sweep_that_is_being_paused_saves_with_the_next_report(tmp_path: Path) -> None:
    report = Report(4, {"val_acc": 0.1}, 0, None, diverged=False)
    here = assignment(storage=str(tmp_path))
    assert should_checkpoint(here, report, Before(epoch=3), is_last=False)[0] is False
    (tmp_path / "drain").touch()
    assert should_checkpoint(here, report, Before(epoch=3), is_last=False)[0] is True
