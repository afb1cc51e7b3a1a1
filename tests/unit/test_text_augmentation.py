"""New texts come of one operation each, as Wei & Zou have them, and of training texts alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.augmentation.text import (
    TextAugmentation,
    amount,
    back_translated,
    deleted,
    inserted,
    read_synonyms,
    replaced,
    swapped,
    translator_named,
)  # fmt: skip
from trainables.data.docstrings import Docstrings
from trainables.data.faults import DataError
from trainables.data.text_file import TextFile
from trainables.data.words import words_of

SYNONYMS = {"big": ["large", "great"], "dog": ["hound"]}
WORDS = st.lists(st.sampled_from(["the", "big", "dog", "ran", "home", "big"]), max_size=12)
SEEDS = st.integers(0, 999)


class ThereAndBack:
    """Translates a few words into German and back, where two words of ours have become one."""

    german = {"big": "gross", "large": "gross", "dog": "Hund", "hound": "Hund"}  # noqa: RUF012  # never changed
    english = {"gross": "large", "Hund": "dog"}  # noqa: RUF012  # never changed

    def __call__(self, texts: list[str]) -> list[str]:
        there = [[self.german.get(word, word) for word in text.split()] for text in texts]
        return [" ".join(self.english.get(word, word) for word in text) for text in there]


class Forgetful:
    def __call__(self, texts: list[str]) -> list[str]:
        return texts[:-1]


def drawn(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(WORDS, st.integers(0, 3), SEEDS)
def test_a_synonym_stands_wherever_the_word_stood(words: list[str], count: int, seed: int) -> None:
    new = replaced(words, SYNONYMS, count, drawn(seed))
    assert len(new) == len(words)
    changed = {old: now for old, now in zip(words, new, strict=True) if old != now}
    assert len(changed) == min(count, len({"big", "dog"} & set(words)))
    assert all(now in SYNONYMS[old] for old, now in changed.items())
    assert new == [changed.get(word, word) for word in words]
    assert new == replaced(words, SYNONYMS, count, drawn(seed))


@given(WORDS, st.integers(0, 3), SEEDS)
def test_synonyms_are_inserted_between_the_words(words: list[str], count: int, seed: int) -> None:
    new = inserted(words, SYNONYMS, count, drawn(seed))
    extra = Counter(new) - Counter(words)
    allowed = {synonym for word in words for synonym in SYNONYMS.get(word, [])}
    assert sum(extra.values()) == (count if allowed else 0)
    assert set(extra) <= allowed
    assert [word for word in new if word not in {"large", "great", "hound"}] == words


@given(WORDS, st.integers(0, 3), SEEDS)
def test_swaps_keep_the_words_and_deletion_their_order(words: list[str], count: int, seed: int) -> None:
    mixed = swapped(words, count, drawn(seed))
    assert Counter(mixed) == Counter(words)
    assert sum(a != b for a, b in zip(mixed, words, strict=True)) <= 2 * count
    fewer = deleted(words, 0.5, drawn(seed))
    rest = iter(words)
    assert all(word in rest for word in fewer)
    assert bool(fewer) == bool(words)
    assert len(deleted(words, 1.0, drawn(seed))) == min(1, len(words))
    assert deleted(words, 0.0, drawn(seed)) == words


def test_every_operation_is_drawn_as_often_and_deletes_its_share() -> None:
    assert [amount(["a"] * n, 0.1) for n in (1, 10, 29, 30)] == [1, 1, 2, 3]
    words = ["the", "big", "dog", "ran"] * 10
    assert abs(np.mean([len(deleted(words, 0.1, drawn(seed))) for seed in range(300)]) - 36) < 0.5
    every = TextAugmentation(3000, 0.1, 0.1, 0.1, 0.1, SYNONYMS, ThereAndBack())
    new = every.new_texts([words], words_of, drawn(0))
    translated = words_of(" ".join(words).replace("big", "large"))
    assert len(new) == 3000
    kinds = Counter(
        "translation" if text == translated
        else "swap" if Counter(text) == Counter(words)
        else "replacement" if len(text) == len(words) and set(text) & {"large", "great", "hound"}
        else "insertion" if len(text) > len(words)
        else "deletion"
        for text in new
    )  # fmt: skip
    assert set(kinds) == {"translation", "swap", "replacement", "insertion", "deletion"}
    assert all(400 < count < 800 for count in kinds.values())  # a synonym of every `big` is a translation, too


def test_a_translation_goes_there_and_back() -> None:
    texts = [["the", "big", "hound"], ["home"]]
    assert back_translated(texts, ThereAndBack(), words_of) == [["the", "large", "dog"], ["home"]]
    assert back_translated([["a"]], lambda texts: ["" for _ in texts], words_of) == [["a"]]
    with pytest.raises(ValueError, match="the translator got 2 texts and gave 1"):
        back_translated(texts, Forgetful(), words_of)
    assert isinstance(translator_named("collections.Counter"), Counter)
    assert translator_named("") is None
    for name in ("no.such.Thing", "collections.Nothing", "nothing"):
        with pytest.raises(ValueError, match=f"translator '{name}' cannot be imported"):
            translator_named(name)


def test_a_word_list_holds_a_line_for_each_meaning(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# ours\nbig, Large ,great\n\nlarge, wide\n", encoding="utf-8")
    assert read_synonyms(str(path)) == {
        "big": ["large", "great"], "large": ["big", "great", "wide"], "great": ["big", "large"], "wide": ["large"],
    }  # fmt: skip
    assert read_synonyms("") == {}
    for line in ("alone", "one,,two", "new york, city"):
        path.write_text(f"big, large\n{line}\n")
        with pytest.raises(ValueError, match=r"words.txt, line 2: .* must be two or more single words"):
            read_synonyms(str(path))


def test_knobs_that_do_not_fit_are_refused() -> None:
    for arguments, message in (
        ({"copies": 1}, "copies is 1, but no operation is on"),
        ({"copies": -1}, "copies -1"),
        ({"copies": 1, "swap": 1.5}, "swap 1.5"),
        ({"copies": 1, "replacement": 0.1}, "need a word list"),
    ):
        with pytest.raises(ValueError, match=message):
            TextAugmentation(**arguments)


def texts_in(folder: Path) -> str:
    rows = {"text": [f"Text number {i} of the Größe x{'yz'[i % 2]}" for i in range(40)], "label": ["a", "b"] * 20}
    pd.DataFrame(rows).to_csv(folder / "t.csv", index=False)
    return str(folder / "t.csv")


def test_only_the_training_part_gets_new_texts_which_follow_the_seed(tmp_path: Path) -> None:
    plain, path = TextFile(texts_in(tmp_path)), texts_in(tmp_path)
    plain.setup()
    assert "größe" in plain.words
    more, again = (TextFile(path, copies=2, swap=0.3, deletion=0.3) for _ in range(2))
    for data in (more, again):
        np.random.seed(len(more.parts))  # noqa: NPY002  # the global state that nothing may depend on
        data.setup()
    train, labels = more.parts["train"]
    count = len(plain.parts["train"][0])
    assert len(train) == 3 * count
    assert torch.equal(train, again.parts["train"][0])
    assert torch.equal(labels, plain.parts["train"][1].repeat(3))
    for name in ("validation", "test"):
        assert spelled(more, name) == spelled(plain, name)
    assert spelled(more, "train")[:count] == spelled(plain, "train")
    assert spelled(more, "train")[count:] != spelled(plain, "train") * 2


def spelled(data: TextFile, part: str) -> list[list[str]]:
    words = {number: word for word, number in data.words.items()}
    return [[words.get(number, "?") for number in text if number] for text in data.parts[part][0].tolist()]


def test_docstrings_have_the_same_knobs() -> None:
    plain, more = Docstrings(), Docstrings(copies=1, deletion=0.1)
    plain.setup()
    more.setup()
    assert len(more.parts["train"][0]) == 2 * len(plain.parts["train"][0])
    assert len(more.parts["test"][0]) == len(plain.parts["test"][0])


def test_a_text_or_class_that_is_missing_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for row, message in (
        (",a", "t.csv, line 3: 'text' is empty"),
        ("___,a", "t.csv, line 3: 'text' has no word"),
        ("words,", "t.csv, line 3: 'label' is empty"),
    ):
        path.write_text(f"text,label\nsome words,a\n{row}\n" + "others,b\nwords,a\n" * 9)
        with pytest.raises(DataError) as refused:
            TextFile(str(path)).setup()
        assert message in str(refused.value)
