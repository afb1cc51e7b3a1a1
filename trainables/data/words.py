"""From texts to word numbers: the vocabulary comes from the training part alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

UNKNOWN: Final = 1
_WORD: Final = re.compile(r"[^\W\d_]+|\d|[^\w\s]")


def words_of(text: str) -> list[str]:
    """Words in lower case, of any alphabet, single digits and punctuation marks."""
    return _WORD.findall(text.lower())


def vocabulary_of(texts: Iterable[Sequence[str]], size: int) -> dict[str, int]:
    """Numbers from 2 for the commonest words, the earlier in the alphabet first among equals; 0 pads, 1 is unknown.

    `size` counts all three kinds. ValueError where it leaves no word.
    """
    if size <= UNKNOWN + 1:
        msg = f"a vocabulary of {size} leaves no word beside padding and the unknown: take 3 or more"
        raise ValueError(msg)
    counts = Counter(word for text in texts for word in text)
    kept = sorted(counts, key=lambda word: (-counts[word], word))[: size - UNKNOWN - 1]
    return {word: number for number, word in enumerate(kept, UNKNOWN + 1)}


def numbered(texts: Sequence[Sequence[str]], vocabulary: dict[str, int], longest: int) -> NDArray[np.int64]:
    """Word numbers (texts, longest): the first `longest` words of each text, then zeros."""
    numbers = np.zeros((len(texts), longest), dtype=np.int64)
    for row, text in zip(numbers, texts, strict=True):
        known = [vocabulary.get(word, UNKNOWN) for word in text[:longest]]
        row[: len(known)] = known
    return numbers
