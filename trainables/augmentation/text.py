"""Changes texts word by word, so that a few become more: for the training part alone.

Wei & Zou 2019, arXiv:1901.11196 (easy data augmentation): each new text is an old one after one of four operations,
which is drawn; and, as a fifth, back-translation (Sennrich et al. 2016, arXiv:1511.06709). Every function is pure: the
same words and the same generator give the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np

Words = list[str]
Synonyms = Mapping[str, Sequence[str]]
WordsOf = Callable[[str], Words]


class Translator(Protocol):
    """Translates texts into another language and back."""

    def __call__(self, texts: list[str]) -> list[str]:
        """Each text as it comes back, in the same order."""


@dataclass(frozen=True, slots=True)
class TextAugmentation:
    """How many new texts, and which operations make them. ValueError says what is out of range.

    A share is of a text's words, 0 leaves the operation out; what is changed is one word at least.

    Args:
        copies: New texts for each text of the training part; 0 is none.
        replacement: Share of words that are replaced by a synonym.
        insertion: Synonyms of words of the text that are inserted anywhere, as a share of its words.
        swap: Share of words that change places with another one.
        deletion: Probability that a word is left out; one word stays.
        synonyms: Words that each word may be replaced by.
        translator: Translates there and back; None leaves that out.
    """

    copies: int = 0
    replacement: float = 0.0
    insertion: float = 0.0
    swap: float = 0.0
    deletion: float = 0.0
    synonyms: Synonyms = field(default_factory=dict)
    translator: Translator | None = None

    def __post_init__(self) -> None:
        shares = {name: getattr(self, name) for name in ("replacement", "insertion", "swap", "deletion")}
        wrong = [f"{name} {share}" for name, share in shares.items() if not 0 <= share <= 1]
        if wrong or self.copies < 0:
            msg = f"shares must lie in [0, 1] and copies be 0 or more: {', '.join(wrong) or f'copies {self.copies}'}"
            raise ValueError(msg)
        if (self.replacement or self.insertion) and not self.synonyms:
            msg = "replacement and insertion need a word list: name one in synonyms, a line for words of one meaning"
            raise ValueError(msg)
        if self.copies and not any(shares.values()) and self.translator is None:
            msg = f"copies is {self.copies}, but no operation is on: set {', '.join(shares)} above 0, or a translator"
            raise ValueError(msg)

    def new_texts(self, texts: Sequence[Words], words_of: WordsOf, random: np.random.Generator) -> list[Words]:
        """`copies` new texts for each text: all first ones in order, then all second ones.

        `words_of` cuts into words what a translator gives.
        """
        operations = [name for name in ("replacement", "insertion", "swap", "deletion") if getattr(self, name)]
        operations += ["translation"] if self.translator else []
        new: list[Words] = []
        for _ in range(self.copies):
            drawn = random.integers(len(operations), size=len(texts))
            chosen = [operations[i] for i in drawn]
            changed = [self._changed(words, name, random) for words, name in zip(texts, chosen, strict=True)]
            if self.translator:
                rows = [row for row, name in enumerate(chosen) if name == "translation"]
                back = back_translated([texts[row] for row in rows], self.translator, words_of)
                for row, words in zip(rows, back, strict=True):
                    changed[row] = words
            new += changed
        return new

    def _changed(self, words: Words, operation: str, random: np.random.Generator) -> Words:
        match operation:
            case "replacement":
                return replaced(words, self.synonyms, amount(words, self.replacement), random)
            case "insertion":
                return inserted(words, self.synonyms, amount(words, self.insertion), random)
            case "swap":
                return swapped(words, amount(words, self.swap), random)
            case "deletion":
                return deleted(words, self.deletion, random)
        return list(words)


def amount(words: Words, share: float) -> int:
    """How many words a share of a text is: one at least."""
    return max(1, int(share * len(words)))


def replaced(words: Words, synonyms: Synonyms, count: int, random: np.random.Generator) -> Words:
    """Up to `count` different words with a synonym become one, wherever they stand; each drawn."""
    candidates = sorted({word for word in words if synonyms.get(word)})
    chosen = random.permutation(len(candidates))[:count]
    new = {candidates[i]: _drawn(synonyms[candidates[i]], random) for i in chosen}
    return [new.get(word, word) for word in words]


def inserted(words: Words, synonyms: Synonyms, count: int, random: np.random.Generator) -> Words:
    """`count` times a synonym of a word of the text, both drawn, at a place that is drawn."""
    candidates = [word for word in words if synonyms.get(word)]
    longer = list(words)
    for _ in range(count if candidates else 0):
        word = _drawn(synonyms[_drawn(candidates, random)], random)
        longer.insert(int(random.integers(len(longer) + 1)), word)
    return longer


def swapped(words: Words, count: int, random: np.random.Generator) -> Words:
    """`count` times two different places change their words."""
    mixed = list(words)
    for _ in range(count if len(words) > 1 else 0):
        one, other = random.choice(len(mixed), 2, replace=False)
        mixed[one], mixed[other] = mixed[other], mixed[one]
    return mixed


def deleted(words: Words, probability: float, random: np.random.Generator) -> Words:
    """Each word is left out with a probability; where none would stay, one that is drawn does."""
    stays = random.random(len(words)) >= probability
    if words and not stays.any():
        stays[random.integers(len(words))] = True
    return [word for word, kept in zip(words, stays, strict=True) if kept]


def back_translated(texts: list[Words], translator: Translator, words_of: WordsOf) -> list[Words]:
    """The texts after a translation there and back; one that comes back without a word stays as it was.

    ValueError where the translator gives another number of texts than it got.
    """
    back = translator([" ".join(words) for words in texts]) if texts else []
    if len(back) != len(texts):
        msg = f"the translator got {len(texts)} texts and gave {len(back)}: it must give each one, in the same order"
        raise ValueError(msg)
    return [words_of(new) or list(old) for new, old in zip(back, texts, strict=True)]


def read_synonyms(path: str) -> dict[str, list[str]]:
    """A word list: each line holds words of one meaning, separated by commas; each may stand for any other.

    A word that stands in several lines has the others of all of them; no path is no words. ValueError names the line at
    fault.
    """
    if not path:
        return {}
    groups: dict[str, dict[str, None]] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        words = [word.strip().lower() for word in line.split(",")]
        if not line.strip() or line.startswith("#"):
            continue
        if len(words) < 2 or any(len(word.split()) != 1 for word in words):  # noqa: PLR2004  # a word and another
            msg = (
                f"{path}, line {number}: {line!r} must be two or more single words of one meaning, with commas between"
            )
            raise ValueError(msg)
        for word in words:
            groups.setdefault(word, {}).update(dict.fromkeys(other for other in words if other != word))
    return {word: list(others) for word, others in groups.items()}


def translator_named(name: str) -> Translator | None:
    """An object of the class that an import path names, made without arguments, as in `my_package.there.Back`.

    None for no name.
    """
    if not name:
        return None
    module, _, kind = name.rpartition(".")
    try:
        translator: Translator = getattr(import_module(module), kind)()
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"translator '{name}' cannot be imported ({error}): name a class as in my_package.my_module.MyTranslator"
        raise ValueError(msg) from error
    return translator


def _drawn(words: Sequence[str], random: np.random.Generator) -> str:
    return words[int(random.integers(len(words)))]
