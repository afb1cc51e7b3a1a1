"""`tuneyard new` and `tuneyard recipes`, on a user's real module and on the recipes that are there."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from service.cli.main import app
from service.errors import SpecError, SweepNotFoundError
from service.spec.sweep_spec import load_sweep
from service.sweeps.new_sweep import goal_of
from service.sweeps.recipes import recipe, recipes
from service.sweeps.submission import check

NET = '''
import enum, pytorch_lightning as pl, torch
from typing import Literal
from torch.utils.data import DataLoader, TensorDataset

print("importing is chatty")

class Base(pl.LightningModule):
    def __init__(self, lr: float = 0.01, dropout: float | None = None):
        super().__init__()
        self.lr = lr
        self.layer = torch.nn.Linear(2, 1)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr)
    def training_step(self, batch, _):
        return self.layer(batch[0]).square().mean()

class Net(Base):
    def __init__(self, width: int = 16, cell: Literal["lstm", "gru"] = "gru", in_features: int = 2, **kwargs):
        super().__init__(**kwargs)
    def validation_step(self, batch, _):
        for stage in ("val",):
            self.log(f"{stage}_accuracy", self.layer(batch[0]).mean())

class Named(Base):
    def validation_step(self, batch, _):
        self.log("val_loss", self.layer(batch[0]).mean())

class Silent(Base):
    """It logs nothing, and takes no validation."""

class Data(pl.LightningDataModule):
    def __init__(self, batch_size: int = 8):
        super().__init__()
    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.rand(8, 2)), 4)
    val_dataloader = train_dataloader
'''


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def say(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return str(result.output)


def test_a_sweep_file_for_a_class_that_names_no_metric_in_its_code_is_valid_by_the_real_signatures(code: Path) -> None:
    say("new", "net.Net", "--data", "net.Data", "--output", "sweep.yaml")
    spec = load_sweep(code / "sweep.yaml", [])
    assert set(spec.parameters) == {
        "model.init_args.width", "model.init_args.cell", "model.init_args.lr", "model.init_args.dropout",
        "data.init_args.batch_size",
    }  # fmt: skip
    assert spec.metric is not None
    assert (spec.metric.name, spec.metric.goal) == ("val_accuracy", "maximize")
    assert "model.init_args.in_features" in (code / "sweep.yaml").read_text()
    check(code / "sweep.yaml", spec)


def test_a_config_stays_the_base_and_gives_the_defaults_and_the_number_of_epochs(code: Path) -> None:
    fit = {
        "model": {"class_path": "net.Named", "init_args": {"lr": 0.1}}, "data": {"class_path": "net.Data"},
        "trainer": {"max_epochs": 5},
    }  # fmt: skip
    (code / "fit.yaml").write_text(yaml.safe_dump(fit))
    made = yaml.safe_load(say("new", "fit.yaml"))
    assert (made["base"], made["scheduler"]["max_epochs"], made["metric"]["name"]) == ("fit.yaml", 5, "val_loss")
    assert made["parameters"]["model.init_args.lr"] == {"min": 0.003, "max": 1.0, "distribution": "log_uniform"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("net.Missing",), "no class Missing"),
        (("nowhere.Net",), "No module named 'nowhere'"),
        (("net.Silent", "--data", "net.Data"), "logs no validation metric"),
        (("net.Named", "--metric", "val_zz"), "which way is better"),
        (("net.Named", "--goal", "more"), "minimize, maximize"),
        (("fit.yaml", "--data", "net.Data"), "leave it out"),
        (("net.Named", "--output", "net.py"), "not written over"),
    ],
)
@pytest.mark.usefixtures("code")
def test_what_cannot_be_is_said(words: tuple[str, ...], expected: str) -> None:
    with pytest.raises(SpecError, match=expected):
        CliRunner().invoke(app, ["new", *words], catch_exceptions=False)


def test_the_goal_follows_from_the_name_where_it_tells() -> None:
    assert [goal_of(name) for name in ("val_loss", "val_acc", "val_AUROC", "val_RMSE", "val_x")] == [
        "minimize", "maximize", "maximize", "minimize", None,
    ]  # fmt: skip


def test_every_recipe_is_listed_with_what_it_needs() -> None:
    listed = say("recipes")
    assert recipes()
    assert all(one.about and one.needs and f"{one.name} " in listed and one.about in listed for one in recipes())
    named = {extra for one in recipes() for extra in re.findall(r"extra `(\w+)`", one.needs)}
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert named
    assert named <= set(project["optional-dependencies"])
    assert [row["name"] for row in json.loads(say("recipes", "--json"))] == [one.name for one in recipes()]


def test_a_recipe_can_be_copied_and_is_still_a_sweep_but_never_over_something(tmp_path: Path) -> None:
    say("recipes", "digits", "--copy", str(tmp_path / "mine"))
    assert load_sweep(tmp_path / "mine" / "digits.yaml", []).name == "digits"
    with pytest.raises(SpecError, match="is there already"):
        CliRunner().invoke(app, ["recipes", "digits", "--copy", str(tmp_path / "mine")], catch_exceptions=False)
    with pytest.raises(SweepNotFoundError, match="did you mean 'digits'"):
        recipe("digit")
