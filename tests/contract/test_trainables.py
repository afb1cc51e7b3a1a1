"""What every model, data module and recipe under `trainables/` keeps, found on disk and tested unasked.

A model or data module is tested through the recipes that use it: one without a recipe fails.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml

from service.tuning.assignment import Assignment, Report
from service.tuning.lightning_config import import_class
from service.tuning.trial import run_attempt
from trainables.vision.conv_net import Activation, ConvNet, Normalization

ROOT = Path(__file__).parents[2]
FITS = sorted((ROOT / "trainables" / "recipes" / "fit").glob("*.yaml"))
RECIPES = sorted((ROOT / "trainables" / "recipes").glob("*.yaml"))


def pieces() -> Iterator[type]:
    for path in sorted((ROOT / "trainables").rglob("*.py")):
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for _, kind in inspect.getmembers(module, inspect.isclass):
            is_piece = issubclass(kind, pl.LightningModule | pl.LightningDataModule)
            is_base = inspect.isabstract(kind) or kind.__subclasses__()
            if is_piece and kind.__module__ == module.__name__ and not is_base:
                yield kind


PIECES = list(pieces())


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def fit_of(recipe: dict[str, Any]) -> dict[str, Any]:
    if "base" in recipe:
        return load(ROOT / "trainables" / "recipes" / recipe["base"])
    fit: dict[str, Any] = recipe["fit"]
    return fit


def train(recipe: dict[str, Any], storage: Path, **changes: Any) -> list[Report]:  # noqa: ANN401  # any field
    reports: list[Report] = []

    def report(one: Report) -> bool:
        reports.append(one)
        return True

    metric = recipe["metric"]
    fields: dict[str, Any] = {
        "sweep_id": "s", "trial": 0, "attempt": 1, "params": {}, "fit": fit_of(recipe), "metrics": (metric["name"],),
        "seed": 5, "max_epochs": 3, "checkpoint_epochs": (1,), "storage": str(storage),
        "best_metric": (metric["name"], metric["goal"]),
    }  # fmt: skip
    run_attempt(Assignment(**{**fields, **changes}), report)
    return reports


@pytest.mark.parametrize("kind", PIECES, ids=lambda kind: kind.__name__)
def test_every_piece_has_a_recipe_and_says_what_it_takes(kind: type) -> None:
    path = f"{kind.__module__}.{kind.__qualname__}"
    assert any(path in fit.read_text(encoding="utf-8") for fit in [*FITS, *RECIPES]), f"no recipe uses {path}"
    parameters = [p for name, p in inspect.signature(kind).parameters.items() if name != "self"]
    assert all(p.annotation is not p.empty and p.default is not p.empty for p in parameters)
    assert all(f"{p.name}:" in (kind.__doc__ or "") for p in parameters), "each argument is described"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_it_runs_with_a_plain_trainer(path: Path, tmp_path: Path) -> None:
    fit = fit_of(load(path))
    model, data = (
        import_class(fit[key]["class_path"])(**fit[key].get("init_args", {})) for key in ("model", "data")
    )  # fmt: skip
    trainer = pl.Trainer(
        fast_dev_run=True, accelerator="cpu", default_root_dir=tmp_path, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    assert load(path)["metric"]["name"] in {**trainer.callback_metrics, "val_acc": 0, "val_loss": 0}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_it_logs_its_objective_repeats_and_resumes(path: Path, tmp_path: Path) -> None:
    recipe = load(path)
    whole = train(recipe, tmp_path)
    assert [one.epoch for one in whole] == [1, 2, 3]
    assert [one.metrics for one in train(recipe, tmp_path, trial=1)] == [one.metrics for one in whole]
    assert train(recipe, tmp_path, trial=2, seed=6)[0].metrics != whole[0].metrics
    assert whole[0].checkpoint is not None
    start = dataclasses.asdict(whole[0].checkpoint)
    rest = train(recipe, tmp_path, checkpoint=start, attempt=2)
    assert [one.metrics for one in rest] == [one.metrics for one in whole[1:]]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_what_it_needs(path: Path) -> None:
    comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any(line.startswith("# Needs:") for line in comments)


@pytest.mark.parametrize("kind", [k for k in PIECES if issubclass(k, pl.LightningDataModule)], ids=lambda k: k.__name__)
def test_no_row_is_in_two_parts_and_folds_cover_all_but_the_test_part(kind: type) -> None:
    parts = []
    for fold in range(3):
        data = kind(folds=3, fold=fold)
        data.setup("fit")
        rows = {name: [tuple(row.flatten().tolist()) for row in part[0]] for name, part in data.parts.items()}
        parts.append({name: sorted(rows[name]) for name in rows})
        sizes = [len(rows[name]) for name in rows]
        loader = data.test_dataloader()
        assert sum(len(batch[0]) for batch in loader) == sizes[2]
    one = kind()
    one.setup("fit")
    assert sum(len(part[0]) for part in one.parts.values()) == sum(len(rows) for rows in parts[0].values())
    if kind.__name__ == "Digits":  # its inputs do not depend on the fold, as standardised columns do
        assert parts[0]["test"] == parts[1]["test"] == parts[2]["test"]
        validated = sorted(row for part in parts for row in part["validation"])
        assert validated == sorted(parts[0]["train"] + parts[0]["validation"])
        assert all(set(part["validation"]).isdisjoint(part["train"]) for part in parts)
    with pytest.raises(ValueError, match="fold 3 is not among the 3 folds"):
        kind(folds=3, fold=3)


@pytest.mark.parametrize("kind", [k for k in PIECES if issubclass(k, pl.LightningModule)], ids=lambda k: k.__name__)
def test_a_model_keeps_its_dtype(kind: type[torch.nn.Module]) -> None:
    path = f"{kind.__module__}.{kind.__qualname__}"
    fit = next(load(f) for f in FITS if path in f.read_text(encoding="utf-8"))
    data = import_class(fit["data"]["class_path"])(**fit["data"].get("init_args", {}))
    data.setup("fit")
    inputs, _ = next(iter(data.val_dataloader()))
    model = kind(**fit["model"].get("init_args", {})).to(torch.float64).eval()
    assert model(inputs.double()).dtype == torch.float64


@pytest.mark.parametrize("normalization", ["batch", "layer", "weight", "none"])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu", "silu", "tanh"])
def test_every_choice_of_the_conv_net_gives_logits(normalization: Normalization, activation: Activation) -> None:
    model = ConvNet(depth=5, width=4, kernel_size=5, normalization=normalization, activation=activation, channels=3)
    assert model(torch.zeros(2, 3, 9, 7)).shape == (2, 10)
    assert model(torch.zeros(2, 3, 2, 2)).shape == (2, 10)


def test_a_conv_net_refuses_an_even_filter() -> None:
    with pytest.raises(ValueError, match="kernel_size 4 odd"):
        ConvNet(kernel_size=4)
