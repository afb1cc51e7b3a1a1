"""Models of tables: columns become tokens as the paper says, and categories become what their vectors hold."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.data.mixed_tables import MixedTables
from trainables.tabular.feature_transformer import FeatureTransformer
from trainables.tabular.mlp import MLP


def test_a_token_is_a_number_times_a_vector_or_a_category_s_vector_plus_a_shift() -> None:
    tokens = FeatureTransformer(numbers=2, categories=[3], heads=1, head_width=4).tokens
    numbers, categories = torch.tensor([[2.0, -1.0]]), torch.tensor([[1]])
    columns = [2 * tokens.weights[0], -tokens.weights[1], tokens.embeddings[0].weight[1]]  # type: ignore[index]  # a tensor
    expected = torch.stack([tokens.reader, *(c + s for c, s in zip(columns, tokens.shifts, strict=True))])
    torch.testing.assert_close(tokens(numbers, categories)[0], expected)


def test_the_order_of_columns_does_not_matter_to_a_feature_transformer() -> None:
    model = FeatureTransformer(numbers=4).eval()
    rows, order = torch.randn(5, 4), torch.tensor([2, 0, 3, 1])
    before = model(rows)
    with torch.no_grad():
        model.tokens.weights.copy_(model.tokens.weights[order])
        model.tokens.shifts.copy_(model.tokens.shifts[order])
    torch.testing.assert_close(model(rows[:, order]), before)


def test_a_feature_transformer_has_the_weights_that_the_paper_s_layers_have() -> None:
    width, hidden = 192, 256  # the paper's default: three blocks of 192 with 8 heads, hidden factor 4/3
    model = FeatureTransformer(numbers=10, categories=[5], depth=3, heads=8, head_width=24)
    attention = 4 * (width * width + width)
    gated = width * 2 * hidden + 2 * hidden + hidden * width + width
    tokens = width * (1 + 10 + 11 + 5)
    norms = 2 * width * (3 + 2)  # none before the first attention
    head = 2 * width + 2 * width + 2
    assert sum(p.numel() for p in model.parameters()) == 3 * (attention + gated) + tokens + norms + head


def test_an_mlp_reads_a_category_through_its_vector() -> None:
    model = MLP(inputs=1, categories=[3, 40], embedding_size=4, depth=0, target="number")
    assert [e.weight.shape for e in model.embeddings] == [(3, 2), (40, 4)]
    first, second = model.embeddings
    vector = torch.cat([torch.tensor([0.5]), first.weight[2], second.weight[7]])  # type: ignore[index]  # tensors
    expected = nn.functional.linear(vector, model.layers[0].weight, model.layers[0].bias)  # type: ignore[arg-type]  # a Linear's
    torch.testing.assert_close(model(torch.tensor([[0.5]]), torch.tensor([[2, 7]])), expected)


@pytest.mark.parametrize("model", [MLP(inputs=9, categories=[2], target="number"),
                                   FeatureTransformer(numbers=9, categories=[2], target="number")])  # fmt: skip
def test_numbers_are_predicted_one_per_row(model: MLP | FeatureTransformer) -> None:
    data = MixedTables("diabetes")
    data.setup()
    batch = next(iter(data.val_dataloader()))
    assert model(*batch[:-1]).shape == batch[-1].shape
    assert data.parts["train"][-1].mean().item() == pytest.approx(0, abs=1e-5)
    assert data.parts["train"][0].std(0, correction=0).tolist() == pytest.approx([1] * 9, abs=1e-4)


def test_the_categories_of_the_voters_count_from_zero() -> None:
    data = MixedTables("voters")
    data.setup()
    categories = torch.cat([part[1] for part in data.parts.values()])
    assert categories.min(0).values.tolist() == [0] * 6
    assert categories.max(0).values.tolist() == [6, 6, 6, 6, 6, 23]


@pytest.mark.parametrize("kind", [MLP, FeatureTransformer])
def test_categories_that_a_model_was_not_told_of_are_refused(kind: type[MLP | FeatureTransformer]) -> None:
    for told, given in ((0, 2), (1, 2), (2, 1)):
        model = kind(3, categories=[5] * told)
        with pytest.raises(ValueError, match=f"data have {given} categorical columns, the model {told}"):
            model(torch.zeros(4, 3), torch.zeros(4, given, dtype=torch.int64))
    with pytest.raises(ValueError, match="data have 0 categorical columns, the model 1"):
        kind(1, categories=[5])(torch.zeros(4, 1))
