"""Windows over several series, in order of time: what is known, and what comes after it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables.data.splits import Split, SplitPlan, standardised


class Windows(NamedTuple):
    """What is known (windows, window, series), what is to forecast (windows, horizon, series), and their parts."""

    known: NDArray[Any]
    future: NDArray[Any]
    split: Split


def windowed(values: NDArray[Any], plan: SplitPlan, window: int, horizon: int) -> Windows:
    """Cut series (steps, series) into windows, split in time, after standardising each by its training steps alone.

    No step that is forecast in one part is forecast in another; what is known may reach back into the part before.
    ValueError where there are too few steps.
    """
    split = plan.split_in_time(max(0, len(values) - window - horizon + 1), gap=horizon - 1)
    trained = np.arange(split.train[-1] + window + horizon)
    whole = np.lib.stride_tricks.sliding_window_view(standardised(values, trained), window + horizon, axis=0)
    windows = whole.transpose(0, 2, 1)
    return Windows(windows[:, :window].copy(), windows[:, window:].copy(), split)
