"""What every task shares: epoch means are means over samples, whatever the batches; splits in time; shared tensors."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.functional import mean_absolute_error
from torchmetrics.functional.classification import binary_accuracy, multiclass_accuracy

from trainables.data.batches import Batches
from trainables.data.splits import ArrayDataModule, SplitPlan
from trainables.tasks.predictor import Predictor
from trainables.tasks.targets import Classes, Numbers, Targets, YesNo


class Line(Predictor):
    def __init__(self, targets: Targets, outputs: int) -> None:
        super().__init__(targets)
        self.line = nn.Linear(3, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.line(inputs)
        return outputs.squeeze(1)


def logged(model: Predictor, targets: Tensor, batch_size: int, folder: Path) -> tuple[Tensor, dict[str, float]]:
    inputs = torch.randn(len(targets), 3, generator=torch.Generator().manual_seed(1))
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, default_root_dir=folder,
        enable_model_summary=False, max_epochs=1, num_sanity_val_steps=0,
    )  # fmt: skip
    metrics = trainer.validate(model, Batches(inputs, targets, batch_size=batch_size), verbose=False)
    with torch.no_grad():
        return model(inputs), dict(metrics[0])


@pytest.mark.parametrize("batch_size", [2, 5, 11])
def test_metrics_are_means_over_samples_as_torchmetrics_has_them(batch_size: int, tmp_path: Path) -> None:
    classes = torch.tensor([0, 1, 2, 1, 0, 2, 2, 2, 1, 0, 0])
    outputs, metrics = logged(Line(Classes(0.3), 3), classes, batch_size, tmp_path)
    assert metrics["val_loss"] == pytest.approx(functional.cross_entropy(outputs, classes).item(), rel=1e-5)
    expected = multiclass_accuracy(outputs, classes, 3, average="micro")
    assert metrics["val_acc"] == pytest.approx(expected.item(), rel=1e-5)
    outputs, metrics = logged(Line(Numbers(), 1), classes.float(), batch_size, tmp_path)
    assert metrics["val_loss"] == pytest.approx(functional.mse_loss(outputs, classes.float()).item(), rel=1e-5)
    assert metrics["val_mae"] == pytest.approx(mean_absolute_error(outputs, classes.float()).item(), rel=1e-5)
    yes = (classes > 0).long()
    outputs, metrics = logged(Line(YesNo(), 1), yes, batch_size, tmp_path)
    assert metrics["val_loss"] == pytest.approx(
        functional.binary_cross_entropy_with_logits(outputs, yes.float()).item(), rel=1e-5
    )
    assert metrics["val_acc"] == pytest.approx(binary_accuracy(outputs, yes).item(), rel=1e-5)


def test_the_training_loss_is_the_mean_over_the_epoch() -> None:
    model = Line(Classes(), 3)
    one, two = (torch.randn(4, 3), torch.tensor([0, 1, 2, 1])), (torch.randn(2, 3), torch.tensor([0, 0]))
    losses = [model.training_step(batch).item() for batch in (one, two)]
    total = model._sums["train"]["loss"]
    assert (total[0] / total[1]).item() == pytest.approx((4 * losses[0] + 2 * losses[1]) / 6)


@given(count=st.integers(20, 400), folds=st.integers(1, 5), data=st.data())
def test_a_split_in_time_never_looks_ahead(count: int, folds: int, data: st.DataObject) -> None:
    fold = data.draw(st.integers(0, folds - 1))
    split = SplitPlan(folds=folds, fold=fold).split_in_time(count)
    assert min(len(split.train), len(split.validation), len(split.test)) > 0
    assert split.train[-1] < split.validation[0] <= split.validation[-1] < split.test[0]
    together = np.concatenate([split.train, split.validation])
    assert np.array_equal(together, np.arange(len(together)))
    assert split.test[-1] == count - 1
    if fold == folds - 1:
        assert len(together) + len(split.test) == count


def test_what_is_shared_is_whole_in_every_batch() -> None:
    graph = torch.tensor([[0, 1], [1, 2]])
    batches = list(Batches(torch.arange(5), torch.arange(5) * 2, batch_size=2, shared=(graph,)))
    assert [len(batch) for batch in batches] == [3, 3, 3]
    assert all(batch[1] is graph and torch.equal(batch[0] * 2, batch[2]) for batch in batches)


def test_counts_stay_exact_where_the_model_is_in_half_precision(tmp_path: Path) -> None:
    classes = torch.arange(1200) % 3
    inputs = torch.randn(len(classes), 3, generator=torch.Generator().manual_seed(1))
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, precision="bf16-true",
        default_root_dir=tmp_path, enable_model_summary=False,
    )  # fmt: skip
    model = Line(Classes(), 3)
    (metrics,) = trainer.validate(model, Batches(inputs, classes, batch_size=3), verbose=False)
    with torch.no_grad():
        hits = model.bfloat16()(inputs.bfloat16()).argmax(1) == classes
    assert metrics["val_acc"] == pytest.approx(hits.float().mean().item(), rel=1e-6)


def test_data_in_memory_refuse_several_devices_and_evaluate_few_large_samples_at_once() -> None:
    class Large(ArrayDataModule):
        def load(self) -> None:
            images = np.zeros((300, 3, 128, 128), dtype=np.float32)
            self.set_parts(images, np.arange(300) % 2, split=self.plan.split_evenly(300))

    data = Large(8, SplitPlan(test_share=0.5))
    data.setup("fit")
    assert max(len(batch[0]) for batch in data.test_dataloader()) == 2**22 // (3 * 128**2 + 1)
    data.batch_size = 100
    assert max(len(batch[0]) for batch in data.test_dataloader()) == 100
    data.trainer = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match="for one device, the trainer has 2: set"):
        data.train_dataloader()


def test_a_run_that_was_broken_off_leaves_nothing_in_the_next_ones_means(tmp_path: Path) -> None:
    class Breaks(pl.Callback):
        def on_train_batch_end(self, *_: object) -> None:
            raise RuntimeError

    model, ones = Line(Numbers(), 1), Batches(torch.zeros(4, 3), torch.ones(4), batch_size=4)
    losses = []
    for callbacks in ([Breaks()], []):
        trainer = pl.Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, max_epochs=1,
            default_root_dir=tmp_path, enable_model_summary=False, callbacks=list(callbacks),
        )  # fmt: skip
        nn.init.constant_(model.line.bias, 11.0 if callbacks else 1.0)
        with contextlib.suppress(RuntimeError):
            trainer.fit(model, ones, ones)
            losses.append(float(trainer.callback_metrics["train_loss"]))
    assert losses == [0.0]
