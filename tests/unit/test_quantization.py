"""Quantisation against torchao's own int8, the levels that there are, the file on disk, a training that knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tests.training import Small, fitted, rows, sgd, trainer
from trainables.compression import int8
from trainables.compression.pruning import Pruning, sparsity_of
from trainables.compression.quantization import Quantization
from trainables.vision.conv_net import ConvNet


@given(st.integers(1, 5), st.integers(1, 40), st.floats(1e-3, 1e3))
def test_a_rounded_weight_is_within_half_a_step_has_at_most_256_levels_and_keeps_zeros(
    channels: int, inputs: int, size: float
) -> None:
    weight = torch.randn(channels, inputs, generator=torch.Generator().manual_seed(channels * inputs)) * size
    weight[0, 0] = 0
    found = int8.rounded_weight(weight)
    step = int8.weight_scale(weight)[:, None]
    assert bool(((found - weight).abs() <= step * 0.501).all())
    assert all(len(torch.unique(row)) <= 256 for row in found)
    assert float(found[0, 0]) == 0


def test_rows_and_ranges_are_rounded_to_their_own_levels_and_let_gradients_through() -> None:
    values = torch.randn(4, 50, requires_grad=True)
    by_row = int8.rounded_rows(values)
    assert bool(((by_row - values).abs() <= values.abs().amax(-1, keepdim=True) / 127 * 0.5001).all())
    (gradient,) = torch.autograd.grad(by_row.sum(), values)
    assert torch.equal(gradient, torch.ones_like(values))
    ranged = int8.rounded_range(values.detach(), torch.tensor(-1.0), torch.tensor(2.0))
    assert len(torch.unique(ranged)) <= 256
    assert -1.01 <= float(ranged.min()) <= float(ranged.max()) <= 2.01
    assert float(int8.rounded_range(torch.zeros(1), torch.tensor(0.5), torch.tensor(2.0))) == 0, "zero stays zero"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["weights", "dynamic"])
def test_the_simulation_answers_as_torchaos_int8_model_does(mode: Any, tmp_path: Path) -> None:  # noqa: ANN401  # any of them
    quantization = pytest.importorskip("torchao.quantization")
    torch.manual_seed(0)
    module = Small(sgd()).eval()
    module.first, module.head = nn.Linear(4, 64), nn.Linear(64, 3)
    module.norm = nn.BatchNorm1d(64)
    module.eval()
    inputs = torch.randn(20, 4)
    with torch.no_grad():
        plain = module(inputs)
        ours = Quantization(mode)
        ours.on_test_start(trainer(tmp_path, [], 1), module)
        simulated = module(inputs)
        ours.on_test_end(trainer(tmp_path, [], 1), module)
        assert torch.equal(module(inputs), plain)
        kinds = {
            "weights": quantization.Int8WeightOnlyConfig, "dynamic": quantization.Int8DynamicActivationInt8WeightConfig
        }  # fmt: skip
        quantization.quantize_(module, kinds[mode]())
        real = module(inputs)
    assert not torch.equal(simulated, plain)
    error = float((real - plain).abs().max())
    if mode == "weights":  # its own rounding of rows is not torchao's to the last bit
        assert float((simulated - real).abs().max()) < 0.01 * error
    assert 0.5 * error < float((simulated - plain).abs().max()) < 1.5 * error


def test_the_file_is_a_quarter_on_disk_and_gives_the_rounded_model_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, other = ConvNet(depth=4, width=32), ConvNet(depth=4, width=32)
    torch.save(model.state_dict(), tmp_path / "float.pt")
    size = int8.save_int8(model, tmp_path / "int8.pt")
    assert size == (tmp_path / "int8.pt").stat().st_size
    weights = sum(part.get_parameter("weight").numel() for _, part in int8.layers(model))
    assert (tmp_path / "float.pt").stat().st_size - size == pytest.approx(3 * weights, rel=0.05)
    assert size < 0.3 * (tmp_path / "float.pt").stat().st_size
    int8.load_int8(other, tmp_path / "int8.pt")
    for name, part in int8.layers(other):
        expected = int8.rounded_weight(model.get_submodule(name).get_parameter("weight"))
        assert torch.allclose(part.get_parameter("weight"), expected, atol=1e-6)


@pytest.mark.parametrize("mode", ["weights", "dynamic", "static", "aware"])
def test_validation_is_the_int8_models_and_training_is_untouched_but_where_it_is_aware(
    mode: Any,  # noqa: ANN401  # one of four
    tmp_path: Path,
) -> None:
    module = fitted(tmp_path, sgd(), Quantization(mode))
    plain = fitted(tmp_path, sgd())
    is_same = all(torch.equal(a, b) for a, b in zip(module.parameters(), plain.parameters(), strict=True))
    assert is_same == (mode != "aware")
    metrics = module.trainer.callback_metrics
    assert float(metrics["val_loss"]) != float(plain.trainer.callback_metrics["val_loss"])
    assert float(metrics["val_loss"]) == pytest.approx(float(plain.trainer.callback_metrics["val_loss"]), rel=0.1)
    assert float(metrics["int8_size_bytes"]) > 0
    assert all("forward" not in part.__dict__ for _, part in int8.layers(module))


def test_a_training_that_knows_of_few_levels_does_better_with_them(tmp_path: Path, monkeypatch: Any) -> None:  # noqa: ANN401  # any of them
    monkeypatch.setattr(int8, "_LOWEST", -1)  # three values a weight: far fewer than int8 has, so that it matters
    monkeypatch.setattr(int8, "_HIGHEST", 1)
    after = fitted(tmp_path, sgd(0.3), Quantization("static"), epochs=60)
    aware = fitted(tmp_path, sgd(0.3), Quantization("aware"), epochs=60)
    late, knowing = (float(module.trainer.callback_metrics["val_loss"]) for module in (after, aware))
    assert knowing < 0.9 * late


def test_awareness_can_begin_late_and_an_interrupted_training_goes_on_with_its_ranges(tmp_path: Path) -> None:
    def build() -> Quantization:
        return Quantization("aware", start_epoch=1)

    loaders = DataLoader(rows(), 8), DataLoader(rows(), 32)
    whole = fitted(tmp_path, sgd(momentum=0.9), build(), epochs=4)
    one = fitted(tmp_path, sgd(momentum=0.9), build(), epochs=1)
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.parameters(), fitted(tmp_path, sgd(momentum=0.9), epochs=1).parameters(), strict=True)
    )
    torch.manual_seed(3)
    half = Small(sgd(momentum=0.9))
    first = trainer(tmp_path, [build()], 2)
    first.fit(half, *loaders)
    first.save_checkpoint(tmp_path / "half.ckpt")
    rest = Small(sgd(momentum=0.9))
    trainer(tmp_path, [build()], 4).fit(rest, *loaders, ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), rest.parameters(), strict=True))


def test_a_pruned_model_stays_pruned_in_int8(tmp_path: Path) -> None:
    module = fitted(tmp_path, sgd(), Pruning(0.5), Quantization("aware"))
    weights: dict[str, Tensor] = {name: part.get_parameter("weight") for name, part in int8.layers(module)}
    assert sparsity_of(weights) == 0.5
    assert sparsity_of({name: int8.rounded_weight(weight) for name, weight in weights.items()}) >= 0.5


def test_an_epoch_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="start_epoch"):
        Quantization("aware", start_epoch=-1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_precision_is_rounded_as_single_precision_is(dtype: torch.dtype) -> None:
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(int8.rounded_weight(weight), int8.rounded_weight(weight.float()).to(dtype))
    low, high = torch.tensor(-1.0), torch.tensor(2.0)
    assert torch.equal(int8.rounded_range(weight, low, high), int8.rounded_range(weight.float(), low, high).to(dtype))


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("mode", ["weights", "dynamic", "static", "aware"])
def test_it_trains_in_half_precision(mode: Any, precision: str, tmp_path: Path) -> None:  # noqa: ANN401  # any of them
    module = fitted(tmp_path, sgd(), Quantization(mode), precision=precision)
    assert bool(torch.isfinite(module.trainer.callback_metrics["val_loss"]))


def test_training_in_int8_goes_on_after_a_validation_within_the_epoch(tmp_path: Path) -> None:
    class Watch(pl.Callback):
        replaced: list[bool] = []  # noqa: RUF012  # of the one that there is

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ANN401, ARG002  # Lightning's
            self.replaced.append("forward" in pl_module.first.__dict__)

    module = fitted(tmp_path, sgd(), Quantization("aware"), Watch(), val_check_interval=2)
    assert Watch.replaced == [True] * 8
    assert "forward" not in module.first.__dict__


def test_what_is_judged_in_full_precision_is_saved_so() -> None:
    attention = nn.MultiheadAttention(8, 2)
    assert not [name for name, _ in int8.layers(attention)]
    assert all(value.dtype == torch.float32 for value in int8.packed(attention).values())
