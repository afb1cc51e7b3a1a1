"""A callback that logs what a model costs beside how good it is, so that both can be objectives or constraints."""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.measuring.energy import EnergyMeter, energy_meters

TIMED: Final = frozenset(
    {
        "latency_ms",
        "latency_p95_ms",
        "batch_latency_ms",
        "batch_latency_p95_ms",
        "peak_memory_bytes",
        "train_seconds",
        "energy_wh",
        "energy_estimate_wh",
    }
)
"""The metrics that a machine's state decides, too: two runs of the same training differ in them alone."""


class ResourceMeter(pl.Callback):
    """Logs with every validation what the model costs.

    The names are `parameters`, `nonzero_parameters`; `flops` of one sample's forward pass, two for a multiplication
    with its addition; `size_bytes` of the saved weights on disk; `latency_ms` and `latency_p95_ms` of one sample, and
    `batch_latency_ms` and `batch_latency_p95_ms` of a batch, medians and 95th percentiles of forward passes without
    gradients; `peak_memory_bytes` of the device, or of the process without one; `train_seconds` of the epochs so far
    without validation; `energy_estimate_wh` of training, those seconds times `watts`, everywhere, so that a search can
    rely on it; and `energy_wh` where the machine has counters for it.

    The model is measured on inputs from the validation data, in evaluation mode; size, FLOPs and latencies once, in the
    first validation, since they do not change with the weights. Its `forward` takes all but the last part of a batch.
    What another callback has put in place of a layer's forward pass, such as int8 that is simulated, is not timed.

    Args:
        batch_size: Samples of the batched latency; fewer where a validation batch has fewer.
        repeats: Timed passes for each latency, after a fifth as many that are not timed.
        watts: Power that the estimate of energy assumes.
    """

    def __init__(self, batch_size: int = 32, repeats: int = 20, watts: float = 65.0) -> None:
        if batch_size < 1 or repeats < 1 or watts <= 0:
            msg = f"batch_size {batch_size} and repeats {repeats} must be at least 1, watts {watts} above 0"
            raise ValueError(msg)
        self.batch_size, self.repeats, self.watts = batch_size, repeats, watts
        self._inputs: tuple[Any, ...] | None = None
        self._fixed: dict[str, float] = {}
        self._meters: list[EnergyMeter] = []
        self._spent = {"train_seconds": 0.0}
        self._before: dict[str, float] = {}
        self._since: float | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count time and energy, where that does not go on from an epoch without a validation."""
        if not self._meters:
            self._meters, self._before = energy_meters(self.watts), dict(self._spent)
            if pl_module.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(pl_module.device)
        self._start()

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # noqa: ANN401  # any batch
        batch_idx: int,
    ) -> None:
        """Go on counting after a validation within the epoch."""
        self._start()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop counting: validation is not training."""
        if self._since is None:
            return
        _wait_for(pl_module.device)
        self._spent["train_seconds"] += time.perf_counter() - self._since
        for meter in self._meters:
            self._spent[meter.name] = self._before.get(meter.name, 0.0) + meter.stop()
        self._since = None

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # noqa: ANN401  # any batch
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first batch to measure with."""
        if self._inputs is None:
            self._inputs = tuple(batch[:-1]) if isinstance(batch, list | tuple) else (batch,)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log it all."""
        if trainer.sanity_checking or self._inputs is None:
            return
        if not self._fixed:
            with trainer.precision_plugin.val_step_context():  # the speed that it has where it is mixed
                speed = speed_of(pl_module, self._inputs, self.batch_size, self.repeats)
            self._fixed = {"size_bytes": saved_bytes(pl_module), **speed}
            self._inputs = ()  # no longer of use, and large
        figures = {
            **counts_of(pl_module),
            **self._fixed,
            **self._spent,
            "peak_memory_bytes": peak_memory(pl_module.device),
        }
        pl_module.log_dict({name: float(value) for name, value in figures.items()}, batch_size=1)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Count no longer."""
        self._since, self._meters = None, []

    def _start(self) -> None:
        if self._since is None:
            for meter in self._meters:
                meter.start()
            self._since = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """What was spent so far."""
        return dict(self._spent)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what an interrupted training has spent."""
        self._spent = {name: float(value) for name, value in state_dict.items()}


def saved_bytes(module: nn.Module) -> int:
    """The size of the saved state dict on disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pt"
        torch.save(module.state_dict(), path)
        return path.stat().st_size


def counts_of(module: nn.Module) -> dict[str, int]:
    """Numbers of parameters."""
    parameters = list(module.parameters())
    return {
        "parameters": sum(one.numel() for one in parameters),
        "nonzero_parameters": sum(int(torch.count_nonzero(one)) for one in parameters),
    }


def speed_of(module: nn.Module, inputs: tuple[Any, ...], batch_size: int, repeats: int) -> dict[str, float]:
    """FLOPs of one sample, and latencies in milliseconds of one sample and of a batch, on the module's own device."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad(), _own_forwards(module):
            one, several = _first(inputs, 1), _first(inputs, batch_size)
            with FlopCounterMode(display=False) as counter:
                module(*one)
            single = _latencies_ms(lambda: module(*one), _device_of(one), repeats)
            batch = _latencies_ms(lambda: module(*several), _device_of(several), repeats)
    finally:
        module.train(was_training)
    return {
        "flops": counter.get_total_flops(),
        "latency_ms": statistics.median(single),
        "latency_p95_ms": percentile(single, 0.95),
        "batch_latency_ms": statistics.median(batch),
        "batch_latency_p95_ms": percentile(batch, 0.95),
    }


@contextmanager
def _own_forwards(module: nn.Module) -> Iterator[None]:
    """Without what stands in place of a part's own forward pass for now."""
    replaced = {part: part.__dict__.pop("forward") for part in module.modules() if "forward" in part.__dict__}
    try:
        yield
    finally:
        for part, forward in replaced.items():
            part.__dict__["forward"] = forward


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed (nearest rank)."""
    return sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]


def peak_memory(device: torch.device) -> float:
    """The most bytes that were in use: of the CUDA device by tensors, else of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def _first(inputs: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """The first samples of what has samples in its first dimension, as many as the first input has."""
    samples = len(inputs[0])
    return tuple(part[:count] if isinstance(part, Tensor) and len(part) == samples else part for part in inputs)


def _device_of(inputs: tuple[Any, ...]) -> torch.device:
    return next((part.device for part in inputs if isinstance(part, Tensor)), torch.device("cpu"))


def _latencies_ms(run: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    found = []
    for number in range(repeats + repeats // 5 + 1):
        began = time.perf_counter()
        run()
        _wait_for(device)
        if number > repeats // 5:
            found.append(1000 * (time.perf_counter() - began))
    return found


def _wait_for(device: torch.device) -> None:
    """Until what was asked of a device is done, which its clock would miss."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
