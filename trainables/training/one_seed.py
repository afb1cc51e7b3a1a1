"""A LightningCLI whose one seed decides everything that is drawn, the split of the data included."""

from __future__ import annotations

from typing import Any

from jsonargparse import Namespace
from pytorch_lightning.cli import LightningCLI


class OneSeedCLI(LightningCLI):
    """Gives each argument `seed` under `data` and in callbacks the value of `seed_everything`.

    Then repeats with other seeds have other weights, another order and another split, and what differs between two
    configurations with the same seed is the configuration alone. In a sweep file: `fit: {cli: ...}`.
    """

    def before_instantiate_classes(self) -> None:
        """Set the seeds."""
        seed = self.config.get("seed_everything")
        if isinstance(seed, int) and not isinstance(seed, bool):
            _set_seeds([self.config.get("data"), self.config.trainer.get("callbacks")], seed)


def _set_seeds(node: Any, seed: int) -> None:  # noqa: ANN401  # any part of a parsed config
    if isinstance(node, list):
        for item in node:
            _set_seeds(item, seed)
    elif isinstance(node, Namespace):
        for name in list(vars(node)):
            if name == "seed":
                node[name] = seed
            else:
                _set_seeds(node[name], seed)
