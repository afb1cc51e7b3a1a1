"""Damage is the same in every epoch, spares what pads, and is counted as the model itself would."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from trainables.data.digits import Digits
from trainables.measuring.damage import DamagedInputs
from trainables.vision.conv_net import ConvNet


def test_padding_stays_and_a_share_of_the_rest_is_unknown() -> None:
    words = torch.randint(2, 50, (200, 30), generator=torch.Generator().manual_seed(1))
    words[:, 20:] = 0
    before = torch.get_rng_state()
    damage = DamagedInputs(share=0.3)
    found = damage.damaged(words, 0)
    assert torch.equal(found, damage.damaged(words, 0))
    assert not torch.equal(found, damage.damaged(words, 1)), "each batch is damaged elsewhere"
    assert torch.equal(found[:, 20:], words[:, 20:])
    is_hit = found != words
    assert (found[is_hit] == 1).all()
    assert is_hit[:, :20].float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(before, torch.get_rng_state())
    assert found.dtype == words.dtype


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
def test_what_is_logged_is_the_models_own_score_on_damaged_inputs(tmp_path: Path) -> None:
    model, data = ConvNet(depth=1, width=4), Digits()
    none, some = DamagedInputs(share=0.0), DamagedInputs(share=0.5, seed=3)
    logged = {}
    mixed = DamagedInputs(share=0.0)
    for damage in (none, some, mixed):
        trainer = pl.Trainer(
            accelerator="cpu", default_root_dir=tmp_path, logger=False, callbacks=[damage], enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False,
            precision="bf16-mixed" if damage is mixed else "32-true",
        )  # fmt: skip
        logged[damage] = trainer.validate(model, data, verbose=False)[0]
    assert logged[mixed]["val_damaged_loss"] == logged[mixed]["val_loss"], "in the precision of the model's own score"
    assert logged[none]["val_damaged_acc"] == logged[none]["val_acc"]
    assert logged[none]["val_damaged_loss"] == pytest.approx(logged[none]["val_loss"])
    images, digits = data.parts["validation"]
    right = model.eval()(some.damaged(images, 0)).argmax(1) == digits
    assert logged[some]["val_damaged_acc"] == pytest.approx(right.float().mean().item())


def test_a_share_above_one_and_a_model_without_a_score_are_refused() -> None:
    with pytest.raises(ValueError, match=r"share 1\.5"):
        DamagedInputs(share=1.5)
    with pytest.raises(ValueError, match="LightningModule has no method `score"):
        DamagedInputs().setup(pl.Trainer(accelerator="cpu", logger=False), pl.LightningModule(), "fit")
