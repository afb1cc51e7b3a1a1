"""Vision models against the numbers in their papers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.vision.capsule_net import CapsuleNet
from trainables.vision.capsules import margin_loss, route, squash
from trainables.vision.efficient_net import EfficientNet
from trainables.vision.mb_conv import MBConv, Shape

# Tan & Le 2019: width and depth factor, resolution and millions of parameters (Table 2); the exact counts are those of
# the published weights.
PUBLISHED = {
    "B0": (1.0, 1.0, 224, 5.3, 5_288_548),
    "B1": (1.0, 1.1, 240, 7.8, 7_794_184),
    "B2": (1.1, 1.2, 260, 9.2, 9_109_994),
    "B3": (1.2, 1.4, 300, 12, 12_233_232),
    "B4": (1.4, 1.8, 380, 19, 19_341_616),
    "B5": (1.6, 2.2, 456, 30, 30_389_784),
    "B6": (1.8, 2.6, 528, 43, 43_040_704),
    "B7": (2.0, 3.1, 600, 66, 66_347_960),
}
# The coefficient at which the paper's rule comes closest to each published network; B1 and the larger were rounded up.
COEFFICIENTS = {"B0": 0, "B2": 1, "B3": 2, "B4": 3.3, "B5": 4.5, "B6": 5.5, "B7": 6.5}


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_efficient_net_has_the_published_number_of_parameters(name: str) -> None:
    width, depth, resolution, millions, exact = PUBLISHED[name]
    with torch.device("meta"):
        model = EfficientNet(
            baseline="b0", width_scale=width, depth_scale=depth, resolution=resolution, channels=3, classes=1000
        )
        assert parameters(model) == exact
        assert exact / 1e6 == pytest.approx(millions, rel=0.04)
        assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_one_coefficient_scales_depth_width_and_resolution_as_published(name: str) -> None:
    coefficient = COEFFICIENTS[name]
    width, depth, resolution, _, _ = PUBLISHED[name]
    assert 1.1**coefficient == pytest.approx(width, rel=0.08)
    assert 1.2**coefficient == pytest.approx(depth, rel=0.08)
    with torch.device("meta"):
        model = EfficientNet(compound=coefficient, baseline="b0", channels=3, classes=1000)
    assert model.resolution == pytest.approx(resolution, rel=0.1)


def multiplications(model: EfficientNet) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, model.resolution, model.resolution, device="meta"))
    return int(counter.get_total_flops()) // 2


def test_the_work_of_b0_is_as_published_and_about_doubles_with_each_unit() -> None:
    with torch.device("meta"):
        work = [multiplications(EfficientNet(compound=c, baseline="b0", channels=3, classes=1000)) for c in range(5)]
    assert work[0] == pytest.approx(0.39e9, rel=0.02)  # Table 2: 0.39 billion
    assert (work[4] / work[0]) ** 0.25 == pytest.approx(2, rel=0.1)


def test_a_block_that_keeps_the_shape_adds_its_input_and_drops_whole_samples() -> None:
    block = MBConv(Shape(8, 8, 3, 1, 4), drop=0.5)
    inputs = torch.randn(64, 8, 5, 5)
    changed = [not torch.equal(a, b) for a, b in zip(inputs, block(inputs), strict=True)]
    assert 10 < sum(changed) < 54
    assert block.eval()(inputs).shape == inputs.shape
    assert all(not torch.equal(a, b) for a, b in zip(inputs, block(inputs), strict=True))
    assert MBConv(Shape(8, 12, 5, 2, 6))(inputs).shape == (64, 12, 3, 3)


def mnist_capsules(**changes: float) -> CapsuleNet:
    with torch.device("meta"):
        return CapsuleNet(28, width=256, kernel_size=9, capsule_kinds=32, hidden=512, **changes)  # type: ignore[arg-type]  # a weight


def test_a_capsule_net_for_mnist_is_as_large_as_published() -> None:
    assert parameters(mnist_capsules()) == 8_215_568  # section 4: "8.2M parameters and 6.8M without the reconstruction"
    assert parameters(mnist_capsules(reconstruction_weight=0.0)) == 6_804_224
    assert mnist_capsules().routed.matrices.shape[0] == 32 * 6 * 6  # "[32 x 6 x 6] capsule outputs"


@given(st.lists(st.floats(-50, 50), min_size=4, max_size=4))
def test_squashing_keeps_the_direction_and_bounds_the_length(values: list[float]) -> None:
    vector = torch.tensor(values, dtype=torch.float64)
    squashed, length = squash(vector), vector.norm()
    assert squashed.norm() < 1
    if length > 0.01:
        assert squashed.norm().item() == pytest.approx((length**2 / (1 + length**2)).item(), rel=1e-3)
        torch.testing.assert_close(squashed / squashed.norm(), vector / length)
    zeros = torch.zeros(3, requires_grad=True)
    squash(zeros).sum().backward()  # type: ignore[no-untyped-call]  # torch's own
    assert torch.isfinite(zeros.grad).all()  # type: ignore[arg-type]  # there is one after backward


def test_the_margin_loss_has_the_values_of_its_formula() -> None:
    lengths = torch.tensor([[0.95, 0.05, 0.1], [0.9, 0.1, 0.0], [0.5, 0.6, 0.1], [0.0, 1.0, 1.0]])
    # nothing to mend; nothing, at the margins; 0.4² + 0.5 * 0.5²; 0.9² + 2 * 0.5 * 0.9²
    torch.testing.assert_close(margin_loss(lengths, torch.zeros(4).long()), torch.tensor([0.0, 0.0, 0.285, 1.62]))


def test_routing_follows_agreement() -> None:
    # Ten inputs vote alike for output 0 and at odds for output 1: agreement lengthens the first at each iteration.
    generator = torch.Generator().manual_seed(0)
    votes = torch.randn(1, 10, 2, 8, generator=generator)
    votes[:, :, 0] = votes[:, :1, 0]
    lengths = [route(votes, i).norm(dim=-1)[0] for i in (1, 2, 3)]
    assert lengths[0][0] < lengths[1][0] < lengths[2][0]
    assert lengths[0][1] > lengths[2][1]
    # By hand for one iteration: every coupling is one half.
    torch.testing.assert_close(route(votes, 1), squash(votes.mean(1) * 10 / 2))


def test_only_the_capsule_of_the_right_class_redraws() -> None:
    model = CapsuleNet()
    images = torch.rand(4, 1, 8, 8)
    errors = [model._losses((images, torch.full((4,), digit)))[1] for digit in (0, 1)]
    assert not torch.equal(errors[0], errors[1])
    with pytest.raises(ValueError, match="leaves nothing"):
        CapsuleNet(image_size=4)
