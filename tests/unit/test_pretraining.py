"""Donors that a config trains itself, and averages of weights, held against torch's own formulas."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from service.tuning.lightning_config import build
from service.tuning.trial import _KNOWN_WARNINGS
from tests.training import Small, fitted, sgd
from trainables.compression.distillation import Distillation
from trainables.data.digits import Digits
from trainables.training.around_steps import AroundSteps
from trainables.training.averaging import WeightAverage
from trainables.training.curriculum import Curriculum
from trainables.training.pretraining import Pretraining
from trainables.training.transfer import Transfer
from trainables.vision.conv_net import ConvNet

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in _KNOWN_WARNINGS]  # of `build`, as in a trial


def network(seed: int = 0, **options: Any) -> ConvNet:  # noqa: ANN401  # of the network
    torch.manual_seed(seed)
    return ConvNet(depth=1, width=2, **options)


def few() -> Digits:
    return Digits(batch_size=20, train_samples=60)


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_donor_is_the_same_whatever_the_seed_of_the_training_and_leaves_that_alone() -> None:
    one, model = Pretraining(few(), epochs=2), network(1)
    before, untouched = torch.get_rng_state(), copy.deepcopy(model.state_dict())
    weights = one.weights(model, None)
    assert torch.equal(torch.get_rng_state(), before)
    assert are_equal(model.state_dict(), untouched)
    assert are_equal(Pretraining(few(), epochs=2).weights(network(2), None), weights)
    assert not are_equal(Pretraining(few(), epochs=2, seed=1).weights(network(1), None), weights)
    assert not are_equal(Pretraining(few(), epochs=1).weights(network(1), None), weights)
    afresh = Pretraining(few(), epochs=2)
    again = afresh._trained(network(3), afresh.data or few(), is_known=True)  # not the kept one
    assert are_equal(again, weights)


def test_a_donor_learns(tmp_path: Path) -> None:
    model = network()
    model.load_state_dict(Pretraining(Digits(), epochs=6, lr=0.03).weights(model, None))
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path,
    )  # fmt: skip
    assert trainer.test(model, Digits(), verbose=False)[0]["test_acc"] > 0.5  # guessing gives 0.1


def test_a_model_that_has_not_saved_its_arguments_begins_as_it_is() -> None:
    class Unknown(ConvNet):
        def __init__(self, depth: int) -> None:
            nn.Module.__init__(self)
            super().__init__(depth, 2)
            self.hparams.clear()

    one, other = Unknown(1), Unknown(1)
    found = [Pretraining(few(), epochs=1).weights(model, None) for model in (one, one, other)]
    assert are_equal(found[0], found[1])
    assert not are_equal(found[0], found[2])


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="epochs 0 must be at least 1"):
        Pretraining(epochs=0)
    with pytest.raises(ValueError, match="needs data"):
        Pretraining().weights(network(), None)
    with pytest.raises(ValueError, match="not from both"):
        Transfer("donor.ckpt", Pretraining())
    with pytest.raises(ValueError, match="not both"):
        Distillation(network(), "teacher.ckpt", Pretraining())
    with pytest.raises(ValueError, match="not both"):
        Curriculum(few(), reference=network(), reference_checkpoint="it.ckpt", reference_pretraining=Pretraining())
    with pytest.raises(ValueError, match="decay 1"):
        WeightAverage(decay=1.0)


def test_transfer_leaves_out_what_it_is_told_to(tmp_path: Path) -> None:
    config = {
        "model": {"class_path": "trainables.vision.conv_net.ConvNet", "init_args": {"depth": 1, "width": 2}},
        "data": {"class_path": "trainables.data.digits.Digits", "init_args": {"train_samples": 40}},
    }
    fit = build(config, seed=1, max_epochs=1, scratch=tmp_path)
    assert fit.data is not None
    fit.trainer.datamodule = fit.data  # type: ignore[attr-defined]  # as fit does
    fit.data.setup("fit")
    before = copy.deepcopy(fit.model.state_dict())
    Transfer(pretraining=Pretraining(epochs=1), leave=("head",)).setup(fit.trainer, fit.model, "fit")
    changed = {name for name, value in fit.model.state_dict().items() if not torch.equal(value, before[name])}
    assert "features.0.weight" in changed
    assert not {"head.weight", "head.bias"} & changed


def test_a_donors_data_are_not_taken_for_those_of_the_training_however_warm_the_process(tmp_path: Path) -> None:
    def digits(*which: int) -> dict[str, Any]:
        return {"class_path": "trainables.data.digits.Digits", "init_args": {"digits": list(which)}}

    pretraining = {
        "class_path": "trainables.training.pretraining.Pretraining", "init_args": {"data": digits(0, 1)},
    }  # fmt: skip
    transfer = {"class_path": "trainables.training.transfer.Transfer", "init_args": {"pretraining": pretraining}}
    config = {
        "model": {"class_path": "trainables.vision.conv_net.ConvNet", "init_args": {"classes": 2}},
        "data": digits(5, 6),
        "trainer": {"accelerator": "cpu", "callbacks": [transfer]},
    }
    for _ in range(3):
        fit = build(config, seed=1, max_epochs=1, scratch=tmp_path)
        given = next(one for one in fit.trainer.callbacks if isinstance(one, Transfer))  # type: ignore[attr-defined]  # set by a connector
        assert given.pretraining is not None
        assert isinstance(given.pretraining.data, Digits)
        assert isinstance(fit.data, Digits)
        assert (given.pretraining.data.digits, fit.data.digits) == ([0, 1], [5, 6])
        fit.release_data()


class Trail(AroundSteps):
    """Keeps the weights after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def after_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:  # noqa: ARG002  # inherited
        self.weights.append(next(pl_module.parameters()).detach().clone())


@pytest.mark.parametrize("start_epoch", [0, 1, 3])
def test_averages_are_those_of_the_formulas(start_epoch: int, tmp_path: Path) -> None:
    """4 steps an epoch: an exponential mean of all steps, and a plain one of each fourth, from an epoch on."""
    for kind in ("steps", "epochs"):
        trail = Trail()
        average = WeightAverage(kind, decay=0.8, start_epoch=start_epoch)
        module: Small = fitted(tmp_path, sgd(), trail, average, epochs=3)
        taken = trail.weights[4 * start_epoch :] if kind == "steps" else trail.weights[3::4][start_epoch:]
        expected = taken[0] if taken else trail.weights[-1]
        for count, weights in enumerate(taken[1:], 2):
            expected = expected.lerp(weights, 0.2 if kind == "steps" else 1 / count)
        torch.testing.assert_close(next(module.parameters()), expected)
