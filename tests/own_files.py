"""Writes small files such as users have, of real data where the machine has some, for each loader of own data.

`MADE` has, for each data module whose first argument is a path, a function that writes its files into a folder and
gives its arguments, and a model that trains on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import wavfile
from sklearn.datasets import load_digits, load_wine
from statsmodels.datasets import macrodata

from trainables.data.docstrings import TOPICS, _load
from trainables.data.impressions import generate
from trainables.data.moving_digits import film
from trainables.data.tone_digits import ToneDigits

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """How a loader's files are written, and what trains on them."""

    write: Callable[[Path], Arguments]
    model: str
    model_arguments: Arguments


def table(folder: Path) -> Arguments:
    """Scikit-learn's wine with a category of its own making: which third of the alcohol a wine has."""
    wine = load_wine(as_frame=True).frame.iloc[::2]
    strength = pd.qcut(wine["alcohol"], 3, labels=["light", "medium", "strong"])
    wine.assign(strength=strength, target=wine["target"].map({0: "a", 1: "b", 2: "c"})).to_csv(
        folder / "wine.csv", index=False
    )
    return {"path": str(folder / "wine.csv")}


def texts(folder: Path) -> Arguments:
    """A part of the standard library's docstrings."""
    words, topics = _load()
    rows = pd.DataFrame({"text": [" ".join(w) for w in words[::6]], "label": [TOPICS[t] for t in topics[::6]]})
    rows.to_parquet(folder / "texts.parquet")
    return {"path": str(folder / "texts.parquet"), "vocabulary": 500, "longest": 16}


def ratings(folder: Path) -> Arguments:
    """Generated impressions."""
    log = generate("rating", 20, 10, 600, 0)
    rows = {"user": [f"u{u}" for u in log.users], "item": [f"i{i}" for i in log.items], "rating": log.answers}
    context = {"place": log.context[:, 0], "device": np.where(log.context[:, 1] > 0, "telephone", "desk")}
    pd.DataFrame({**rows, **context}).to_csv(folder / "ratings.csv", index=False)
    return {"path": str(folder / "ratings.csv"), "context": ["place", "device"]}


def series(folder: Path) -> Arguments:
    """Three of statsmodels' macroeconomic series, long."""
    wide = macrodata.load_pandas().data[["unemp", "infl", "tbilrate"]]
    long = wide.assign(time=pd.date_range("1959-01-01", periods=len(wide), freq="QS")).melt("time")
    long.to_csv(folder / "series.csv", index=False)
    return {"path": str(folder / "series.csv"), "series": "variable", "value": "value", "window": 8, "horizon": 4}


def image_folder(folder: Path) -> Arguments:
    """Three of scikit-learn's digits, as files."""
    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images[:150], digits.target, strict=False)):
        if label < 3:
            (folder / f"digit {label}").mkdir(exist_ok=True)
            Image.fromarray((pixels * 15).astype(np.uint8)).save(folder / f"digit {label}" / f"{number}.png")
    return {"path": str(folder), "channels": 1, "memory_bytes": 0}


def image_arrays(folder: Path) -> Arguments:
    """Scikit-learn's digits in one file."""
    digits = load_digits()
    np.savez(folder / "digits.npz", images=digits.images[:300].astype(np.uint8), labels=digits.target[:300])
    return {"path": str(folder / "digits.npz")}


def videos(folder: Path) -> Arguments:
    """Digits that move to the right or down."""
    films, directions, _ = film(4, 12, 0)
    for number in np.flatnonzero(directions < 2)[:40]:
        place = folder / ("right", "down")[directions[number]] / f"film {number}"
        place.mkdir(parents=True)
        for frame, pixels in enumerate(films[number]):
            Image.fromarray((pixels * 255).astype(np.uint8)).save(place / f"frame{frame + 8}.png")
    return {"path": str(folder), "channels": 1, "frames": 3}


def speech(folder: Path) -> Arguments:
    """Digits as tones."""
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    data = ToneDigits(sounds=40)
    data.setup()
    rows: list[tuple[str, str]] = []
    for waves, samples, symbols in zip(*data.parts["train"], strict=True):
        rows.append((f"{len(rows)}.wav", " ".join(names[s - 1] for s in symbols.tolist() if s)))
        wavfile.write(folder / rows[-1][0], 4000, (waves[:samples] * 20000).numpy().astype(np.int16))
    pd.DataFrame(rows, columns=["file", "text"]).to_csv(folder / "transcripts.csv", index=False)
    return {"path": str(folder), "sample_rate": 4000}


MADE = {
    "TableFile": Made(table, "trainables.tabular.mlp.MLP", {"inputs": 13, "categories": [4], "classes": 3}),
    "TextFile": Made(texts, "trainables.text.rnn.TextRNN", {"vocabulary": 500, "classes": 8, "width": 8}),
    "RatingFile": Made(
        ratings, "trainables.graphs.recommender.Recommender",
        {"users": 21, "items": 11, "context": 3, "answer": "rating"},
    ),
    "SeriesFile": Made(series, "trainables.graphs.forecaster.Forecaster", {"series": 3, "horizon": 4}),
    "ImageFolder": Made(image_folder, "trainables.vision.conv_net.ConvNet", {"depth": 1, "classes": 3}),
    "ImageArrays": Made(image_arrays, "trainables.vision.conv_net.ConvNet", {"depth": 1}),
    "VideoFolder": Made(videos, "trainables.video.cnn_rnn.VideoNet", {"depth": 1, "classes": 2}),
    "SpeechFolder": Made(speech, "trainables.speech.ctc.SpeechCTC", {"symbols": 29}),
}  # fmt: skip
