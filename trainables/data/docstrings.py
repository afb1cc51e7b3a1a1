"""The Python standard library's own docstrings: a real corpus that is on every machine."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainables.augmentation.text import TextAugmentation, read_synonyms, translator_named
from trainables.data.augmented_texts import TextDataModule
from trainables.data.splits import SplitPlan
from trainables.data.words import words_of

TOPICS: Final = ("asyncio", "email", "importlib", "logging", "mailbox", "multiprocessing", "unittest", "xml")
_LEAST_WORDS: Final = 4


class Docstrings(TextDataModule):
    """Batches of word numbers (batch, words), 0 after the end, with the part of the library that a text describes.

    About 1,900 docstrings of `asyncio`, `email`, `importlib`, `logging`, `mailbox`, `multiprocessing`, `unittest` and
    `xml` (classes 0 to 7), of the Python that runs this: their number and words differ between its versions. A text
    that stands twice counts once, so that none is in two parts; the vocabulary is of the training part alone. With
    `copies`, each training text gets so many new ones, each by one operation among those that are on (Wei & Zou 2019).

    Args:
        batch_size: Texts per training batch.
        vocabulary: How many word numbers there are, with those for padding and unknown words.
        longest: Words of a text that are read.
        copies: New texts for each training text; 0 is none.
        replacement: Share of a text's words that a synonym replaces; one word at least. 0 is off, as for those below.
        insertion: Synonyms of the text's words that are inserted anywhere, as a share of its words; one at least.
        swap: Swaps of two words, as a share of its words; one at least.
        deletion: Probability that a word is left out.
        synonyms: A word list; each line holds words of one meaning, with commas between them.
        translator: Import path of a class whose object, made without arguments, takes texts and gives them back after a
            translation there and back.
        folds: Number of cross-validation folds; 1 means one stratified validation split.
        fold: Which fold validates, from 0.
        seed: Seed of the splits and the new texts alone; the order of batches follows the global seed.
        validation_share: Share of the non-test texts that validates, where `folds` is 1.
        test_share: Share of all texts that no search sees.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a data module are arguments
        self,
        batch_size: int = 32,
        vocabulary: int = 2000,
        longest: int = 32,
        copies: int = 0,
        replacement: float = 0.0,
        insertion: float = 0.0,
        swap: float = 0.0,
        deletion: float = 0.0,
        synonyms: str = "",
        translator: str = "",
        folds: int = 1,
        fold: int = 0,
        seed: int = 0,
        validation_share: float = 0.2,
        test_share: float = 0.2,
    ) -> None:
        augmentation = TextAugmentation(
            copies, replacement, insertion, swap, deletion, read_synonyms(synonyms), translator_named(translator)
        )
        plan = SplitPlan(seed, folds, fold, validation_share, test_share)
        super().__init__(batch_size, plan, vocabulary, longest, augmentation)
        self.save_hyperparameters()

    def load(self) -> None:
        """Read the library, split, and number the words."""
        texts, topics = _load()
        self.set_texts(texts, topics, self.plan.split(topics))


@cache
def _load() -> tuple[list[list[str]], NDArray[np.int64]]:
    library = Path(sysconfig.get_path("stdlib"))
    topics = {text: number for number, topic in enumerate(TOPICS) for text in _docstrings(library / topic)}
    texts = {tuple(words_of(text)): number for text, number in topics.items()}
    long = {words: number for words, number in texts.items() if len(words) >= _LEAST_WORDS}
    return [list(words) for words in long], np.array(list(long.values()))


def _docstrings(place: Path) -> Iterator[str]:
    """Every docstring of a package or a module, in the order of the files' names and lines."""
    paths = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    for path in paths:
        if not {"test", "tests"} & set(path.relative_to(place.parent).parts):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    yield ast.get_docstring(node) or ""
