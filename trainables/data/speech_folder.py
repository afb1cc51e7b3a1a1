"""A user's own speech: WAV files and a table of what is said in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainables.data.faults import refuse
from trainables.data.file_rows import FileDataModule
from trainables.data.given_paths import given_paths
from trainables.data.row_splits import split_rows
from trainables.data.splits import SplitPlan
from trainables.data.table_columns import row_keys
from trainables.data.tables import Table, read_table
from trainables.data.waves import WaveReader

LETTERS: Final = "abcdefghijklmnopqrstuvwxyz '"


class SpeechFolder(FileDataModule):
    """Batches of waves (batch, samples) in [-1, 1], their lengths (batch,), and characters (batch, longest text).

    Waves are as long as the longest one, zeros after the end. Characters are numbered from 1 in the order of
    `alphabet`, 0 after the end (and CTC's blank); texts are read in lower case.

    Args:
        path: The folder with the WAV files and the table.
        transcripts: The table's name in the folder: .csv, .tsv or .parquet, a row for each file.
        file: The column of files' names, relative to the folder.
        text: The column of what is said.
        alphabet: The characters that texts may have.
        sample_rate: Samples a second, which all files must have.
        group: A column, such as the speaker; rows with the same value are in one part.
        test_path: A folder like `path` that is the test part, in place of `test_share`.
        memory_bytes: Waves that take more than this as 32-bit floats are read anew for each batch.
        workers: Processes that read ahead, where waves are not kept in memory; 0 reads in the one that trains.
        batch_size: Waves per training batch.
        folds: Number of cross-validation folds; 1 means one validation split.
        fold: Which fold validates, from 0.
        seed: Seed of the splits alone; the order of batches follows the global seed.
        validation_share: Share of the non-test files (or groups) that validates, where `folds` is 1.
        test_share: Share of all files (or groups) that no search sees.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a data module are arguments
        self,
        path: str,
        transcripts: str = "transcripts.csv",
        file: str = "file",
        text: str = "text",
        alphabet: str = LETTERS,
        sample_rate: int = 16000,
        group: str = "",
        test_path: str = "",
        memory_bytes: int = 2**30,
        workers: int = 0,
        batch_size: int = 16,
        folds: int = 1,
        fold: int = 0,
        seed: int = 0,
        validation_share: float = 0.2,
        test_share: float = 0.2,
    ) -> None:
        plan = SplitPlan(seed, folds, fold, validation_share, test_share)
        super().__init__(batch_size, plan, memory_bytes, workers)
        self.save_hyperparameters(logger=False)  # a model may have arguments of the same names
        self.folders = given_paths(path, test_path)
        self.transcripts, self.file, self.text, self.group = transcripts, file, text, group
        self.alphabet, self.reader = alphabet, WaveReader(sample_rate)
        self.longest = 0

    def load(self) -> None:
        """Find, check and split the files; DataError names the file and the row at fault."""
        tables = [str(folder / self.transcripts) for folder in self.folders]
        table = read_table(tables[0], "".join(tables[1:]))
        table.require(self.file, self.text)
        characters = self._characters(table)
        paths = self._paths(table)
        lengths = np.array([self.reader.length(path) for path in paths])
        self.longest = int(lengths.max())
        self.sizes = {"symbols": len(self.alphabet) + 1}
        split = split_rows(self.plan, replace(row_keys(table, self.group), whole=str(self.folders[0])))
        self.set_files(paths, self.read, (self.longest,), lengths, characters, split=split)

    def read(self, path: Path) -> NDArray[np.float32]:
        """A wave, with zeros up to the longest one's length."""
        samples = self.reader.read(path)
        return np.pad(samples, (0, self.longest - len(samples)))

    def _paths(self, table: Table) -> list[Path]:
        paths = []
        for row, name in enumerate(table.texts(self.file)):
            path = self.folders[table.file_of(row)] / name.strip()
            if not path.is_file():
                refuse(table.place(row), f"there is no file {path}", f"'{self.file}' names files in the folder")
            paths.append(path)
        return paths

    def _characters(self, table: Table) -> NDArray[np.int64]:
        numbers = {character: number for number, character in enumerate(self.alphabet, 1)}
        texts = [text.strip().lower() for text in table.texts(self.text)]
        characters = np.zeros((len(texts), max(map(len, texts))), dtype=np.int64)
        for row, text in enumerate(texts):
            strange = next((character for character in text if character not in numbers), None)
            if strange is not None:
                refuse(table.place(row), f"'{self.text}' has {strange!r}", f"alphabet is {self.alphabet!r}")
            characters[row, : len(text)] = [numbers[character] for character in text]
        return characters
