"""Numbers in eight bits: what linear and convolution layers become when they are quantised, and their file.

Weights are symmetric, one scale an output channel; activations are affine with one scale a tensor, or symmetric with
one scale a row where that is found at run time (Jacob et al. 2018; Krishnamoorthi 2018). The scales of weights are
torchao's, so that a model whose weights it quantises gives the same answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

QUANTIZABLE: Final = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_LOWEST, _HIGHEST = -128, 127  # of a weight
_TOP: Final = 127  # of an activation with a scale for each row: -128 is not used
_LEVELS: Final = 255
_SCALE: Final = ".int8_scale"


def layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that are quantised, by name; not the last one of attention, whose `forward` torch does not call."""
    return (
        (name, part)
        for name, part in module.named_modules()
        if isinstance(part, QUANTIZABLE) and not isinstance(part, NonDynamicallyQuantizableLinear)
    )


def weight_scale(weight: Tensor) -> Tensor:
    """The step between two values of each output channel."""
    half = (_HIGHEST - _LOWEST) / 2
    return (weight.detach().flatten(1).abs().amax(1) / half).clamp_min(torch.finfo(weight.dtype).tiny)


def rounded_weight(weight: Tensor) -> Tensor:
    """`weight` at the values that int8 has, with gradients as if it were not rounded (straight through)."""
    if weight.dtype != torch.float32:  # torch rounds single precision alone
        return rounded_weight(weight.float()).to(weight.dtype)
    scale = weight_scale(weight)
    zeros = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, _LOWEST, _HIGHEST)


def rounded_rows(values: Tensor) -> Tensor:
    """`values` at int8 with a scale for each row, found from the row itself; straight through."""
    scale = (values.detach().abs().amax(-1, keepdim=True) / _TOP).clamp_min(torch.finfo(values.dtype).tiny)
    return values + (torch.round(values / scale).clamp(-_TOP, _TOP) * scale - values).detach()


def rounded_range(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """`values` at the 256 levels of a range that is widened to hold zero; beyond it they are cut off.

    `low` and `high` are of single precision, whatever the values are.
    """
    low, high = low.clamp_max(0), high.clamp_min(0)
    scale = ((high - low) / _LEVELS).clamp_min(torch.finfo(low.dtype).tiny)
    zero = torch.round(-low / scale).clamp(0, _LEVELS).to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(values.float(), scale, zero, 0, _LEVELS).to(values.dtype)


def packed(module: nn.Module) -> dict[str, Tensor]:
    """The state dict with int8 weights and their scales in place of those of linear and convolution layers."""
    state = {name: value.detach().cpu() for name, value in module.state_dict().items()}
    for name, _ in layers(module):
        key = f"{name}.weight" if name else "weight"
        if key in state:  # a weight that a parametrisation makes has another place
            scale = weight_scale(state[key])
            steps = rounded_weight(state[key]) / scale.view(-1, *[1] * (state[key].ndim - 1))
            state[key], state[key + _SCALE] = torch.round(steps).to(torch.int8), scale
    return state


def save_int8(module: nn.Module, path: Path) -> int:
    """Write what `packed` gives; the size in bytes on disk. `load_int8` reads it."""
    torch.save(packed(module), path)
    return path.stat().st_size


def load_int8(module: nn.Module, path: Path) -> None:
    """Set the weights of `module` to those of a file that `save_int8` has written, at the values that int8 has."""
    module.load_state_dict(unpacked(torch.load(path, map_location="cpu", weights_only=True)))


def unpacked(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `packed`, but for the rounding."""
    found = {name: value for name, value in state.items() if not name.endswith(_SCALE)}
    for name, scale in state.items():
        if name.endswith(_SCALE):
            key = name.removesuffix(_SCALE)
            found[key] = found[key].to(scale.dtype) * scale.view(-1, *[1] * (found[key].ndim - 1))
    return found
