"""Pruning against torch's own, distillation against the formula, and what the resource meter says against counting."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import DataLoader

from tests.training import CLASSES, FEATURES, Small, fitted, rows, sgd, trainer
from trainables.compression.distillation import Distillation
from trainables.compression.pruning import Pruning, sparsity_of
from trainables.measuring.energy import Estimate, can_measure, counted_wh, energy_meters
from trainables.measuring.resources import ResourceMeter, counts_of, percentile, saved_bytes, speed_of
from trainables.training.averaging import WeightAverage
from trainables.training.mixing import Mixing


def prunable(module: nn.Module) -> dict[str, Tensor]:
    return {name: weight for name, weight in module.named_parameters() if weight.ndim > 1}


def test_the_smallest_weights_over_all_layers_are_those_that_torch_prunes() -> None:
    torch.manual_seed(0)
    module = Small(sgd())
    masks = Pruning(0.6).masks(prunable(module), 0.6)
    layers = [(module.first, "weight"), (module.head, "weight")]
    prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=0.6)
    assert torch.equal(masks["first.weight"], module.first.get_buffer("weight_mask").bool())
    assert torch.equal(masks["head.weight"], module.head.get_buffer("weight_mask").bool())


@pytest.mark.parametrize("layer", [nn.Linear(6, 10), nn.Conv2d(3, 8, 3)])
def test_the_weakest_rows_and_filters_are_those_that_torch_prunes(layer: Any) -> None:  # noqa: ANN401  # any layer
    mask = Pruning(0.5, structured=True).masks({"weight": layer.weight}, 0.5)["weight"]
    prune.ln_structured(layer, "weight", amount=0.5, n=2, dim=0)  # type: ignore[no-untyped-call]  # torch leaves it bare
    assert torch.equal(mask, layer.weight_mask.bool())


def test_sparsity_rises_by_the_papers_cubic_and_zeros_stay_zero_under_momentum_and_decay(tmp_path: Path) -> None:
    pruning = Pruning(0.9, start_epoch=1, ramp_epochs=3)
    assert [round(pruning.target(epoch), 4) for epoch in range(6)] == [0.0, 0.6333, 0.8667, 0.9, 0.9, 0.9]
    assert [Pruning(0.9, start_epoch=2).target(epoch) for epoch in range(4)] == [0.0, 0.0, 0.9, 0.9]
    module = fitted(tmp_path, sgd(momentum=0.9, weight_decay=0.01), pruning, epochs=5)
    found = prunable(module)
    count = sum(weight.numel() for weight in found.values())
    assert sum(int((weight == 0).sum()) for weight in found.values()) == round(0.9 * count)
    assert float(module.trainer.callback_metrics["sparsity"]) == pytest.approx(sparsity_of(found))
    assert not (module.norm.weight == 0).any()
    assert not (module.first.bias == 0).any()


def test_what_is_to_be_kept_is_not_pruned(tmp_path: Path) -> None:
    module = fitted(tmp_path, sgd(), Pruning(0.5, keep=("head",)))
    assert not (module.head.weight == 0).any()
    assert sparsity_of({"first": module.first.weight}) == 0.5


def test_an_interrupted_pruning_goes_on_with_the_same_masks(tmp_path: Path) -> None:
    def build() -> Pruning:
        return Pruning(0.8, ramp_epochs=2)

    whole = fitted(tmp_path, sgd(momentum=0.9), build(), epochs=4)
    torch.manual_seed(3)
    half = Small(sgd(momentum=0.9))
    first = trainer(tmp_path, [build()], 2)
    first.fit(half, DataLoader(rows(), 8), DataLoader(rows(), 32))
    first.save_checkpoint(tmp_path / "half.ckpt")
    rest = Small(sgd(momentum=0.9))
    loaders = (DataLoader(rows(), 8), DataLoader(rows(), 32))
    trainer(tmp_path, [build()], 4).fit(rest, *loaders, ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), rest.parameters(), strict=True))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_distillation_loss_is_the_formula(temperature: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 7), torch.randn(5, 7)
    soft = (teacher / temperature).softmax(1)
    expected = temperature**2 * (soft * (soft.log() - (student / temperature).log_softmax(1))).sum() / 5
    found = Distillation(Small(sgd()), temperature=temperature).distance(student, teacher)
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_student_without_targets_becomes_its_teacher_and_with_them_mixes_both(tmp_path: Path) -> None:
    torch.manual_seed(20)
    teacher = Small(sgd()).eval()
    teacher.head.weight.data.mul_(5)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    alone = Distillation(teacher, temperature=1.0, weight=1.0)
    student = fitted(tmp_path, sgd(0.5), alone, epochs=60).eval().requires_grad_(requires_grad=False)
    untaught = Small(sgd()).eval().requires_grad_(requires_grad=False)
    inputs = rows().tensors[0]
    theirs = teacher(inputs).detach().log_softmax(1)
    apart, before_teaching = (
        float(functional.kl_div(one(inputs).log_softmax(1), theirs, reduction="batchmean", log_target=True))
        for one in (student, untaught)
    )
    assert apart < 0.2 * before_teaching
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    plain = fitted(tmp_path, sgd(0.5), Distillation(teacher, weight=0.0), epochs=2)
    reference = fitted(tmp_path, sgd(0.5), epochs=2)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), reference.parameters(), strict=True))


def test_teacher_and_student_see_the_same_mixed_inputs(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    class Teacher(Small):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(inputs.clone())
            return super().forward(inputs)

    callbacks = [Mixing(CLASSES, mixup_alpha=1.0), Distillation(Teacher(sgd()))]
    for order in (callbacks, callbacks[::-1]):
        seen.clear()
        module = fitted(tmp_path, sgd(), *order, epochs=1)
        assert all(torch.equal(a, b[0]) for a, b in zip(seen, module.batches, strict=True))


def test_a_teacher_with_other_classes_or_a_module_that_is_not_called_is_refused(tmp_path: Path) -> None:
    other = Small(sgd())
    other.head = nn.Linear(8, CLASSES + 1)
    with pytest.raises(ValueError, match=r"teacher gives logits \(8, 4\), the student \(8, 3\)"):
        fitted(tmp_path, sgd(), Distillation(other))

    class Uncalled(Small):
        def training_step(self, batch: tuple[Tensor, ...], _number: int) -> Tensor:
            return functional.cross_entropy(self.head(self.first(batch[0])), batch[1])

    with pytest.raises(RuntimeError, match="calls the module itself"):
        trainer(tmp_path, [Distillation(other)], 1).fit(Uncalled(sgd()), DataLoader(rows(), 8), DataLoader(rows(), 8))


def test_flops_and_sizes_are_what_counting_gives(tmp_path: Path) -> None:
    module = Small(sgd())
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    size = counts_of(module)
    assert size["parameters"] == sum((FEATURES * 8, 8, 8, 8, 8 * CLASSES, CLASSES))
    assert abs(saved_bytes(module) - (tmp_path / "weights.pt").stat().st_size) < 64  # the archive holds its own name
    with torch.no_grad():
        module.first.weight[0] = 0
    assert counts_of(module)["nonzero_parameters"] <= size["nonzero_parameters"] - FEATURES
    speed = speed_of(module, (rows().tensors[0],), 16, 5)
    assert speed["flops"] == 2 * (FEATURES * 8 + 8 * CLASSES)
    convolution = nn.Conv2d(3, 5, 3, padding=1)
    assert speed_of(convolution, (torch.rand(4, 3, 6, 7),), 4, 2)["flops"] == 2 * 5 * 6 * 7 * 3 * 9
    assert module.training


def test_latencies_are_those_of_the_passes() -> None:
    class Slow(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            time.sleep(0.005 * len(inputs))
            return inputs

    speed = speed_of(Slow(), (torch.rand(8, 1),), 4, 5)
    assert 5 <= speed["latency_ms"] <= speed["latency_p95_ms"]
    assert 20 <= speed["batch_latency_ms"] <= speed["batch_latency_p95_ms"]
    assert [percentile([5.0, 1.0, 3.0, 2.0, 4.0], share) for share in (0.2, 0.5, 0.95, 1.0)] == [1, 3, 5, 5]


def test_a_training_logs_every_figure_each_epoch_and_goes_on_counting_after_a_break(tmp_path: Path) -> None:
    meter = ResourceMeter(batch_size=16, repeats=3)
    module = fitted(tmp_path, sgd(), meter)
    metrics = {name: float(value) for name, value in module.trainer.callback_metrics.items()}
    names = {
        "parameters", "nonzero_parameters", "size_bytes", "flops", "latency_ms", "latency_p95_ms", "batch_latency_ms",
        "batch_latency_p95_ms", "peak_memory_bytes", "train_seconds", *(meter.name for meter in energy_meters(1.0)),
    }  # fmt: skip
    assert names <= metrics.keys()
    assert all(metrics[name] > 0 for name in names)
    assert metrics["peak_memory_bytes"] > 50e6
    later = ResourceMeter(repeats=3)
    later.load_state_dict(meter.state_dict())
    assert float(fitted(tmp_path, sgd(), later).trainer.callback_metrics["train_seconds"]) > metrics["train_seconds"]


def test_an_estimate_is_power_times_time_and_says_that_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    meter, times = Estimate(watts=1800.0), iter([10.0, 12.0, 20.0, 21.0])
    with monkeypatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: next(times))
        meter.start()
        assert meter.stop() == pytest.approx(1.0)
        meter.start()
        assert meter.stop() == pytest.approx(1.5)
    assert "estimate" in meter.name
    assert [one.name for one in energy_meters(1.0)] == [meter.name, *(["energy_wh"] if can_measure() else [])]


def test_what_stands_in_place_of_a_layers_pass_is_not_timed_and_stays() -> None:
    module, passes = Small(sgd()), list[Tensor]()

    def counted(inputs: Tensor) -> Tensor:
        passes.append(inputs)
        return nn.Linear.forward(module.first, inputs)

    module.first.__dict__["forward"] = counted  # as a callback does
    assert speed_of(module, (rows().tensors[0],), 16, 1)["latency_ms"] > 0
    assert passes == []
    assert module.first.forward is counted


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Pruning(1.0), "sparsity"), (lambda: Pruning(0.5, start_epoch=-1), "at least 0"),
        (lambda: Distillation(Small(sgd()), temperature=0), "above 0"),
        (lambda: Distillation(Small(sgd()), weight=2), "weight"), (lambda: ResourceMeter(repeats=0), "at least 1"),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(build: Any, message: str) -> None:  # noqa: ANN401  # makes one
    with pytest.raises(ValueError, match=message):
        build()


def test_they_are_callbacks_of_a_plain_config() -> None:
    from pytorch_lightning.cli import LightningArgumentParser

    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(pl.Callback, "callback")
    for kind, options in (
        ("compression.pruning.Pruning", {"sparsity": 0.3, "keep": ["head"]}),
        ("measuring.resources.ResourceMeter", {"repeats": 3}),
        ("compression.distillation.Distillation", {"teacher": {"class_path": "trainables.vision.conv_net.ConvNet"}}),
        ("training.warm_up.WarmUp", {"steps": 10}), ("training.penalties.Penalties", {"l1": 0.1}),
        ("training.transfer.Transfer", {"freeze": ["features"]}), ("training.mixing.Mixing", {"classes": 10}),
        ("augmentation.images.ImageAugmentation", {"strength": 0.5}),
    ):  # fmt: skip
        parsed = parser.parse_object({"callback": {"class_path": f"trainables.{kind}", "init_args": options}})
        assert isinstance(parser.instantiate(parsed).callback, pl.Callback)


@pytest.mark.parametrize("is_structured", [False, True])
def test_a_pruned_weight_norm_keeps_a_direction_for_each_filter(is_structured: bool, tmp_path: Path) -> None:  # noqa: FBT001  # a case
    module = Small(sgd())
    weight_norm(module.first)
    pruning = Pruning(0.9, structured=is_structured)
    trainer(tmp_path, [pruning], 2).fit(module, DataLoader(rows(), 8), DataLoader(rows(), 8))
    assert bool(torch.isfinite(module.first.weight).all())
    assert bool(((module.first.weight != 0).sum(1) >= 1).all())
    assert (module.first.weight == 0).any()


@pytest.mark.parametrize("is_first", [False, True])
def test_an_average_of_pruned_weights_is_pruned(is_first: bool, tmp_path: Path) -> None:  # noqa: FBT001  # a case
    callbacks: list[pl.Callback] = [WeightAverage("steps", 0.9), Pruning(0.8, start_epoch=1)]
    module = fitted(tmp_path, sgd(), *(reversed(callbacks) if is_first else callbacks), epochs=3)
    assert sparsity_of(prunable(module)) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("options", [{"val_check_interval": 2}, {"check_val_every_n_epoch": 2}])
def test_time_is_counted_once_wherever_validation_falls(options: dict[str, Any], tmp_path: Path) -> None:
    class Spans:
        name = "spans"

        def __init__(self) -> None:
            self.calls = ""

        def start(self) -> None:
            self.calls += "<"

        def stop(self) -> float:
            self.calls += ">"
            return 0.0

    meter, spans = ResourceMeter(repeats=1), Spans()
    meter._meters = [spans]  # in place of the machine's
    fitted(tmp_path, sgd(), meter, epochs=2, **options)
    assert spans.calls == "<>" * (4 if "val_check_interval" in options else 1)


def test_energy_is_what_counters_counted_and_nothing_assumed() -> None:
    said = SimpleNamespace(cpu_energy=0.002, gpu_energy=0.003, ram_energy=0.5, energy_consumed=0.505)
    assert counted_wh(said, has_rapl=True) == pytest.approx(5)
    assert counted_wh(said, has_rapl=False) == pytest.approx(3)
