"""Layers over padded batches against torch's own, and against the same sequences without padding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from trainables.sequences.attention import EncoderLayer, Positional
from trainables.sequences.padding import inside, lengths_of
from trainables.sequences.recurrent import Cell, Recurrent
from trainables.text.rnn import TextRNN
from trainables.text.transformer import TextTransformer

LENGTHS = torch.tensor([5, 1, 7, 3])


def packed(recurrent: Recurrent, cell: Cell, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What torch's layer with the same weights gives for a packed sequence."""
    both = len(recurrent.behind) > 0
    layers, width = len(recurrent.ahead), recurrent.outputs // (1 + both)
    kind = nn.LSTM if cell == "lstm" else nn.GRU
    theirs = kind(inputs.shape[2], width, layers, batch_first=True, bidirectional=both)
    for way, suffix in ((recurrent.ahead, ""), (recurrent.behind, "_reverse")):
        for i, layer in enumerate(way):
            for name, weight in layer.named_parameters():
                getattr(theirs, name.replace("_l0", f"_l{i}{suffix}")).data.copy_(weight.data)
    outputs, state = theirs(pack_padded_sequence(inputs, LENGTHS, batch_first=True, enforce_sorted=False))
    last = (state[0] if cell == "lstm" else state)[-1 - both :]
    return pad_packed_sequence(outputs, batch_first=True)[0], last.transpose(0, 1).flatten(1)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("both", [False, True])
def test_recurrent_layers_give_what_torch_gives_packed_and_what_they_give_unpadded(
    cell: Cell, layers: int, *, both: bool
) -> None:
    recurrent, inputs = Recurrent(4, 6, layers, cell, both), torch.randn(4, 7, 4)
    outputs, last = recurrent(inputs, LENGTHS)
    theirs, their_last = packed(recurrent, cell, inputs)
    torch.testing.assert_close(outputs, theirs)
    torch.testing.assert_close(last, their_last)
    for row, length in enumerate(LENGTHS.tolist()):
        alone, alone_last = recurrent(inputs[row : row + 1, :length], LENGTHS[row : row + 1])
        torch.testing.assert_close(outputs[row, :length], alone[0])
        torch.testing.assert_close(last[row], alone_last[0])


@pytest.mark.parametrize("norm_first", [False, True])
def test_an_encoder_layer_is_torch_s(*, norm_first: bool) -> None:
    ours = EncoderLayer(12, 3, 20, 0.1, norm_first).eval()
    theirs = nn.TransformerEncoderLayer(12, 3, 20, 0.1, batch_first=True, norm_first=norm_first)
    encoder = nn.TransformerEncoder(theirs, 1, enable_nested_tensor=False).eval()
    twins = {"self_attn.in_proj_": ours.queries_keys_values, "self_attn.out_proj.": ours.mix, "linear1.": ours.dense[0],
             "linear2.": ours.dense[3], "norm1.": ours.attention_norm, "norm2.": ours.dense_norm}  # fmt: skip
    weights = {f"{name}{part}": getattr(twin, part) for name, twin in twins.items() for part in ("weight", "bias")}
    encoder.layers[0].load_state_dict(weights)
    steps, is_inside = torch.randn(4, 7, 12), inside(LENGTHS, 7)
    expected = encoder(steps, src_key_padding_mask=~is_inside)
    torch.testing.assert_close(ours(steps, is_inside)[is_inside], expected[is_inside])


def test_positions_are_the_paper_s() -> None:
    table = Positional("sinusoidal", 512, 40)(torch.zeros(1, 40, 512))[0]
    places, dimension = torch.arange(40), 2 * 17
    torch.testing.assert_close(table[:, dimension], torch.sin(places / 10_000 ** (dimension / 512)))
    torch.testing.assert_close(table[:, dimension + 1], torch.cos(places / 10_000 ** (dimension / 512)))
    assert len(list(Positional("learned", 8, 5).parameters())) == 1
    assert torch.equal(Positional("none", 8, 5)(torch.ones(2, 3, 8)), torch.ones(2, 3, 8))
    with pytest.raises(ValueError, match="6 steps are more than the 5"):
        Positional("learned", 8, 5)(torch.zeros(1, 6, 8))


@pytest.mark.parametrize(
    "build",
    [lambda: TextRNN(50, dropout=0.0), lambda: TextTransformer(50), lambda: TextTransformer(50, norm_first=False)],
)
def test_padding_changes_nothing(build: Callable[[], TextRNN | TextTransformer]) -> None:
    model, words = build().eval(), torch.randint(1, 50, (4, 7)) * inside(LENGTHS, 7)
    assert torch.equal(lengths_of(words), LENGTHS)
    logits = model(words)
    torch.testing.assert_close(model(nn.functional.pad(words, (0, 9))), logits)
    for row, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(model(words[row : row + 1, :length])[0], logits[row])
    assert torch.isfinite(model(torch.zeros(2, 3, dtype=torch.int64))).all()


def test_only_positions_tell_a_transformer_the_order() -> None:
    words = torch.tensor([[3, 4, 5, 6]])
    for positions, differs in (("sinusoidal", True), ("none", False)):
        model = TextTransformer(50, positions=positions).eval()  # type: ignore[arg-type]  # both are choices
        assert torch.allclose(model(words), model(words.flip(1)), atol=1e-6) != differs
    with pytest.raises(ValueError, match="width 7 is not a multiple of heads 2"):
        EncoderLayer(7, 2, 4, 0.0, norm_first=True)
