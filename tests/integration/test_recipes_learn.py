"""Every recipe's base config learns: trained as it stands, it beats the baseline that its `# Learns:` line states.

The line reads `# Learns: test_<metric> >= <reached>; <a trivial answer> gives <baseline>.` (or `<=`). Both numbers are
held against the test part: the baseline is computed here, from what the training part alone would suggest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

from service.tuning.lightning_config import build
from service.tuning.trial import _KNOWN_WARNINGS
from trainables.data.splits import ArrayDataModule

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in _KNOWN_WARNINGS]
RECIPES = sorted((Path(__file__).parents[2] / "trainables" / "recipes").glob("*.yaml"))
LINE = re.compile(r"^# Learns: test_(\w+) (>=|<=) ([\d.]+); .+? gives ([\d.]*\d)\.", re.MULTILINE)


class Stated(NamedTuple):
    metric: str
    is_larger_better: bool
    reached: float
    baseline: float


def stated(path: Path) -> Stated:
    found = LINE.search(path.read_text(encoding="utf-8"))
    assert found, f"{path.name} has no `# Learns:` line"
    return Stated(found[1], found[2] == ">=", float(found[3]), float(found[4]))


def commonest_class(data: ArrayDataModule) -> float:
    """The accuracy of always giving the training part's commonest class."""
    guess = data.parts["train"][-1].mode().values
    return (data.parts["test"][-1] == guess).float().mean().item()


def training_mean(data: ArrayDataModule) -> float:
    """The squared error of always giving the training part's mean."""
    return ((data.parts["test"][-1] - data.parts["train"][-1].mean()) ** 2).mean().item()


def commonest_sequence(data: ArrayDataModule) -> float:
    """The share of sequences that are right if the training part's commonest one is always given."""
    rows: torch.Tensor
    rows, counts = torch.unique(data.parts["train"][-1], dim=0, return_counts=True)
    return float((data.parts["test"][-1] == rows[counts.argmax()]).all(1).float().mean())


def persistence(data: ArrayDataModule) -> float:
    """The squared error if the last change that is known goes on."""
    known, targets = data.parts["test"]
    return float(((targets - known[:, -1:]) ** 2).mean())


def share_of_clicks(data: ArrayDataModule) -> float:
    """The cross-entropy of always giving the training part's share of ones."""
    share = data.parts["train"][-1].double().mean()
    ones = data.parts["test"][-1].double()
    return float(-(ones * share.log() + (1 - ones) * (1 - share).log()).mean())


def writing_nothing(_data: ArrayDataModule) -> float:
    """Every symbol has to be put in."""
    return 1.0


BASELINES: dict[str, Callable[[ArrayDataModule], float]] = {
    "embedding_mlp": training_mean,
    "forecaster": persistence,
    "recommender": share_of_clicks,
    "speech": writing_nothing,
    "sequence_to_sequence": commonest_sequence,
}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_learns_what_it_says_and_its_baseline_is_true(path: Path, tmp_path: Path) -> None:
    claim = stated(path)
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    config = yaml.safe_load((path.parent / config["base"]).read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    fit = build(config, seed=1, max_epochs=config["trainer"]["max_epochs"], scratch=tmp_path)
    fit.trainer.fit(fit.model, datamodule=fit.data)
    reached = fit.trainer.test(fit.model, datamodule=fit.data, verbose=False)[0][f"test_{claim.metric}"]
    data = getattr(fit.data, "data", fit.data)  # what a curriculum is over
    assert isinstance(data, ArrayDataModule)
    baseline = BASELINES.get(path.stem, commonest_class)(data)
    assert baseline == pytest.approx(claim.baseline, abs=0.01)
    sign = 1 if claim.is_larger_better else -1
    assert sign * reached >= sign * claim.reached, f"{claim.metric} {reached:.4f} on held-out data"
    assert sign * claim.reached > sign * claim.baseline
