"""Knowledge distillation: the model learns from a larger one's answers as well as from the targets."""

from __future__ import annotations

from typing import Any, Final

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.training.pretraining import Pretraining
from trainables.training.step_change import Step, StepChange
from trainables.training.transfer import data_of, load_given

_LOGITS: Final = 2


class Distillation(StepChange):
    """Trains on `(1 - weight) * loss + weight * T^2 * KL(teacher_T || student_T)` (Hinton et al. 2015).

    The student is the module that is trained, from the `model` section of a config; its `forward` gives logits with
    classes in the last dimension, and what it is called with in a step, the teacher is called with, too: so augmented
    and mixed inputs are the same for both. The teacher is in evaluation mode, gets no gradient, and is no part of the
    student's checkpoint.

    Args:
        teacher: Any module whose `forward` takes the student's inputs and gives logits of the same shape.
        checkpoint: Where the teacher's weights are, as `Transfer` takes it; empty: those that it was made with.
        pretraining: How the teacher is trained first, where there is no checkpoint.
        temperature: T, by which the logits of both are divided; above 0.
        weight: Share of the distillation loss, 0 to 1.
    """

    def __init__(
        self,
        teacher: pl.LightningModule,
        checkpoint: str = "",
        pretraining: Pretraining | None = None,
        temperature: float = 2.0,
        weight: float = 0.5,
    ) -> None:
        if checkpoint and pretraining:
            msg = f"the teacher is in the checkpoint {checkpoint} or trained first, not both"
            raise ValueError(msg)
        if temperature <= 0 or not 0 <= weight <= 1:
            msg = f"temperature {temperature} must be above 0, weight {weight} in [0, 1]"
            raise ValueError(msg)
        self.teacher, self.checkpoint, self.pretraining = teacher, checkpoint, pretraining
        self.temperature, self.weight = temperature, weight

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the teacher its weights."""
        if stage == "fit" and (self.checkpoint or self.pretraining):
            load_given(self.teacher, self.checkpoint, self.pretraining, data_of(trainer))

    def around(self, step: Step, pl_module: pl.LightningModule) -> Step:
        """The same step with the mixed loss."""
        self.teacher.to(pl_module.device, pl_module.dtype).eval().requires_grad_(requires_grad=False)

        def distilled(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # any step's
            calls: list[tuple[tuple[Any, ...], Tensor]] = []

            def note(_module: nn.Module, inputs: tuple[Any, ...], outputs: Tensor) -> None:
                calls.append((inputs, outputs))

            handle = pl_module.register_forward_hook(note)
            try:
                said = step(*args, **kwargs)
            finally:
                handle.remove()
            return self._mixed(said, calls)

        return distilled

    def _mixed(self, said: Any, calls: list[tuple[tuple[Any, ...], Tensor]]) -> Any:  # noqa: ANN401  # any step's
        if not calls or said is None:
            msg = "distillation needs a training_step that gives a loss and calls the module itself: `self(inputs)`"
            raise RuntimeError(msg)
        with torch.no_grad():
            answers = [self.teacher(*inputs) for inputs, _ in calls]
        far = sum(self.distance(outputs, answer) for (_, outputs), answer in zip(calls, answers, strict=True))
        loss = (1 - self.weight) * (said["loss"] if isinstance(said, dict) else said) + self.weight * far / len(calls)
        return {**said, "loss": loss} if isinstance(said, dict) else loss

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """T^2 times the divergence of the student's softened classes from the teacher's, in nats a sample."""
        if student.ndim < _LOGITS or not student.is_floating_point():
            msg = f"distillation is for logits (batch, classes); the model gives numbers {tuple(student.shape)}"
            raise ValueError(msg)
        if student.shape != teacher.shape:
            msg = f"the teacher gives logits {tuple(teacher.shape)}, the student {tuple(student.shape)}"
            raise ValueError(msg)
        classes = student.shape[-1]
        ours = functional.log_softmax(student.reshape(-1, classes) / self.temperature, dim=-1)
        theirs = functional.log_softmax(teacher.reshape(-1, classes).to(student.dtype) / self.temperature, dim=-1)
        return self.temperature**2 * functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
