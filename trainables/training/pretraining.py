"""Trains a model beforehand where no checkpoint of it lies ready: a donor of weights, a teacher, or a reference."""

from __future__ import annotations

import copy
import inspect
import json
import random
import tempfile
import warnings
from collections import OrderedDict
from typing import Final

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

_MOST_KEPT: Final = 8
_KEPT: OrderedDict[str, dict[str, Tensor]] = OrderedDict()


class Pretraining:
    """How a model is trained before the training itself: AdamW on the training part of some data, in the same process.

    What comes of it depends on the model's class and arguments and on the arguments here, not on the seed of the
    training itself: a model that saves all its arguments (`save_hyperparameters`) is made anew from `seed`, any other
    begins with the weights that it has. A process keeps the last eight results of the first kind, so that a sweep's
    trials with the same donor do not each train it. Global random states stay as they are.

    Args:
        data: What to train on; None takes the data of the training itself, so that folds and splits are the same.
        epochs: Passes over the training part.
        lr: The learning rate of AdamW.
        seed: Of the weights that the model begins with, and of the order of the data.
    """

    def __init__(
        self, data: pl.LightningDataModule | None = None, epochs: int = 10, lr: float = 0.003, seed: int = 0
    ) -> None:
        if epochs < 1 or lr <= 0:
            msg = f"epochs {epochs} must be at least 1, lr {lr} above 0"
            raise ValueError(msg)
        self.data, self.epochs, self.lr, self.seed = data, epochs, lr, seed

    def weights(self, model: pl.LightningModule, own: pl.LightningDataModule | None) -> dict[str, Tensor]:
        """The weights that a model like `model`, which stays as it is, has after this; `own` is the training's data.

        ValueError where there are no data.
        """
        data = self.data or own
        if data is None:
            msg = "pretraining needs data: give it a data module, or train on one"
            raise ValueError(msg)
        key = self._key(model, data)
        if key in _KEPT:
            _KEPT.move_to_end(key)
            return _KEPT[key]
        with isolate_rng():
            found = self._trained(model, data, is_known=bool(key))
        if key:
            _KEPT[key] = found
            while len(_KEPT) > _MOST_KEPT:
                _KEPT.popitem(last=False)
        return found

    def _trained(self, model: pl.LightningModule, data: pl.LightningDataModule, *, is_known: bool) -> dict[str, Tensor]:
        random.seed(self.seed)
        np.random.seed(self.seed)  # noqa: NPY002  # the global state is meant
        torch.manual_seed(self.seed)
        donor = type(model)(**_arguments(model)) if is_known else copy.deepcopy(model)
        optimizer = torch.optim.AdamW(donor.parameters(), self.lr)
        donor.configure_optimizers = lambda: optimizer  # type: ignore[method-assign]  # a config may have set its own
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You defined a `validation_step` but have no")
            trainer = pl.Trainer(
                max_epochs=self.epochs, default_root_dir=folder, devices=1, logger=False, limit_val_batches=0,
                enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                accelerator="auto" if torch.cuda.is_available() else "cpu",
            )  # fmt: skip
            if data is self.data:
                trainer.fit(donor, datamodule=data)
            else:  # it belongs to another trainer
                trainer.fit(donor, train_dataloaders=data.train_dataloader())
        return {name: value.detach().cpu().clone() for name, value in donor.state_dict().items()}

    def _key(self, model: pl.LightningModule, data: pl.LightningDataModule) -> str:
        """What the result depends on, as text; empty where that is not known."""
        try:
            parts = [_name(model), _arguments(model), _name(data), _arguments(data)]
            return json.dumps([*parts, self.epochs, self.lr, self.seed], sort_keys=True)
        except (TypeError, ValueError):
            return ""


def _name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _arguments(thing: pl.LightningModule | pl.LightningDataModule) -> dict[str, object]:
    """The arguments that it was made with; ValueError where it has not saved them all, or objects are among them."""
    saved = dict(thing.hparams)
    names = list(inspect.signature(type(thing)).parameters)
    if not all(name in saved for name in names):
        msg = f"{_name(thing)} has not saved its arguments"
        raise ValueError(msg)
    if "class_path" in str(saved):
        msg = f"{_name(thing)} was made with objects"
        raise ValueError(msg)
    return {name: saved[name] for name in names}
