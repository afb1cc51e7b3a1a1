"""The held-out test in MLflow: the score of each tested fit on its own run, and their mean on those above it."""

from __future__ import annotations

from collections.abc import Callable

from service.tuning.events import HeldOutEnded
from service.tuning.held_out import HeldOut, Score, scores, shown_names
from service.tuning.tracking_names import clean_key, metric_value, tag_text
from service.tuning.tracking_points import Delivery, Point


class HeldOutScores:
    """A fold over the ends of tests: the same records give the same points."""

    def __init__(self) -> None:
        self._tests: list[HeldOut] = []
        self._told: tuple[dict[str, Score], int] = ({}, 0)  # what was summed up last, and at which epoch

    def end(self, event: HeldOutEnded, epoch: int, delivery: Delivery, at_ms: int) -> None:
        """Put what came of a test into its fit's delivery, at the `epoch` that counts for the fit."""
        if event.kind == "failed":
            delivery.tags["tuneyard.held_out"] = tag_text(event.cause)
        if event.kind != "finished":
            return
        self._tests.append(HeldOut(event.trial, event.attempt, epoch, metrics=event.metrics))
        for name, key in shown_names(event.metrics).items():
            delivery.points.append(Point(clean_key(key), _value(event.metrics[name]), at_ms, epoch))

    def sum_up(self, deliveries: list[Delivery], at_ms: int, epoch: int, is_winner: Callable[[int], bool]) -> None:
        """Put each metric's mean over the winner's tested fits, and its deviation, into each of `deliveries`.

        Once for the same scores. Where a sweep was extended, the new winner's epoch may lie before the old one's, and
        MLflow takes the point of the highest for the latest: then they are put where those of the old one are.
        """
        found, (told, told_at) = scores([test for test in self._tests if is_winner(test.trial)]), self._told
        if found == told:
            return
        epoch = max(epoch, told_at)
        self._told = found, epoch
        for name, score in found.items():
            values = {name: score.mean} | ({} if score.deviation is None else {f"{name}_std": score.deviation})
            points = [Point(clean_key(key), _value(value), at_ms, epoch) for key, value in values.items()]
            for delivery in deliveries:
                delivery.points += points


def _value(value: float) -> float:
    return metric_value(value, diverged=False)
