"""A forecast hears of other series through the graph alone, and nothing is known of the quarters it is for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from statsmodels.datasets import macrodata

from trainables.data.macro_series import GROWING, RATES, MacroSeries
from trainables.graphs.forecaster import Forecaster
from trainables.graphs.series_graph import SeriesGraph


def test_a_step_over_the_graph_is_its_formula() -> None:
    graph, states = SeriesGraph(3, 5, 2, dropout=0.0), torch.randn(4, 3, 5)
    edges = torch.stack([torch.relu(a @ graph.tells.T).softmax(0) for a in graph.hears])
    torch.testing.assert_close(graph.edges(), edges)
    expected = torch.empty_like(states)
    for i in range(3):
        heard = sum(edges[i, j] * states[:, j] for j in range(3))
        expected[:, i] = states[:, i] + torch.relu(graph.own(states[:, i]) + graph.others(heard))
    torch.testing.assert_close(graph(states), expected)


@pytest.mark.parametrize("graph_steps", [0, 1, 2])
def test_series_hear_of_each_other_through_the_graph_alone(graph_steps: int) -> None:
    model = Forecaster(series=4, horizon=3, graph_steps=graph_steps).eval()
    known = torch.randn(2, 6, 4)
    other = known.clone()
    other[:, :, 3] += 1
    changed = (model(known) - model(other)).abs().amax((0, 1)) > 0
    assert changed.tolist() == [graph_steps > 0] * 3 + [True]
    assert model(known).shape == (2, 3, 4)


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (3, 0), (3, 2)])
def test_no_forecast_quarter_is_in_two_parts_and_none_is_known_before(folds: int, fold: int) -> None:
    window, horizon = 6, 3
    data = MacroSeries(window, horizon, folds=folds, fold=fold)
    data.setup()
    table = macrodata.load_pandas().data
    changes = np.diff(
        np.concatenate([np.log(table[list(GROWING)].to_numpy()), table[list(RATES)].to_numpy()], 1), axis=0
    )
    count = len(data.parts["train"][0])
    known = changes[: count - 1 + window + horizon]  # what training may know
    series = (changes - known.mean(0)) / known.std(0)
    forecast: dict[str, set[int]] = {}
    for name, (inputs, targets) in data.parts.items():
        starts = [int(np.abs(series[: len(series) - window, 0] - float(x[0, 0])).argmin()) for x in inputs]
        assert starts == list(range(starts[0], starts[0] + len(starts)))
        for start, x, y in zip(starts, inputs, targets, strict=True):
            np.testing.assert_allclose(x, series[start : start + window], atol=1e-4)
            np.testing.assert_allclose(y, series[start + window : start + window + horizon], atol=1e-4)
        forecast[name] = {s + window + k for s in starts for k in range(horizon)}
    assert max(forecast["train"]) < min(forecast["validation"]) <= max(forecast["validation"]) < min(forecast["test"])
    assert max(forecast["test"]) == len(series) - 1
    assert len(known) == max(forecast["train"]) + 1


def test_too_short_a_series_is_refused() -> None:
    with pytest.raises(ValueError, match="too few for folds 5"):
        MacroSeries(window=150, horizon=20, folds=5).setup()
