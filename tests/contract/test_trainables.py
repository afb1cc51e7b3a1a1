"""What every model, data module and recipe under `trainables/` keeps, found on disk and tested unasked.

A model or data module is tested through the recipes that use it: one without a recipe fails. A data module that loads a
user's own files, whose first argument is a path, is tested on files that `tests/own_files.py` writes. Training
strategies are tested in test_strategies.py; one that wraps a data module is held to what it wraps here.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml

from service.tuning.assignment import Assignment, Report
from service.tuning.lightning_config import import_class, merge
from service.tuning.trial import run_attempt
from tests.own_files import MADE
from trainables.measuring.resources import TIMED
from trainables.tasks.task import Batch, Task
from trainables.vision.conv_net import Activation, ConvNet, Normalization

ROOT = Path(__file__).parents[2]
FITS = sorted((ROOT / "trainables" / "recipes" / "fit").glob("*.yaml"))
RECIPES = sorted((ROOT / "trainables" / "recipes").glob("*.yaml"))
STRATEGIES = tuple(f"trainables.{room}." for room in ("training", "augmentation", "compression", "measuring"))


def pieces() -> Iterator[type]:
    paths = sorted((ROOT / "trainables").rglob("*.py"))
    modules = [importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in paths]
    for module in modules:  # all imported by now: what has a subclass in another file is a base
        for _, kind in inspect.getmembers(module, inspect.isclass):
            is_piece = issubclass(kind, pl.LightningModule | pl.LightningDataModule)
            is_base = inspect.isabstract(kind) or kind.__subclasses__()
            if is_piece and kind.__module__ == module.__name__ and not is_base:
                yield kind


def needs_files(kind: type) -> bool:
    path = inspect.signature(kind).parameters.get("path")
    return issubclass(kind, pl.LightningDataModule) and path is not None and path.default is path.empty


PIECES = list(pieces())
DATA = [k for k in PIECES if issubclass(k, pl.LightningDataModule) and not k.__module__.startswith(STRATEGIES)]
LOADERS = [kind for kind in PIECES if needs_files(kind)]


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def fit_of(recipe: dict[str, Any]) -> dict[str, Any]:
    if "base" in recipe:
        return load(ROOT / "trainables" / "recipes" / recipe["base"])
    fit: dict[str, Any] = recipe["fit"]
    return fit


def made(given: Any) -> Any:  # noqa: ANN401  # any value of a config
    """What a section stands for: objects for classes, also within others' arguments."""
    if isinstance(given, dict) and "class_path" in given:
        return import_class(given["class_path"])(**{k: made(v) for k, v in given.get("init_args", {}).items()})
    return given


