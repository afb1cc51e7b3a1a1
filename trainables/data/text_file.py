"""A user's own texts with a class each, from a CSV or Parquet file."""

from __future__ import annotations

from dataclasses import replace

from trainables.augmentation.text import TextAugmentation, read_synonyms, translator_named
from trainables.data.augmented_texts import TextDataModule
from trainables.data.faults import refuse
from trainables.data.row_splits import split_rows
from trainables.data.splits import SplitPlan
from trainables.data.table_columns import row_keys
from trainables.data.tables import CSVFormat, Table, read_table
from trainables.data.words import words_of


class TextFile(TextDataModule):
    """Batches of word numbers (batch, words), 0 after the end, 1 for unknown words, with classes (batch,).

    Words are runs of letters in lower case, single digits and punctuation marks; their numbers are of the training part
    alone. Classes count from 0 in the order of their names, `classes`. With `copies`, each training text gets so many
    new ones; each comes of one operation among those that are on (Wei & Zou 2019; back-translation: Sennrich et al.
    2016).

    Args:
        path: A .csv, .tsv or .parquet file with names of columns.
        text: The column of texts.
        label: The column of classes.
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
        group: A column; rows with the same value are in one part.
        time: A column; rows are split in its order, so that validation and test come later.
        test_path: A file whose rows are the test part, in place of `test_share`.
        delimiter: The sign between a CSV file's cells; a tab for .tsv.
        encoding: A CSV file's encoding.
        batch_size: Texts per training batch.
        folds: Number of cross-validation folds; 1 means one validation split.
        fold: Which fold validates, from 0.
        seed: Seed of the splits and the new texts alone; the order of batches follows the global seed.
        validation_share: Share of the non-test texts (or groups) that validates, where `folds` is 1.
        test_share: Share of all texts (or groups) that no search sees.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a data module are arguments
        self,
        path: str,
        text: str = "text",
        label: str = "label",
        vocabulary: int = 10000,
        longest: int = 128,
        copies: int = 0,
        replacement: float = 0.0,
        insertion: float = 0.0,
        swap: float = 0.0,
        deletion: float = 0.0,
        synonyms: str = "",
        translator: str = "",
        group: str = "",
        time: str = "",
        test_path: str = "",
        delimiter: str = ",",
        encoding: str = "utf-8",
        batch_size: int = 32,
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
        self.save_hyperparameters(logger=False)  # a model may have arguments of the same names
        self.files, self.csv = (path, test_path), CSVFormat(delimiter, encoding)
        self.text, self.label, self.group, self.time = text, label, group, time

    def load(self) -> None:
        """Read, check, split, augment and number the texts; DataError names the file and the row at fault."""
        table = read_table(*self.files, self.csv)
        table.require(self.text, self.label)
        texts = self._words(table)
        labels, self.classes = table.full_codes(self.label, "each text needs a class: leave the row out")
        self.sizes = {"vocabulary": self.vocabulary, "classes": len(self.classes)}
        keys = row_keys(table, self.group, self.time)
        split = split_rows(self.plan, replace(keys, labels=labels, label_names=self.classes))
        self.set_texts(texts, labels, split)

    def _words(self, table: Table) -> list[list[str]]:
        texts = [words_of(text) for text in table.texts(self.text)]
        for row, words in enumerate(texts):
            if not words:
                refuse(table.place(row), f"'{self.text}' has no word", "each row needs a text: leave the row out")
        return texts
