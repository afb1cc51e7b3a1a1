"""What every training strategy, compression and meter keeps: found on disk, taken from a recipe, tested unasked.

A strategy without a recipe fails. Its arguments are those that its recipe's base config gives it, so that what is
tested is a strategy at work, and each is held to the same bar as what Lightning and torch bring themselves.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
import torch

from service.tuning.lightning_config import build, merge
from service.tuning.trial import _KNOWN_WARNINGS
from tests.contract.test_trainables import FITS, ROOT, load, measured, train
from trainables.compression.distillation import Distillation
from trainables.compression.pruning import Pruning
from trainables.data.digits import Digits
from trainables.training.batch_change import BatchChange
from trainables.vision.conv_net import ConvNet

CLASSES_ALONE = ("Mixing", "ImageAugmentation", "Distillation")  # on a regression they say what they need
LIGHTNING = "pytorch_lightning.callbacks."
pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in _KNOWN_WARNINGS]  # of `build`, as in a trial
SCHEDULE = "torch.optim.lr_scheduler."
Section = dict[str, Any]
LOSS = {"name": "val_loss", "goal": "minimize"}


class Strategy(NamedTuple):
    """A callback with what its recipe gives it."""

    kind: type[pl.Callback]
    section: Section


def kinds() -> Iterator[type[pl.Callback]]:
    for path in sorted((ROOT / "trainables").rglob("*.py")):
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for _, kind in inspect.getmembers(module, inspect.isclass):
            is_base = inspect.isabstract(kind) or kind.__subclasses__()
            if issubclass(kind, pl.Callback) and kind.__module__ == module.__name__ and not is_base:
                yield kind


def in_a_recipe(kind: type) -> Section:
    path = f"{kind.__module__}.{kind.__qualname__}"
    given = (one for fit in FITS for one in load(fit).get("trainer", {}).get("callbacks", []))
    return next((section for section in given if section["class_path"] == path), {})


KINDS = list(kinds())
EACH = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def classifier(*callbacks: Section, **sections: Section) -> Section:
    """A config of a convolutional network with dropout and batch norm on 200 images of digits."""
    return {
        "model": {
            "class_path": "trainables.vision.conv_net.ConvNet",
            "init_args": {"depth": 2, "width": 4, "dropout": 0.2},
        },
        "data": {"class_path": "trainables.data.digits.Digits", "init_args": {"train_samples": 200, "batch_size": 50}},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}},
        "trainer": {"accelerator": "cpu", "max_epochs": 3, "callbacks": [short(one) for one in callbacks]},
        **sections,
    }


def regression(*callbacks: Section) -> Section:
    """A config of a perceptron that predicts a number for each patient."""
    config = load(ROOT / "trainables" / "recipes" / "fit" / "embedding_mlp.yaml")
    config["trainer"]["callbacks"] = [short(one) for one in callbacks]
    return config


def short(section: Section) -> Section:
    """With a donor that learns for one epoch, and one for ten digits."""
    found = copy.deepcopy(section)
    before = found.get("init_args", {}).get("pretraining")
    if before:
        before["init_args"] = {"epochs": 1}
    return found


def runs(config: Section, folder: Path) -> None:
    """Train whole, again, and interrupted after the first epoch: the same numbers each time."""
    recipe = {"fit": config, "metric": LOSS}
    reports = train(recipe, folder)
    whole = [measured(one) for one in reports]
    assert [one.epoch for one in reports][:2] == [1, 2]
    assert [measured(one) for one in train(recipe, folder, trial=1)] == whole
    assert reports[0].checkpoint is not None
    start = dataclasses.asdict(reports[0].checkpoint)
    assert [measured(one) for one in train(recipe, folder, checkpoint=start, attempt=2)] == whole[1:]


@EACH
def test_every_strategy_has_a_recipe_and_says_what_it_takes(kind: type) -> None:
    assert in_a_recipe(kind), "no recipe's base config has it among its callbacks"
    parameters = [p for name, p in inspect.signature(kind).parameters.items() if name != "self"]
    assert all(p.annotation is not p.empty for p in parameters)
    assert all(f"{p.name}:" in (kind.__doc__ or "") for p in parameters), "each argument is described"


@EACH
def test_on_a_classifier_it_repeats_and_resumes(kind: type, tmp_path: Path) -> None:
    runs(classifier(in_a_recipe(kind)), tmp_path)


@EACH
def test_on_a_regression_it_repeats_and_resumes_or_says_what_it_needs(kind: type, tmp_path: Path) -> None:
    section = in_a_recipe(kind)
    if kind.__name__ == "Transfer":  # names the model's own layers
        section = {**section, "init_args": {**section["init_args"], "freeze": ["layers.0"], "leave": ["embeddings"]}}
    if kind.__name__ not in CLASSES_ALONE:
        runs(regression(section), tmp_path)
        return
    if kind is Distillation:
        config = regression()
        section = {**section, "init_args": {"teacher": config["model"]}}
    with pytest.raises(ValueError, match=r"class numbers as targets|images are \(batch|logits \(batch, classes\)"):
        runs(regression(section), tmp_path)


@EACH
def test_it_runs_fast_and_in_double_precision_with_a_plain_trainer(kind: type, tmp_path: Path) -> None:
    config = classifier(in_a_recipe(kind))
    config["trainer"] |= {"fast_dev_run": True, "precision": "64-true"}
    fit = build(config, seed=1, max_epochs=1, scratch=tmp_path)
    fit.trainer.fit(fit.model, datamodule=fit.data)
    assert {parameter.dtype for parameter in fit.model.parameters()} == {torch.float64}
    assert fit.model.training_step.__func__ is ConvNet.training_step  # type: ignore[attr-defined]  # nothing is left in its place
    assert all("forward" not in part.__dict__ for part in fit.model.modules())
    assert not any(o._optimizer_step_pre_hooks or o._optimizer_step_post_hooks for o in fit.trainer.optimizers)


@EACH
def test_what_is_tested_from_its_checkpoint_is_what_was_trained(kind: type, tmp_path: Path) -> None:
    config = classifier(in_a_recipe(kind))
    trained = build(config, seed=1, max_epochs=2, scratch=tmp_path)
    trained.trainer.fit(trained.model, datamodule=trained.data)
    trained.trainer.save_checkpoint(tmp_path / "end.ckpt")
    whole = trained.trainer.test(trained.model, datamodule=trained.data, verbose=False)
    loaded = build(config, seed=2, max_epochs=2, scratch=tmp_path)
    path = str(tmp_path / "end.ckpt")
    again = loaded.trainer.test(loaded.model, loaded.data, ckpt_path=path, verbose=False, weights_only=False)
    assert again == whole


@pytest.mark.parametrize("kind", [k for k in KINDS if issubclass(k, BatchChange)], ids=lambda kind: kind.__name__)
def test_a_change_of_batches_keeps_their_device_and_dtype(kind: type, tmp_path: Path) -> None:
    fit = build(classifier(in_a_recipe(kind)), seed=1, max_epochs=1, scratch=tmp_path)
    change = next(one for one in fit.trainer.callbacks if isinstance(one, BatchChange))  # type: ignore[attr-defined]  # set by a connector
    images, digits = torch.rand(4, 1, 8, 8, dtype=torch.float64), torch.arange(4)
    changed = change.change((images, digits), fit.model)
    assert (changed[0].dtype, changed[0].shape) == (torch.float64, images.shape)
    assert not torch.equal(changed[0], images)


@pytest.mark.parametrize("is_structured", [False, True])
def test_masks_are_made_on_the_device_of_the_weights(is_structured: bool) -> None:  # noqa: FBT001  # a case
    weights = {name: p.to("meta") for name, p in ConvNet().named_parameters() if p.ndim > 1}
    masks = Pruning(0.5, structured=is_structured).masks(weights, 0.5)
    assert {mask.device.type for mask in masks.values()} == {"meta"}  # a device that only knows shapes
    assert [mask.shape for mask in masks.values()] == [weight.shape for weight in weights.values()]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_stays_on_the_device_and_in_the_dtype_of_the_student(temperature: float) -> None:
    distillation = Distillation(ConvNet(), temperature=temperature)
    student, teacher = torch.rand(4, 10, dtype=torch.float64), torch.rand(4, 10)
    assert distillation.distance(student, teacher).dtype == torch.float64
    assert distillation.distance(student.to("meta"), teacher.to("meta")).device.type == "meta"


def test_a_curriculum_of_a_regression_repeats_and_resumes(tmp_path: Path) -> None:
    config = regression()
    pretraining = {"class_path": "trainables.training.pretraining.Pretraining", "init_args": {"epochs": 1}}
    given = {"data": config["data"], "reference": config["model"], "reference_pretraining": pretraining}
    curriculum = {"class_path": "trainables.training.curriculum.Curriculum", "init_args": given}
    runs({**config, "data": curriculum}, tmp_path)


OPTIMIZERS: list[Section] = [
    {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}},
    {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9, "nesterov": True}},
    {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
    {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01, "weight_decay": 0.1}},
    {"class_path": "torch.optim.RMSprop", "init_args": {"lr": 0.01, "momentum": 0.5}},
    {"class_path": "torch.optim.Adagrad", "init_args": {"lr": 0.05}},
]
SCHEDULES: list[Section] = [
    {"class_path": SCHEDULE + "StepLR", "init_args": {"step_size": 1, "gamma": 0.5}},
    {"class_path": SCHEDULE + "CosineAnnealingLR", "init_args": {"T_max": 3}},
    {"class_path": SCHEDULE + "OneCycleLR", "init_args": {"max_lr": 0.1, "total_steps": 3}},
    {"class_path": SCHEDULE + "ExponentialLR", "init_args": {"gamma": 0.5}},
    {
        "class_path": "pytorch_lightning.cli.ReduceLROnPlateau",
        "init_args": {"monitor": "val_loss", "patience": 0, "threshold": 0.9},
    },
]
WARM_UP: Section = {"class_path": "trainables.training.warm_up.WarmUp", "init_args": {"steps": 6}}


def name_of(section: Section) -> str:
    more = [name for name, value in section["init_args"].items() if value is True]
    return "-".join([section["class_path"].rsplit(".", 1)[1], *more])


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=name_of)
def test_each_optimizer_of_torch_repeats_and_resumes(optimizer: Section, tmp_path: Path) -> None:
    runs(classifier(optimizer=optimizer), tmp_path)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name_of)
def test_each_schedule_of_torch_repeats_and_resumes_with_a_warm_up(schedule: Section, tmp_path: Path) -> None:
    runs(classifier(WARM_UP, lr_scheduler=schedule), tmp_path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("EarlyStopping", {"monitor": "val_loss", "patience": 1, "min_delta": 0.3}),
        ("EMAWeightAveraging", {"decay": 0.9}),
        ("EMAWeightAveraging", {"decay": 0.9, "update_starting_at_step": 6}),
        ("StochasticWeightAveraging", {"device": "cpu", "swa_lrs": 0.01, "swa_epoch_start": 1}),
        ("StochasticWeightAveraging", {"device": "cpu", "swa_lrs": 0.01, "swa_epoch_start": 2}),
        ("GradientAccumulationScheduler", {"scheduling": {0: 1, 1: 2}}),
    ],
)
def test_what_lightning_brings_repeats_and_resumes(name: str, options: Section, tmp_path: Path) -> None:
    runs(classifier({"class_path": LIGHTNING + name, "init_args": options}), tmp_path)


AVERAGING = "trainables.training.averaging.WeightAverage"


@pytest.mark.parametrize("kind", ["steps", "epochs"])
@pytest.mark.parametrize("start_epoch", [0, 1, 2])
def test_an_average_repeats_and_resumes_before_and_after_it_begins(kind: str, start_epoch: int, tmp_path: Path) -> None:
    options = {"kind": kind, "start_epoch": start_epoch, "decay": 0.9}
    runs(classifier({"class_path": AVERAGING, "init_args": options}), tmp_path)


def test_an_average_that_has_not_begun_is_the_model_where_lightnings_is_its_first_weights(tmp_path: Path) -> None:
    def losses(*callbacks: Section) -> list[float]:
        recipe = {"fit": classifier(*callbacks), "metric": LOSS}
        return [report.metrics["val_loss"] for report in train(recipe, tmp_path)]

    plain = losses()
    ours = losses({"class_path": AVERAGING, "init_args": {"start_epoch": 2}})
    theirs = losses(
        {"class_path": LIGHTNING + "EMAWeightAveraging", "init_args": {"decay": 0.99, "update_starting_at_step": 8}}
    )
    assert (ours[:2], ours[2] != plain[2]) == (plain[:2], True)
    assert theirs[0] == theirs[1] != plain[1]


def test_lightnings_average_of_epochs_adds_one_for_batch_norm_and_ours_does_not(tmp_path: Path) -> None:
    theirs = {"device": "cpu", "swa_lrs": 0.01, "swa_epoch_start": 1}
    ours = {"kind": "epochs", "start_epoch": 1}
    epochs = [
        [report.epoch for report in train({"fit": classifier(section), "metric": LOSS}, tmp_path)]
        for section in (
            {"class_path": LIGHTNING + "StochasticWeightAveraging", "init_args": theirs},
            {"class_path": AVERAGING, "init_args": ours},
        )
    ]
    assert epochs == [[1, 2, 3, 4], [1, 2, 3]]


def test_the_strategies_that_a_sweep_turns_on_one_by_one_work_together(tmp_path: Path) -> None:
    """All that a recipe has as callbacks of its own, in one config, but for those that are about another model."""
    together = [in_a_recipe(kind) for kind in KINDS if kind.__name__ != "Transfer"]
    runs(merge(classifier(*together), {"trainer.gradient_clip_val": 1.0}), tmp_path)


def test_digits_can_be_few_and_some(tmp_path: Path) -> None:  # noqa: ARG001  # as pytest has it
    data = Digits(train_samples=23, digits=[7, 2, 9])
    data.setup("fit")
    images, classes = data.parts["train"]
    assert torch.bincount(classes).tolist() in ([8, 8, 7], [8, 7, 8], [7, 8, 8])
    whole = Digits()
    whole.setup("fit")
    sevens = whole.parts["train"][0][whole.parts["train"][1] == 7]
    pictures = {tuple(image.flatten().tolist()) for part in whole.parts.values() for image in part[0][part[1] == 7]}
    assert len(sevens) > 8
    assert all(tuple(image.flatten().tolist()) in pictures for image in images[classes == 0])
    with pytest.raises(ValueError, match="some of 0 to 9"):
        Digits(digits=[10])
