"""The plot of several sweeps side by side shows where each of them stands, whatever the size of its values."""

from __future__ import annotations

from typing import Any

import pytest

from service.views import comparison


def entry(name: str, *values: float) -> dict[str, Any]:
    """A sweep with a better value after each of its trials."""
    points = [[i, float(i), value] for i, value in enumerate(values)]
    counts = {"completed": len(values)}
    metric = {"name": "val_loss", "goal": "minimize"}
    return {"sweep_id": name, "metric": metric, "trials": counts, "elapsed_s": 9.0, "best_over_time": points}


def rows_of(*found: dict[str, Any]) -> tuple[str, list[int]]:
    """The plot's heading, and the rows on which the first sweep's marks are."""
    drawn = comparison.plot(found, "trials")
    assert drawn is not None
    heading, *lines = drawn.plain.splitlines()
    return heading, [row for row, line in enumerate(lines) if "●" in line]


def test_values_of_one_size_are_shown_as_they_are() -> None:
    heading, rows = rows_of(entry("a", 0.9, 0.5, 0.1))
    assert heading == "best val_loss so far (minimize)"
    assert rows == [0, 8, 15]


def test_a_loss_that_falls_by_orders_of_magnitude_is_shown_on_a_logarithmic_scale() -> None:
    heading, rows = rows_of(entry("a", 1.0, 0.1, 0.01, 0.001))
    assert heading == "best val_loss so far (minimize, logarithmic)"
    assert rows == [0, 5, 10, 15]


@pytest.mark.parametrize("values", [(-1.0, -1000.0), (0.0, -5.0), (3.0, 0.0), (2.0, 2.0), (0.0, 0.0)])
def test_values_without_a_logarithm_are_shown_as_they_are(values: tuple[float, ...]) -> None:
    heading, rows = rows_of(entry("a", *values))
    assert "logarithmic" not in heading
    assert rows
