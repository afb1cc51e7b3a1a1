"""Quantisation to int8: a model is judged, and where wanted trained, with the numbers that it will have in the end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn import functional

from trainables.compression.int8 import (
    layers,
    rounded_range,
    rounded_rows,
    rounded_weight,
    save_int8,
)

Mode = Literal["weights", "dynamic", "static", "aware"]
_KEPT: Final = 0.99  # of an activation's range with each training batch, the rest is the batch's own


class Quantization(pl.Callback):
    """Has validation and test run with linear and convolution layers in int8: their metrics are the int8 model's.

    `weights` rounds weights alone; `dynamic` the inputs of linear layers as well, each row by its own range; `static`
    the inputs of all these layers, by ranges seen in training (a moving average of each batch's); `aware` does as
    `static` does and trains with it, too, from `start_epoch` on (quantisation-aware training, Jacob et al. 2018).
    Rounding is simulated on the weights that are trained, so a checkpoint stays an ordinary one; `int8.save_int8`
    writes the small file. Logs `int8_size_bytes`, the size of that file. Layers inside a
    `torch.nn.MultiheadAttention` or a recurrent layer stay as they are.

    Args:
        mode: `weights`, `dynamic`, `static` or `aware`.
        start_epoch: The first epoch that `aware` trains in int8, from 0; before it, ranges are only watched.
    """

    def __init__(self, mode: Mode = "dynamic", start_epoch: int = 0) -> None:
        if start_epoch < 0:
            msg = f"start_epoch {start_epoch} must be at least 0"
            raise ValueError(msg)
        self.mode, self.start_epoch = mode, start_epoch
        self._ranges: dict[str, Tensor] = {}
        self._size = 0.0

    @property
    def watches(self) -> bool:
        """Whether ranges are learnt from training batches."""
        return self.mode in ("static", "aware")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train with what the epoch needs."""
        self._train(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give every layer its own forward pass back."""
        _restore(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give every layer its own forward pass back."""
        _restore(pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge the int8 model."""
        self._round(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say how large its file is, which its weights do not change."""
        if not self._size:
            with tempfile.TemporaryDirectory() as folder:
                self._size = float(save_int8(pl_module, Path(folder) / "int8.pt"))
        pl_module.log("int8_size_bytes", self._size, batch_size=1)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on training as before."""
        _restore(pl_module)
        if trainer.state.fn == TrainerFn.FITTING:  # the stage is still that of validation
            self._train(trainer, pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge the int8 model."""
        self._round(pl_module)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give every layer its own forward pass back."""
        _restore(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The ranges of activations."""
        return {"ranges": {name: seen.cpu() for name, seen in self._ranges.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the ranges of a checkpoint."""
        self._ranges = dict(state_dict["ranges"])

    def _train(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        _restore(module)
        if self.mode == "aware" and trainer.current_epoch >= self.start_epoch:
            self._round(module, watches=True)
        elif self.watches:
            for name, part in layers(module):
                _replace(part, self._watching(name, part.forward))

    def _round(self, module: pl.LightningModule, *, watches: bool = False) -> None:
        _restore(module)
        for name, part in layers(module):
            _replace(part, self._rounding(name, part, watches=watches))

    def _watching(self, name: str, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def watched(inputs: Tensor) -> Tensor:
            self._see(name, inputs)
            return forward(inputs)

        return watched

    def _rounding(self, name: str, part: nn.Module, *, watches: bool) -> Callable[..., Tensor]:
        def in_int8(inputs: Tensor) -> Tensor:
            if watches:
                self._see(name, inputs)
            given = self._rounded_inputs(name, part, inputs)
            weight: Any = part.weight
            if isinstance(part, nn.Linear):
                return functional.linear(given, rounded_weight(weight), part.bias)
            convolve: Any = part._conv_forward  # noqa: SLF001  # padding modes and all, of each kind of convolution
            return torch.as_tensor(convolve(given, rounded_weight(weight), part.bias))

        return in_int8

    def _rounded_inputs(self, name: str, part: nn.Module, inputs: Tensor) -> Tensor:
        if self.mode == "dynamic":
            return rounded_rows(inputs) if isinstance(part, nn.Linear) else inputs
        if self.watches and name in self._ranges:
            low, high = self._ranges[name].to(inputs.device)
            return rounded_range(inputs, low, high)
        return inputs

    def _see(self, name: str, inputs: Tensor) -> None:
        new = torch.stack(torch.aminmax(inputs.detach())).float()
        old = self._ranges.get(name)
        self._ranges[name] = new if old is None else torch.lerp(new, old.to(new.device), _KEPT)


def _replace(part: nn.Module, forward: Callable[..., Tensor]) -> None:
    part.forward = forward


def _restore(module: nn.Module) -> None:
    for _, part in layers(module):
        part.__dict__.pop("forward", None)
