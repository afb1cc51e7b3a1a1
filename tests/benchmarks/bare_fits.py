"""The very fits of a finished digits sweep, in two warm processes and nothing else: no Ray, no tracking, no decisions.

Run as `python -m tests.benchmarks.bare_fits SWEEP_FOLDER`; prints one JSON object with the start-up and the fits apart.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

Fit = tuple[dict[str, Any], int]  # parameters, epochs
WORKERS = 2


def fits_of(folder: Path) -> list[Fit]:
    """Every trial of the sweep with the epochs it trained, in the order in which they began."""
    from service.spec.sweep_spec import SweepSpec
    from service.tuning.history import History
    from service.tuning.ledger import read_ledger
    from service.tuning.sweep_folder import read_job

    history = History.of(SweepSpec.from_dict(read_job(folder).spec).objectives, read_ledger(folder))
    return [(trial.params, trial.epoch) for trial in history.trials if trial.epoch]


def fit(params: dict[str, Any], epochs: int) -> float:
    """Train the recipe's network once; returns its validation accuracy."""
    import pytorch_lightning as pl
    import torch

    from trainables.data.digits import Digits
    from trainables.vision.conv_net import ConvNet

    def arguments(section: str) -> dict[str, Any]:
        prefix = f"{section}.init_args."
        return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}

    class Tuned(ConvNet):
        """The recipe's network with the optimizer that the configuration asks for."""

        def configure_optimizers(self) -> torch.optim.Optimizer:
            """Build it."""
            kind = torch.optim.SGD if params["optimizer.class_path"].endswith("SGD") else torch.optim.AdamW
            return kind(self.parameters(), **arguments("optimizer"))

    pl.seed_everything(0, verbose=False)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(Tuned(**arguments("model")), Digits(**arguments("data")))
    return float(trainer.callback_metrics["val_acc"])


def work(todo: Queue[Fit | None], done: Queue[float], warm: Barrier) -> None:
    """Get warm, then fit until there is nothing more to do."""
    import pytorch_lightning  # noqa: F401  # what getting warm means
    import torch

    import trainables.data.digits
    import trainables.vision.conv_net  # noqa: F401  # as above

    torch.set_num_threads(1)
    warm.wait()
    while (item := todo.get()) is not None:
        done.put(fit(*item))


def main() -> None:
    """Fit everything and print what it took."""
    fits = fits_of(Path(sys.argv[1]))
    context = multiprocessing.get_context("spawn")
    todo: Queue[Fit | None] = context.Queue()
    done: Queue[float] = context.Queue()
    warm = context.Barrier(WORKERS + 1)
    for item in [*fits, *[None] * WORKERS]:
        todo.put(item)
    began = time.monotonic()
    workers = [context.Process(target=work, args=(todo, done, warm)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    warm.wait()
    started = time.monotonic()
    values = [done.get() for _ in fits]
    ended = time.monotonic()
    for worker in workers:
        worker.join()
    answer = {
        "start_s": started - began,
        "fits_s": ended - started,
        "fits": len(fits),
        "epochs": sum(epochs for _, epochs in fits),
        "best": max(values),
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
