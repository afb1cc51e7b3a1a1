"""Texts become word numbers by the training part's vocabulary alone."""

from __future__ import annotations

import pytest

from trainables.data.docstrings import TOPICS, Docstrings, _load
from trainables.data.words import numbered, vocabulary_of, words_of


def test_words_are_numbered_by_how_common_they_are() -> None:
    texts = [words_of("Reads, then reads 42."), words_of("It reads.")]
    assert texts[0] == ["reads", ",", "then", "reads", "4", "2", "."]
    vocabulary = vocabulary_of(texts, 5)
    assert vocabulary == {"reads": 2, ".": 3, ",": 4}
    assert numbered(texts, vocabulary, 5).tolist() == [[2, 4, 1, 2, 1], [1, 2, 3, 0, 0]]
    with pytest.raises(ValueError, match="a vocabulary of 2 leaves no word"):
        vocabulary_of(texts, 2)


def test_the_docstrings_are_of_every_topic_and_none_stands_twice() -> None:
    texts, topics = _load()
    assert set(topics.tolist()) == set(range(len(TOPICS)))
    assert len({tuple(text) for text in texts}) == len(texts) > 1000


def test_the_vocabulary_is_of_the_training_part() -> None:
    texts, topics = _load()
    data = Docstrings(vocabulary=10_000)
    data.setup()
    split = data.plan.split(topics)
    known = {word for row in split.train for word in texts[row]}
    assert set(data.words) == known
    assert {word for row in split.test for word in texts[row]} - known
    assert (data.parts["train"][0] != 1).all()
    assert (data.parts["test"][0] == 1).any()