def objectives_of(recipe: dict[str, Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = recipe["metrics"] if "metrics" in recipe else [recipe["metric"]]
    return found


def measured(report: Report) -> dict[str, float]:
    """An epoch's metrics but for those that no run repeats: times, memory and energy."""
    return {name: value for name, value in report.metrics.items() if name not in TIMED}


def train(recipe: dict[str, Any], storage: Path, **changes: Any) -> list[Report]:  # noqa: ANN401  # any field
    reports: list[Report] = []

    def report(one: Report) -> bool:
        reports.append(one)
        return True

    objectives = objectives_of(recipe)
    fields: dict[str, Any] = {
        "sweep_id": "s", "trial": 0, "attempt": 1, "params": {}, "fit": fit_of(recipe),
        "metrics": tuple(one["name"] for one in objectives),
        "seed": 5, "max_epochs": 3, "checkpoint_epochs": (1,), "storage": str(storage),
        "best_metric": (objectives[0]["name"], objectives[0]["goal"]),
    }  # fmt: skip
    run_attempt(Assignment(**{**fields, **changes}), report)
    return reports


@pytest.mark.parametrize("kind", PIECES, ids=lambda kind: kind.__name__)
def test_every_piece_has_a_recipe_and_says_what_it_takes(kind: type) -> None:
    path = f"{kind.__module__}.{kind.__qualname__}"
    is_used = any(path in fit.read_text(encoding="utf-8") for fit in [*FITS, *RECIPES])
    assert kind.__name__ in MADE if needs_files(kind) else is_used, f"no recipe uses {path}"
    parameters = [p for name, p in inspect.signature(kind).parameters.items() if name != "self"]
    wraps = kind.__module__.startswith(STRATEGIES)  # what it wraps has no default
    may_lack = ["path"] if needs_files(kind) else []
    assert all(p.annotation is not p.empty for p in parameters)
    assert all(wraps or p.default is not p.empty for p in parameters if p.name not in may_lack)
    assert all(f"{p.name}:" in (kind.__doc__ or "") for p in parameters), "each argument is described"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_it_runs_with_a_plain_trainer(path: Path, tmp_path: Path) -> None:
    fit = fit_of(load(path))
    model, data = made(fit["model"]), made(fit["data"])
    trainer = pl.Trainer(
        fast_dev_run=True, accelerator="cpu", default_root_dir=tmp_path, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, data)
    assert objectives_of(load(path))[0]["name"] in trainer.callback_metrics
    trainer.test(model, data, verbose=False)
    assert all(torch.isfinite(value) for value in trainer.callback_metrics.values())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_it_logs_its_objective_repeats_and_resumes(path: Path, tmp_path: Path) -> None:
    recipe = load(path)
    whole = train(recipe, tmp_path)
    assert [one.epoch for one in whole] == [1, 2, 3]
    assert [measured(one) for one in train(recipe, tmp_path, trial=1)] == [measured(one) for one in whole]
    assert measured(train(recipe, tmp_path, trial=2, seed=6)[0]) != measured(whole[0])
    assert whole[0].checkpoint is not None
    start = dataclasses.asdict(whole[0].checkpoint)
    rest = train(recipe, tmp_path, checkpoint=start, attempt=2)
    assert [measured(one) for one in rest] == [measured(one) for one in whole[1:]]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_ends_of_every_parameter_can_be_trained(path: Path) -> None:
    recipe = load(path)
    for name, parameter in recipe["parameters"].items():
        part = name.partition(".")[0]
        ends = parameter.get("values", [parameter.get("min"), parameter.get("max")])
        for value in ends if part in {"model", "data"} else []:
            fit = merge(fit_of(recipe), {name: value})
            model, data = made(fit["model"]), made(fit["data"])
            data.setup("fit")
            data.batch_size = 4
            loss = model.training_step(next(iter(data.train_dataloader())))
            assert torch.isfinite(loss), f"{name} {value}"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_what_it_needs_and_what_it_learns(path: Path) -> None:
    comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any(line.startswith("# Needs:") for line in comments)
    assert any(line.startswith("# Learns: test_") for line in comments)  # test_recipes_learn.py holds it to that


# Data whose rows do not depend on the fold, as standardised columns and numbered words do, nor on what came before.
AS_THEY_ARE = ("Digits", "ImageArrays", "ImageFolder", "Impressions", "MovingDigits", "SpeechFolder", "ToneDigits",
               "VideoFolder", "WrittenDates")  # fmt: skip


def rows_of(part: Batch) -> list[tuple[float, ...]]:
    tensors = [t[:] for t in part]  # files are read now
    return [tuple(row) for row in torch.cat([t.flatten(1) if t.dim() > 1 else t[:, None] for t in tensors], 1).tolist()]


@pytest.mark.parametrize("kind", DATA, ids=lambda k: k.__name__)
def test_no_row_is_in_two_parts_and_folds_cover_all_but_the_test_part(kind: type, tmp_path: Path) -> None:
    own = MADE[kind.__name__].write(tmp_path) if needs_files(kind) else {}
    parts = []
    for fold in range(3):
        data = kind(**own, folds=3, fold=fold)
        data.setup("fit")
        rows = {name: rows_of(part) for name, part in data.parts.items()}
        parts.append({name: sorted(rows[name]) for name in rows})
        sizes = [len(rows[name]) for name in rows]
        loader = data.test_dataloader()
        assert sum(len(batch[0]) for batch in loader) == sizes[2]
        assert min(sizes) > 0
    one = kind(**own)
    one.setup("fit")
    last = parts[-1]  # in order of time, an earlier fold leaves out what comes after it
    assert sum(len(part[0]) for part in one.parts.values()) == sum(len(rows) for rows in last.values())
    if kind.__name__ in AS_THEY_ARE:
        assert parts[0]["test"] == parts[1]["test"] == parts[2]["test"]
        validated = sorted(row for part in parts for row in part["validation"])
        assert validated == sorted(parts[0]["train"] + parts[0]["validation"])
        assert all(set(part["validation"]).isdisjoint(part["train"]) for part in parts)
    with pytest.raises(ValueError, match="fold 3 is not among the 3 folds"):
        kind(**own, folds=3, fold=3)


@pytest.mark.parametrize("kind", LOADERS, ids=lambda kind: kind.__name__)
def test_own_data_trains_repeats_and_resumes(kind: type, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    made, path = MADE[kind.__name__], f"{kind.__module__}.{kind.__qualname__}"
    data = {"class_path": path, "init_args": {**made.write(tmp_path / "files"), "batch_size": 8}}
    model = {"class_path": made.model, "init_args": made.model_arguments}
    recipe = {
        "metric": {"name": "val_loss", "goal": "minimize"},
        "fit": {"model": model, "data": data, "trainer": {"accelerator": "cpu"}},
    }
    whole = train(recipe, tmp_path)
    assert min(one.metrics["train_loss"] for one in whole[1:]) < whole[0].metrics["train_loss"]
    assert [one.metrics for one in train(recipe, tmp_path, trial=1)] == [one.metrics for one in whole]
    assert whole[0].checkpoint is not None
    rest = train(recipe, tmp_path, checkpoint=dataclasses.asdict(whole[0].checkpoint), attempt=2)
    assert [one.metrics for one in rest] == [one.metrics for one in whole[1:]]


def built(kind: type) -> tuple[Task, Batch]:
    """The model as its recipe has it, and what it takes of a small batch of its recipe's data."""
    model, batch = built_with_batch(kind)
    return model, model.inputs_of(batch)


def built_with_batch(kind: type) -> tuple[Task, Batch]:
    """The model as its recipe has it, and a small batch of its recipe's data."""
    path = f"{kind.__module__}.{kind.__qualname__}"
    fit = next(fit for fit in map(load, FITS) if fit["model"]["class_path"] == path)
    data = made(fit["data"])
    data.setup("fit")
    data.batch_size = 8
    return kind(**fit["model"].get("init_args", {})), next(iter(data.train_dataloader()))


MODELS = pytest.mark.parametrize(
    "kind", [k for k in PIECES if issubclass(k, pl.LightningModule)], ids=lambda k: k.__name__
)


@MODELS
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_keeps_its_dtype(kind: type, dtype: torch.dtype) -> None:
    model, batch = built_with_batch(kind)
    model, batch = model.to(dtype), tuple(t.to(dtype) if t.is_floating_point() else t for t in batch)
    assert torch.isfinite(model.training_step(batch))
    assert model.eval()(*model.inputs_of(batch)).dtype == dtype


@MODELS
def test_a_model_stays_on_the_device_of_its_weights_and_reads_no_value_back(kind: type) -> None:
    with torch.device("cpu"):
        model, inputs = built(kind)
    outputs = model.to("meta").eval()(*(t.to("meta") for t in inputs))  # a device that only knows shapes
    assert outputs.device.type == "meta"


@MODELS
def test_a_model_can_be_exported(kind: type) -> None:
    model, inputs = built(kind)
    model.eval()
    with warnings.catch_warnings():
        # torch 2.13: an LSTM's list of weights is its own affair
        warnings.filterwarnings("ignore", message="The tensor attributes? .*_flat_weights")
        exported = torch.export.export(model, inputs).module()
    torch.testing.assert_close(exported(*inputs), model(*inputs))


@pytest.mark.parametrize("normalization", ["batch", "layer", "weight", "none"])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu", "silu", "tanh"])
def test_every_choice_of_the_conv_net_gives_logits(normalization: Normalization, activation: Activation) -> None:
    model = ConvNet(depth=5, width=4, kernel_size=5, normalization=normalization, activation=activation, channels=3)
    assert model(torch.zeros(2, 3, 9, 7)).shape == (2, 10)
    assert model(torch.zeros(2, 3, 2, 2)).shape == (2, 10)


def test_a_conv_net_refuses_an_even_filter() -> None:
    with pytest.raises(ValueError, match="kernel_size 4 odd"):
        ConvNet(kernel_size=4)
