"""Texts with classes as word numbers: the vocabulary and the new texts are the training part's alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.augmentation.text import TextAugmentation
from trainables.data.splits import ArrayDataModule, Split, SplitPlan
from trainables.data.words import numbered, vocabulary_of, words_of


class TextDataModule(ArrayDataModule):
    """A data module of texts in memory: a subclass hands them over in `load`, with `set_texts`.

    `words` is the vocabulary. New texts that augmentation makes stand behind the training part's own.
    """

    def __init__(
        self, batch_size: int, plan: SplitPlan, vocabulary: int, longest: int, augmentation: TextAugmentation
    ) -> None:
        super().__init__(batch_size, plan)
        self.vocabulary, self.longest, self.augmentation = vocabulary, longest, augmentation
        self.words: dict[str, int] = {}

    def set_texts(self, texts: Sequence[list[str]], targets: NDArray[Any], split: Split) -> None:
        """Make new texts of the training part's, number the words of them all, and cut them into parts."""
        random = np.random.default_rng([self.plan.seed, self.plan.fold])
        new = self.augmentation.new_texts([texts[row] for row in split.train], words_of, random)
        train = np.concatenate([split.train, np.arange(len(texts), len(texts) + len(new))])
        texts = [*texts, *new]
        targets = np.concatenate([targets, np.tile(targets[split.train], self.augmentation.copies)])
        self.words = vocabulary_of((texts[row] for row in train), self.vocabulary)
        split = Split(train, split.validation, split.test)
        self.set_parts(numbered(texts, self.words, self.longest), targets, split=split)
