"""Curriculum learning: pacings by their formulas, and which samples a training sees when."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from tests.training import Small, rows, sgd, trainer
from trainables.data.batches import Batches
from trainables.data.file_rows import read_ahead
from trainables.training.curriculum import Curriculum, EasiestFirst, reference_losses, share_of


@pytest.mark.parametrize("pacing", ["linear", "root", "exponential", "step"])
def test_a_pacing_starts_at_its_share_never_falls_and_ends_with_all(pacing: Any) -> None:  # noqa: ANN401  # any of them
    shares = [share_of(i / 20, pacing, 0.2) for i in range(21)]
    assert shares[0] == pytest.approx(0.2)
    assert shares[-1] == 1.0
    assert shares == sorted(shares)
    assert share_of(5.0, pacing, 0.2) == 1.0
    middle = {"linear": 0.6, "root": math.sqrt((0.04 + 1) / 2), "exponential": math.sqrt(0.2), "step": 1.0}
    assert share_of(0.5, pacing, 0.2) == pytest.approx(middle[pacing])


class Plain(pl.LightningDataModule):
    """Rows of the tests' table, by one kind of loader or the other."""

    def __init__(self, *, in_memory: bool) -> None:
        super().__init__()
        self.in_memory = in_memory

    def train_dataloader(self) -> Any:  # noqa: ANN401  # one of two
        table = rows()
        return Batches(*table.tensors, batch_size=8, shuffle=True) if self.in_memory else DataLoader(table, 8)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(rows(), 32)


def hardness(sample: tuple[Tensor, ...]) -> float:
    return float(sample[0][0])


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_curriculum_begins_with_the_easiest_and_each_epoch_is_as_long_as_ever(
    *, in_memory: bool, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    module = Small(sgd())
    data = Curriculum(Plain(in_memory=in_memory), difficulty=hardness, pacing="linear", start=0.25, epochs=2)
    trainer(tmp_path, [], 3).fit(module, data)
    easiest = rows().tensors[0][:, 0].sort().values
    assert len(module.batches) == 12
    for epoch, taken in enumerate((8, 20, 32)):
        seen = torch.cat([batch[0][:, 0] for batch in module.batches[4 * epoch : 4 * epoch + 4]])
        assert set(seen.tolist()) <= set(easiest[:taken].tolist())
        assert len(set(seen.tolist())) == taken


def test_a_reference_models_loss_is_the_difficulty() -> None:
    torch.manual_seed(0)
    model = Small(sgd()).eval()
    found = reference_losses(model, rows())
    inputs, targets = rows().tensors
    assert torch.allclose(found, functional.cross_entropy(model(inputs), targets, reduction="none"), atol=1e-6)
    data = Curriculum(Plain(in_memory=True), reference=model)
    sampler = EasiestFirst(torch.argsort(found), lambda: 0.1)
    assert set(sampler.draw().tolist()) == set(torch.argsort(found)[:4].tolist())
    assert len(list(data.train_dataloader())) == 4


def test_a_curriculum_needs_one_measure_of_difficulty() -> None:
    with pytest.raises(ValueError, match="one of the two"):
        Curriculum(Plain(in_memory=True))


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Curriculum(Plain(in_memory=True), difficulty=hardness, start=0)


def test_samples_that_others_read_ahead_are_drawn_as_those_in_memory() -> None:
    table = rows()

    class Ahead(Plain):
        def train_dataloader(self) -> Any:  # noqa: ANN401  # one of two
            batches = Batches(*table.tensors, batch_size=8, shuffle=True)
            return batches if self.in_memory else read_ahead(batches, 1)

    drawn = []
    for in_memory in (True, False):
        curriculum = Curriculum(Ahead(in_memory=in_memory), difficulty=lambda sample: float(sample[0][0]))
        torch.manual_seed(5)
        drawn.append(torch.cat([batch[0] for batch in curriculum.train_dataloader()]))
    assert torch.equal(*drawn)
    assert len(torch.unique(drawn[0], dim=0)) == 7, "a fifth of 32"
