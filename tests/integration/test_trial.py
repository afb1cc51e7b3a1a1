"""One attempt in a warm worker: reports, checkpoints, resuming to the digit, mutated values, logs and failures."""

from __future__ import annotations

import dataclasses
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from service.errors import MissingMetricError, TrialError
from service.tuning import leaving
from service.tuning.assignment import Assignment, Report
from service.tuning.trial import describe_failure, run_attempt
from service.tuning.trial_log import captured_output
from tests.integration import toy_models

TOYS = "tests.integration.toy_models"
SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}}
Train = Callable[..., list[Report]]


def fit(model: str = "Toy", data: str = "Rows", **sections: Any) -> dict[str, Any]:  # noqa: ANN401  # any section
    base: dict[str, Any] = {
        "model": {"class_path": f"{TOYS}.{model}"},
        "data": {"class_path": f"{TOYS}.{data}"},
        "optimizer": SGD,
        "trainer": {"accelerator": "cpu"},
    }
    return {**base, **sections}


@pytest.fixture
def train(tmp_path: Path) -> Train:
    def run(
        config: dict[str, Any],
        answer: Callable[[Report], bool] = lambda _: True,
        **changes: Any,  # noqa: ANN401  # any field
    ) -> list[Report]:
        fields: dict[str, Any] = {
            "sweep_id": "s", "trial": 0, "attempt": 1, "params": {}, "metrics": ("val_loss",), "seed": 3,
            "max_epochs": 4, "checkpoint_epochs": (), "storage": str(tmp_path), "best_metric": ("val_loss", "minimize"),
        }  # fmt: skip
        reports: list[Report] = []

        def report(one: Report) -> bool:
            reports.append(one)
            return answer(one)

        run_attempt(Assignment(**{**fields, "fit": config, **changes}), report)
        return reports

    return run


def losses(reports: list[Report]) -> list[float]:
    return [one.metrics["val_loss"] for one in reports]


def saved(report: Report) -> dict[str, Any]:
    assert report.checkpoint is not None
    return dataclasses.asdict(report.checkpoint)


def test_on_a_node_that_is_leaving_an_epoch_is_saved_and_not_waited_for(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def answer(report: Report) -> bool:
        if report.epoch == 2:
            leaving.leave(0)  # somebody wants the node from now on
        return True

    with leaving.unsaved():
        reports = train(fit(), answer)
        assert [one.checkpoint is not None for one in reports] == [False, False, True, True]
        assert leaving.leave(0)


def test_same_seed_and_parameters_give_the_same_losses_however_warm_the_process(train: Train) -> None:
    before = toy_models.Rows.set_up
    first = train(fit())
    other = train(fit(), seed=4, trial=1)
    again = train(fit(), trial=2)
    assert losses(first) == losses(again)
    assert losses(first) != losses(other)
    assert toy_models.Rows.set_up - before <= 1


def test_data_that_draws_from_the_global_state_is_set_up_for_each_trial(train: Train) -> None:
    runs = [losses(train(fit(data="DrawingRows"), seed=seed)) for seed in (3, 4, 3)]
    assert runs[0] == runs[2] != runs[1]


def test_generators_of_kept_data_start_again_with_each_trial(train: Train) -> None:
    runs = [losses(train(fit(data="GeneratorRows"))) for _ in range(3)]
    assert runs[0] == runs[1] == runs[2]


def test_reports_count_epochs_from_one_and_time_without_waiting(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    real, waited_s = time.perf_counter, 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: real() + waited_s)

    def slow(_: Report) -> bool:
        nonlocal waited_s
        waited_s += 1000.0  # far more than three epochs take anywhere
        return True

    reports = train(fit(), slow, max_epochs=3, seconds_before=100.0)
    assert [one.epoch for one in reports] == [1, 2, 3]
    assert 100 < reports[0].seconds < reports[2].seconds < 1100
    assert all(one.checkpoint is None for one in reports)


SCHEDULES = [
    None,
    {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1, "gamma": 0.5}},
    {"class_path": "torch.optim.lr_scheduler.CosineAnnealingLR", "init_args": {"T_max": 6}},
    {
        "class_path": "pytorch_lightning.cli.ReduceLROnPlateau",
        "init_args": {"monitor": "val_loss", "patience": 0, "threshold": 10.0, "threshold_mode": "abs"},
    },
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s["class_path"].split(".")[-1] if s else "constant")
@pytest.mark.parametrize("optimizer", ["torch.optim.SGD", "torch.optim.AdamW"])
@pytest.mark.parametrize("data", ["Rows", "GeneratorRows"])
def test_a_resumed_fit_equals_an_uninterrupted_one(
    train: Train, schedule: dict[str, Any] | None, optimizer: str, data: str
) -> None:
    config = fit(data=data, optimizer={"class_path": optimizer, "init_args": {"lr": 0.05}})
    if schedule is not None:
        config["lr_scheduler"] = schedule
    whole = train(config, max_epochs=6, checkpoint_epochs=(2, 4))
    rest = train(config, max_epochs=6, checkpoint=saved(whole[1]), attempt=2, checkpoint_epochs=(4,))
    last = train(config, max_epochs=6, checkpoint=saved(rest[1]), attempt=3)
    assert [one.metrics for one in rest] == [one.metrics for one in whole[2:]]
    assert [one.metrics for one in last] == [one.metrics for one in whole[4:]]
    assert [one.epoch for one in last] == [5, 6]


