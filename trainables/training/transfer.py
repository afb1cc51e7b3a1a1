"""Starts from another training's weights, and lets the layers near the input learn later, or slower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainables.training.around_steps import AroundSteps
from trainables.training.parameters import matching
from trainables.training.pretraining import Pretraining

_ENDINGS: Final = (".ckpt", ".pth", ".pt")


class Transfer(AroundSteps):
    """Loads weights from a checkpoint, freezes layers, and thaws them from the last to the first (Howard & Ruder 2018).

    Weights whose name or shape the model does not have are left out, such as a head for other classes; ValueError
    where none fits. A frozen layer gets no gradient and its batch norm keeps its statistics. Rates are
    discriminative by scaling the change that each step makes, which for every optimizer whose step is a multiple of
    its rate is the same as another rate, and composes with every schedule.

    Args:
        checkpoint: A Lightning checkpoint, a saved state dict, or the folder of a model that MLflow has saved. Empty:
            the weights stay as they are.
        pretraining: How a model like this one is trained first, whose weights it gets, where there is no checkpoint.
        leave: Patterns of the names of weights that are not taken over, such as a head for other classes.
        freeze: Patterns of parameter names, from the input to the output, that are frozen at the beginning. A pattern
            means the names that it matches and those that it begins, as in `features` or `*.norm*`.
        thaw_every_epochs: After so many epochs the last pattern of `freeze` that is still frozen thaws; 0 for never.
        rate_decay: Factor of the learning rate of each pattern of `freeze` to the next one towards the output, above 0
            and at most 1; what no pattern means learns at the full rate.
    """

    def __init__(
        self,
        checkpoint: str = "",
        pretraining: Pretraining | None = None,
        leave: Sequence[str] = (),
        freeze: Sequence[str] = (),
        thaw_every_epochs: int = 0,
        rate_decay: float = 1.0,
    ) -> None:
        super().__init__()
        if checkpoint and pretraining:
            msg = f"weights come from the checkpoint {checkpoint} or from pretraining, not from both"
            raise ValueError(msg)
        if thaw_every_epochs < 0 or not 0 < rate_decay <= 1:
            msg = f"thaw_every_epochs {thaw_every_epochs} must be at least 0, rate_decay {rate_decay} in (0, 1]"
            raise ValueError(msg)
        self.checkpoint, self.pretraining = checkpoint, pretraining
        self.leave, self.freeze = tuple(leave), tuple(freeze)
        self.thaw_every_epochs, self.rate_decay = thaw_every_epochs, rate_decay
        self._slow: dict[str, float] = {}
        self._before: dict[str, Tensor] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Load the weights, before a checkpoint of this training itself replaces them."""
        if stage == "fit" and (self.checkpoint or self.pretraining):
            load_given(pl_module, self.checkpoint, self.pretraining, data_of(trainer), self.leave)

    def frozen(self, epoch: int) -> tuple[str, ...]:
        """The patterns that are frozen in an epoch, from 0."""
        thawed = epoch // self.thaw_every_epochs if self.thaw_every_epochs else 0
        return self.freeze[: max(0, len(self.freeze) - thawed)]

    def factors(self, names: Sequence[str]) -> dict[str, float]:
        """The share of the learning rate of each name that has not all of it."""
        found: dict[str, float] = {}
        for distance, pattern in enumerate(reversed(self.freeze), 1):
            found |= {name: self.rate_decay**distance for name in matching(names, [pattern]) if name not in found}
        return {name: factor for name, factor in found.items() if factor < 1}

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Freeze what is to be frozen in this epoch, and thaw the rest of it."""
        parameters = dict(pl_module.named_parameters())
        frozen = set(matching(parameters, self.frozen(trainer.current_epoch)))
        of_freeze = matching(parameters, self.freeze)
        for name in of_freeze:
            parameters[name].requires_grad_(name not in frozen)
            if name in frozen:
                parameters[name].grad = None
        for name, part in pl_module.named_modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and f"{name}.weight" in of_freeze:  # noqa: SLF001  # the base of all batch norms
                part.train(f"{name}.weight" not in frozen)  # Lightning keeps each part's mode from epoch to epoch
        slow = self.factors(list(parameters))
        self._slow = {name: factor for name, factor in slow.items() if name not in frozen}

    def before_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        """Note the weights whose change is to be scaled."""
        self._before = {name: pl_module.get_parameter(name).detach().clone() for name in self._slow}

    @torch.no_grad()
    def after_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        """Take back the part of the change that is too much."""
        for name, before in self._before.items():
            pl_module.get_parameter(name).lerp_(before, 1 - self._slow[name])
        self._before = {}


def load_given(
    model: pl.LightningModule,
    checkpoint: str,
    pretraining: Pretraining | None,
    data: pl.LightningDataModule | None,
    leave: Sequence[str] = (),
) -> None:
    """Set each weight of `model` of which a checkpoint or, where there is one, a pretraining has the name and shape.

    `data` are the training's own, `leave` the patterns of the names of weights that are not set. ValueError where
    nothing fits.
    """
    saved = saved_weights(Path(checkpoint)) if pretraining is None else pretraining.weights(model, data)
    own = model.state_dict()
    open_names = own.keys() - set(matching(own, leave))
    fitting = {name: value for name, value in saved.items() if name in open_names and own[name].shape == value.shape}
    if not fitting:
        source = "what was pretrained" if pretraining else checkpoint
        msg = f"no weight in {source} has the name and shape of one of {type(model).__name__}'s"
        raise ValueError(msg)
    model.load_state_dict(fitting, strict=False)


def data_of(trainer: pl.Trainer) -> pl.LightningDataModule | None:
    """The data module that the trainer was given, if it was given one."""
    found: pl.LightningDataModule | None = getattr(trainer, "datamodule", None)
    return found


def saved_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a Lightning checkpoint, a saved state dict, or a model's folder as MLflow saves it.

    FileNotFoundError where there is none; ValueError where it holds something else. Nothing but tensors and plain
    containers is unpickled.
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in _ENDINGS)
    if not files:
        msg = f"{path} is no checkpoint, and no folder that holds one ({', '.join(_ENDINGS)})"
        raise FileNotFoundError(msg)
    try:
        content: Any = torch.load(files[0], map_location="cpu", weights_only=True)
    except Exception as error:
        msg = f"{files[0]} cannot be read as weights alone ({type(error).__name__}): save a state dict or a checkpoint"
        raise ValueError(msg) from error
    found = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        msg = f"{files[0]} holds no weights"
        raise ValueError(msg)
    return tensors
