"""Attention is its formulas; writing alone is feeding each likeliest symbol back; dates are written as people read."""

from __future__ import annotations

import datetime as dt

import pytest
import torch
from torch import nn

from trainables.data.written_dates import FIGURES, WORDS, WrittenDates, written_out
from trainables.sequences.memory import Attention, Memory
from trainables.sequences.padding import inside
from trainables.text.sequence_to_sequence import END, SequenceToSequence

LENGTHS = torch.tensor([4, 1, 3])
STEPS, QUERY = torch.randn(3, 4, 6), torch.randn(3, 5)


def test_additive_attention_is_bahdanau_s() -> None:
    memory = Memory("additive", 5, 6, 8)
    read, weights = memory(QUERY, STEPS, inside(LENGTHS, 4))
    for row, length in enumerate(LENGTHS.tolist()):
        scores = [
            memory.score(torch.tanh(memory.queries(QUERY[row]) + memory.steps(step))) for step in STEPS[row, :length]
        ]
        expected = torch.cat(scores).softmax(0)
        torch.testing.assert_close(weights[row, :length], expected)
        torch.testing.assert_close(read[row], expected @ STEPS[row, :length])
        assert (weights[row, length:] == 0).all()


def test_multiplicative_attention_is_torch_s_dot_product_of_a_mapped_query() -> None:
    memory, is_inside = Memory("multiplicative", 5, 6, 8), inside(LENGTHS, 4)
    expected = nn.functional.scaled_dot_product_attention(
        memory.queries(QUERY).unsqueeze(1), STEPS, STEPS, is_inside.unsqueeze(1), scale=1.0
    )
    torch.testing.assert_close(memory(QUERY, STEPS, is_inside)[0], expected[:, 0])


@pytest.mark.parametrize("attention", ["additive", "multiplicative"])
def test_writing_alone_feeds_each_likeliest_symbol_back(attention: Attention) -> None:
    model = SequenceToSequence(9, 7, width=8, attention=attention).eval()
    source = torch.randint(1, 9, (5, 6)) * inside(torch.tensor([6, 2, 4, 1, 6]), 6)
    fed = torch.full((5, 1), END)
    for _ in range(4):
        fed = torch.cat([fed, model(source, fed)[:, -1:].argmax(2)], 1)
    written = model.decode(source, 4)
    for row, symbols in zip(written.tolist(), fed[:, 1:].tolist(), strict=True):
        end = symbols.index(END) + 1 if END in symbols else 4
        assert row == symbols[:end] + [0] * (4 - end)
    torch.testing.assert_close(model(nn.functional.pad(source, (0, 3)), fed), model(source, fed))


def test_the_loss_counts_symbols_and_exact_counts_whole_sequences() -> None:
    model = SequenceToSequence(9, 7, width=8).eval()
    source = torch.randint(1, 9, (4, 6))
    targets = model.decode(source, 5)
    assert torch.equal(model.inputs_of((source, targets))[1][:, 0], torch.full((4,), END))
    sums = model.score((source, targets))
    assert (int(sums["exact"][0]), sums["exact"][1]) == (4, 4)
    wrong = targets.clone()
    wrong[2, 0] = targets[2, 0] % 6 + 1
    assert int(model.score((source, wrong))["exact"][0]) == 3
    loss, symbols = model.objective((source, targets))
    torch.testing.assert_close(loss * symbols, sums["loss"][0])
    assert int(symbols) == int((targets != 0).sum())


def test_a_model_that_is_never_fed_the_truth_learns_from_its_own_symbols() -> None:
    model = SequenceToSequence(9, 7, width=8, teacher_forcing=0.0)
    source, targets = torch.randint(1, 9, (4, 6)), torch.randint(2, 7, (4, 5))
    changed = targets.clone()
    changed[:, :-1] = changed[:, :-1] % 5 + 2
    alone = [model._write(model._encoded(source), model.inputs_of((source, t))[1], 0.0) for t in (targets, changed)]
    torch.testing.assert_close(alone[0], alone[1])


@pytest.mark.parametrize(
    ("day", "words"),
    [
        ((2026, 11, 23), "twenty third of november twenty twenty six"),
        ((1900, 1, 30), "thirtieth of january nineteen hundred"),
        ((2005, 2, 20), "twentieth of february twenty oh five"),
        ((1919, 3, 31), "thirty first of march nineteen nineteen"),
        ((1984, 12, 1), "first of december nineteen eighty four"),
    ],
)
def test_a_date_is_written_as_people_read_it(day: tuple[int, int, int], words: str) -> None:
    assert " ".join(written_out(dt.date(*day))) == words


def test_every_day_can_be_written_and_no_two_alike() -> None:
    days = [dt.date(1900, 1, 1) + dt.timedelta(n) for n in range(73_049)]
    written = [tuple(written_out(day)) for day in days]
    assert days[-1] == dt.date(2099, 12, 31)
    assert len(set(written)) == len(written)
    assert {word for words in written for word in words} == set(WORDS[2:])
    assert max(map(len, written)) == 7


def test_figures_and_words_of_a_batch_say_the_same() -> None:
    data = WrittenDates(dates=50)
    data.setup()
    figures, words = data.parts["test"]
    for row, written in zip(figures.tolist(), words.tolist(), strict=True):
        text = "".join(FIGURES[figure - 1] for figure in row)
        order = {"-": "%Y-%m-%d", ".": "%d.%m.%Y", "/": "%m/%d/%Y"}[next(sign for sign in "-./" if sign in text)]
        day = dt.datetime.strptime(text, order).replace(tzinfo=dt.UTC).date()
        assert [WORDS[word] for word in written if word] == [*written_out(day), "<end>"]


def test_a_prediction_does_not_look_at_the_targets() -> None:
    torch.manual_seed(0)
    model = SequenceToSequence(width=8).eval()
    source = torch.randint(1, 14, (3, 6))
    one, other = (model.predict_step((source, torch.randint(2, 65, (3, 5)))) for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(one, model.decode(source, 5))