def test_values_that_changed_since_the_checkpoint_win(train: Train) -> None:
    step = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 2, "gamma": 0.5}}
    donor = train(fit(lr_scheduler=step), checkpoint_epochs=(3,))
    params = {"optimizer.init_args.lr": 0.04, "optimizer.init_args.momentum": 0.2, "model.init_args.dropout": 0.0}
    mutated = train(fit(lr_scheduler=step), params=params, checkpoint=saved(donor[2]), max_epochs=6, trial=1)
    assert donor[2].metrics["lr"] == pytest.approx(0.05)
    assert [one.epoch for one in mutated] == [4, 5, 6]
    assert [one.metrics["lr"] for one in mutated] == pytest.approx([0.01, 0.01, 0.005])
    assert [one.metrics["momentum"] for one in mutated] == pytest.approx([0.2] * 3)
    unchanged = train(fit(lr_scheduler=step), checkpoint=saved(donor[2]), max_epochs=6, trial=2)
    assert losses(unchanged) != losses(mutated)


def test_another_optimizer_class_can_go_on_from_a_checkpoint(train: Train) -> None:
    donor = train(fit(), checkpoint_epochs=(2,))
    params = {"optimizer.class_path": "torch.optim.AdamW"}
    mutated = train(fit(), params=params, checkpoint=saved(donor[1]), trial=1)
    assert [one.metrics["momentum"] for one in mutated] == [-1.0, -1.0]


def test_a_damaged_or_missing_checkpoint_is_named(train: Train, tmp_path: Path) -> None:
    one = saved(train(fit(), checkpoint_epochs=(2,))[1])
    path = tmp_path / one["path"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TrialError, match=r"checkpoints/0/1-2\.ckpt is damaged"):
        train(fit(), checkpoint=one)
    path.unlink()
    with pytest.raises(TrialError, match=r"checkpoints/0/1-2\.ckpt cannot be read: No such file"):
        train(fit(), checkpoint=one)


def test_checkpoints_are_complete_and_readable_without_trust(train: Train, tmp_path: Path) -> None:
    one = saved(train(fit(), checkpoint_epochs=(1,))[0])
    assert (tmp_path / one["path"]).stat().st_size == one["size_bytes"]
    assert torch.load(tmp_path / one["path"], weights_only=True)["hyper_parameters"]["width"] == 8
    assert [p.name for p in (tmp_path / "checkpoints" / "0").iterdir()] == ["1-1.ckpt"]


def test_an_epoch_better_than_what_is_kept_is_saved(train: Train) -> None:
    assert all(one.checkpoint is None for one in train(fit(), save_above=-1.0))
    reports = train(fit(), save_above=1e9)
    assert reports[0].checkpoint is not None
    best = [min(losses(reports)[: i + 1]) == loss for i, loss in enumerate(losses(reports))]
    assert [one.checkpoint is not None for one in reports] == best


def test_a_verdict_ends_the_fit_whatever_min_epochs_says(train: Train) -> None:
    def leave(_: Report) -> bool:
        sys.exit(0)

    config = fit(trainer={"accelerator": "cpu", "min_epochs": 4, "min_steps": 1000})
    assert len(train(config, lambda one: one.epoch < 2, max_epochs=9)) == 2
    assert len(train(config, leave, max_epochs=9)) == 1


def test_a_diverged_trial_ends_with_a_finite_value(train: Train) -> None:
    reports = train(fit("Diverging"), max_epochs=9, checkpoint_epochs=(2,))
    assert [one.diverged for one in reports] == [False, True]
    assert reports[1].metrics["val_loss"] == 1e30
    assert reports[1].checkpoint is None


@pytest.mark.parametrize(
    ("options", "epochs"),
    [({"val_check_interval": 0.5}, [1, 2, 3, 4]), ({"check_val_every_n_epoch": 2}, [2, 4])],
)
def test_only_validated_epochs_are_reported_and_each_once(
    train: Train, options: dict[str, Any], epochs: list[int]
) -> None:
    assert [one.epoch for one in train(fit(trainer={"accelerator": "cpu", **options}))] == epochs


