"""What every classifier here shares: cross-entropy, accuracy, label smoothing."""

from __future__ import annotations

from abc import ABC

from trainables.tasks.predictor import Predictor
from trainables.tasks.targets import Classes


class Classifier(Predictor, ABC):
    """Cross-entropy training of `forward`, which maps a batch of inputs to logits of shape (batch, classes).

    Logs `train_loss`, `val_loss` and `val_acc` (and `test_loss`, `test_acc`) as means over the epoch's samples.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__(Classes(label_smoothing))