def test_a_model_without_validation_reports_each_epoch(train: Train) -> None:
    reports = train(fit("TrainOnly", "TrainRows"), metrics=("train_loss",), best_metric=("train_loss", "minimize"))
    assert [one.epoch for one in reports] == [1, 2, 3, 4]
    assert "train_loss" in reports[0].metrics


def test_early_stopping_of_the_user_ends_the_fit_and_its_last_epoch_is_saved(train: Train) -> None:
    stop = {"class_path": "EarlyStopping", "init_args": {"monitor": "val_loss", "patience": 1, "min_delta": 1e9}}
    reports = train(fit(trainer={"accelerator": "cpu", "callbacks": [stop]}), max_epochs=9)
    assert [one.epoch for one in reports] == [1, 2]
    assert reports[1].checkpoint is not None


def test_callbacks_that_want_a_logger_or_a_folder_work(train: Train, tmp_path: Path) -> None:
    callbacks = [
        {"class_path": "LearningRateMonitor"},
        {"class_path": "ModelCheckpoint", "init_args": {"monitor": "val_loss"}},
        {"class_path": "TQDMProgressBar"},
    ]
    assert len(train(fit(trainer={"accelerator": "cpu", "callbacks": callbacks}), max_epochs=2)) == 2
    assert not list(tmp_path.rglob("epoch=*.ckpt"))


def test_a_missing_metric_names_what_was_logged(train: Train) -> None:
    with pytest.raises(MissingMetricError, match="'val_acc'; it logged 'lr', 'momentum', 'val_loss'"):
        train(fit(), metrics=("val_acc",), best_metric=("val_acc", "maximize"))


def test_a_fit_that_never_validates_is_an_error(train: Train) -> None:
    with pytest.raises(MissingMetricError, match="without a validated epoch"):
        train(fit(trainer={"accelerator": "cpu", "check_val_every_n_epoch": 50}))


def test_what_user_code_raises_arrives_with_its_place(train: Train, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 5 columns") as caught:
        train(fit("Raising"))
    text = describe_failure(caught.value)
    assert text.splitlines()[0] == "ValueError: expected 5 columns, got 4"
    assert text.splitlines()[-1].strip() == "raise ValueError(msg)"
    assert len(text.splitlines()) <= 21
    assert "expected 5 columns" in (tmp_path / "logs" / "trial-0.log").read_text()


def test_user_code_that_exits_is_a_failed_trial(train: Train) -> None:
    with pytest.raises(TrialError, match=r"called sys.exit\(3\)"):
        train(fit("Exiting"))


def test_a_value_that_the_parser_refuses_is_a_failed_trial(train: Train) -> None:
    with pytest.raises(TrialError, match="Option 'widht' is not accepted"):
        train(fit(), params={"model.init_args.widht": 3})


def test_what_a_trial_prints_goes_to_its_log(train: Train, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(fit(), params={"model.init_args.say": "hello from the model"}, max_epochs=1)
    train(fit(), params={"model.init_args.say": "hello again"}, max_epochs=1, attempt=2)
    log = (tmp_path / "logs" / "trial-0.log").read_text()
    assert log.index("trial 0, attempt 1") < log.index("hello from the model") < log.index("attempt 2")
    assert capfd.readouterr().out == ""


def test_a_log_is_capped(tmp_path: Path) -> None:
    with captured_output(tmp_path / "one.log", "title", max_bytes=1000) as log:
        for _ in range(100):
            print("x" * 50)  # noqa: T201  # what is under test
            log.keep_under_cap()
    text = (tmp_path / "one.log").read_text()
    assert len(text) < 1200
    assert "what follows is dropped" in text


def test_the_resolved_config_is_left_for_the_records(train: Train, tmp_path: Path) -> None:
    train(fit(), params={"model.init_args.width": 5}, max_epochs=1)
    config = yaml.safe_load((tmp_path / "configs" / "trial-0.yaml").read_text())
    assert config["model"]["init_args"] == {"width": 5, "dropout": 0.5, "say": ""}
    assert config["seed_everything"] == 3
    assert config["trainer"]["default_root_dir"] is None


def test_a_cli_class_of_the_user_parses_its_own_arguments(train: Train, tmp_path: Path) -> None:
    config = fit(cli=f"{TOYS}.LinkingCLI", size=6)
    train(config, max_epochs=1)
    train(config, params={"size": 7}, max_epochs=1, trial=1)
    widths = [yaml.safe_load(p.read_text())["model"]["init_args"]["width"] for p in sorted(tmp_path.glob("configs/*"))]
    assert widths == [6, 7]


def test_memory_of_finished_trials_is_given_back(train: Train) -> None:
    def living() -> int:
        return sum(type(thing) is toy_models.Toy for thing in gc.get_objects())

    before = living()
    for trial in range(3):
        train(fit(), trial=trial, max_epochs=1)
    assert living() <= before
