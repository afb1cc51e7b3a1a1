"""A user's images, videos and speech: read right, the same in memory and from files, and each fault with its file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from scipy.io import wavfile

from tests.own_files import MADE
from trainables.data.faults import DataError
from trainables.data.image_arrays import ImageArrays
from trainables.data.image_folder import ImageFolder
from trainables.data.rating_file import RatingFile
from trainables.data.series_file import SeriesFile
from trainables.data.speech_folder import SpeechFolder
from trainables.data.table_file import TableFile
from trainables.data.text_file import TextFile
from trainables.data.video_folder import VideoFolder
from trainables.training.curriculum import Curriculum
from trainables.vision.conv_net import ConvNet


def draw(path: Path, *, height: int = 4, width: int = 6, level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((height, width, 3), level, dtype=np.uint8)
    pixels[0, 0] = (255, 0, 0)
    Image.fromarray(pixels).save(path)


def images(folder: Path, count: int = 6) -> Path:
    for label in ("cat", "dog"):
        for number in range(count):
            draw(folder / label / f"p{number % 3}_{number}.png", level=number * 10 + (label == "dog") * 100)
    return folder


def test_images_are_what_the_files_hold(tmp_path: Path) -> None:
    data = ImageFolder(str(images(tmp_path)))
    data.setup()
    assert data.sizes == {"channels": 3, "height": 4, "width": 6, "classes": 2}
    assert data.classes == ["cat", "dog"]
    pixels, labels = (torch.cat([part[i] for part in data.parts.values()]) for i in (0, 1))
    assert pixels.shape == (12, 3, 4, 6)
    assert pixels[:, :, 0, 0].tolist() == [[1, 0, 0]] * 12
    levels = (pixels[:, 0, 1, 1] * 255).round().int().tolist()
    assert sorted(levels) == sorted(n * 10 + d * 100 for n in range(6) for d in (0, 1))
    assert [level >= 100 for level in levels] == [label == 1 for label in labels.tolist()]
    grey = ImageFolder(str(tmp_path), channels=1, size=[2, 3])
    grey.setup()
    assert grey.parts["train"][0].shape[1:] == (1, 2, 3)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", [ImageFolder, VideoFolder, SpeechFolder])
def test_files_that_do_not_fit_give_the_same_batches(
    tmp_path: Path, workers: int, kind: type[ImageFolder | VideoFolder | SpeechFolder]
) -> None:
    own = {**MADE[kind.__name__].write(tmp_path), "batch_size": 4}
    own.pop("memory_bytes", None)
    kept, read = kind(**own), kind(**own, memory_bytes=1000, workers=workers)
    kept.setup()
    read.setup()
    assert (kept.is_in_memory, read.is_in_memory) == (True, False)
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        torch.manual_seed(4)
        expected = list(getattr(kept, loader)())
        drawn = torch.rand(1)
        torch.manual_seed(4)
        batches = list(getattr(read, loader)())
        assert torch.equal(torch.rand(1), drawn)
        assert len(batches) == len(expected) == len(getattr(read, loader)())
        assert all(
            torch.equal(a, b) for one, two in zip(batches, expected, strict=True) for a, b in zip(one, two, strict=True)
        )


def test_a_loader_reads_no_file_before_it_is_asked_for_a_batch(tmp_path: Path) -> None:
    data = ImageFolder(str(images(tmp_path)), memory_bytes=0, batch_size=2)
    data.setup()
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    rows = [len(data.parts[part][0]) for part in ("train", "validation", "test")]
    assert [len(one) for one in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())] == [
        rows[0] // 2, -(-rows[1] // 2), -(-rows[2] // 2),
    ]  # fmt: skip
    with pytest.raises(DataError, match="is no image that can be read"):
        next(iter(data.val_dataloader()))


def test_a_curriculum_orders_files_that_are_read_lazily(tmp_path: Path) -> None:
    data = ImageFolder(str(images(tmp_path)), memory_bytes=0, batch_size=2)
    course = Curriculum(data, reference=ConvNet(depth=1, channels=3, classes=2), start=0.5)
    course.trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_model_summary=False, accelerator="cpu")
    course.setup("fit")
    assert len(next(iter(course.train_dataloader()))[0]) == 2


def test_groups_and_a_test_folder_keep_apart(tmp_path: Path) -> None:
    path = images(tmp_path / "a", 9)
    data = ImageFolder(str(path), group=r"^(p\d)_")
    data.setup()
    assert [len(part[0]) for part in data.parts.values()] == [6, 6, 6]
    draw(tmp_path / "b" / "dog" / "p9_1.png", level=77)
    data = ImageFolder(str(path), group=r"^(p\d)_", test_path=str(tmp_path / "b"))
    data.setup()
    assert (data.parts["test"][0][:, 0, 1, 1] * 255).round().tolist() == [77]
    assert data.parts["test"][1].tolist() == [1]


def spoil_cut(folder: Path) -> None:
    path = folder / "cat" / "p1_1.png"
    path.write_bytes(path.read_bytes()[:60])


def sixteen_bits(folder: Path) -> None:
    Image.fromarray(np.zeros((4, 6), dtype=np.uint16)).save(folder / "cat" / "p1_1.png")


FAULTS: list[tuple[Callable[[Path], Any], dict[str, Any], str]] = [
    (lambda at: (at / "cat" / "p1_1.png").write_bytes(b"text"), {}, "cat/p1_1.png: is no image that can be read"),
    (spoil_cut, {}, "cat/p1_1.png: is no image that can be read"),
    (sixteen_bits, {}, "cat/p1_1.png: its pixels are of mode I;16"),
    (lambda at: draw(at / "dog" / "q.png", width=7), {}, "dog/q.png: 4 x 7 pixels (height, width), where "),
    (lambda at: (at / "dog" / "notes.txt").write_text(""), {}, "dog/notes.txt: does not belong here; the folder may"),
    (lambda at: (at / "notes.txt").write_text(""), {}, "notes.txt: is no folder"),
    (lambda at: (at / "emu").mkdir(), {}, "emu: is empty; each class needs samples"),
    (lambda at: draw(at / "emu" / "1.png"), {}, "emu/1.png: class 'emu' has 1 row; at least 3"),
    (lambda _: None, {"folds": 6}, "class 'cat' has 4 rows that are no test rows; folds is 6"),
    (lambda _: None, {"group": "(x)"}, "p0_0.png: its name has no group by '(x)'"),
    (lambda _: None, {"group": "p"}, "group 'p': has no bracket"),
    (lambda _: None, {"group": "("}, "group '(': is no regular expression"),
]


def test_an_empty_path_is_refused() -> None:
    for kind in (ImageArrays, ImageFolder, RatingFile, SeriesFile, SpeechFolder, TableFile, TextFile, VideoFolder):
        with pytest.raises(DataError, match="path: it is empty; name a file or a folder"):
            kind("").setup()
    with pytest.raises(DataError, match="path: it is empty; name a file or a folder"):
        TableFile("", test_path="elsewhere").setup()


@pytest.mark.parametrize(("spoil", "options", "message"), FAULTS)
def test_a_fault_of_images_is_named_with_its_file(
    tmp_path: Path, spoil: Callable[[Path], Any], options: dict[str, Any], message: str
) -> None:
    spoil(images(tmp_path))
    with pytest.raises(DataError) as refused:
        ImageFolder(str(tmp_path), **options).setup()
    assert message in str(refused.value)


def test_folders_that_are_wrong_are_named(tmp_path: Path) -> None:
    path = images(tmp_path / "a")
    for label in ("dog", "fox"):
        draw(tmp_path / "b" / label / "1.png")
    with pytest.raises(DataError, match=r"b/fox: the class 'fox' is not in .*; there are cat, dog"):
        ImageFolder(str(path), test_path=str(tmp_path / "b")).setup()
    with pytest.raises(DataError, match="none: is no folder"):
        ImageFolder(str(tmp_path / "none")).setup()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: is empty; it must have a folder for each class"):
        ImageFolder(str(tmp_path / "empty")).setup()
    for label in ("a", "b"):
        draw(tmp_path / "one" / "only" / f"{label}.png")
    draw(tmp_path / "one" / "only" / "c.png")
    with pytest.raises(DataError, match="one class only, 'only'"):
        ImageFolder(str(tmp_path / "one")).setup()
    for knobs in ({"channels": 2}, {"size": [0, 3]}, {"size": [3]}):
        with pytest.raises(ValueError, match=r"channels 2|size .0, 3|size .3"):
            ImageFolder(str(path), **knobs)


def test_arrays_become_images(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    colours = random.integers(0, 256, (30, 4, 5, 3)).astype(np.uint8)
    labels = np.array(["x", "y"] * 15)
    np.savez_compressed(tmp_path / "a.npz", images=colours, labels=labels, who=np.arange(30) // 3)
    np.savez(tmp_path / "b.npz", images=colours[:4], labels=labels[:4], who=np.full(4, 99))
    data = ImageArrays(str(tmp_path / "a.npz"), channels="last", groups="who", test_path=str(tmp_path / "b.npz"))
    data.setup()
    assert data.sizes == {"channels": 3, "height": 4, "width": 5, "classes": 2}
    expected = torch.from_numpy(colours[:4] / 255).permute(0, 3, 1, 2).float()
    torch.testing.assert_close(data.parts["test"][0], expected)
    assert data.parts["test"][1].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"image": np.zeros((3, 2, 2))}, {}, "a.npz: no array 'images'; did you mean 'image'? there are image"),
        ({"images": np.zeros((9, 2, 2)), "labels": np.arange(8)}, {}, "'labels' is (8,); it needs one for each of 9"),
        (
            {"images": np.zeros((9, 2, 2)), "labels": np.zeros(9)},
            {},
            "'labels' holds float64; it must be whole numbers",
        ),
        (
            {"images": np.zeros((9, 2)), "labels": np.arange(9)},
            {},
            "'images' is (9, 2) of float64; with channels: none",
        ),
        (
            {"images": np.zeros((9, 2, 2)), "labels": np.arange(9)},
            {"channels": "first"},
            "it must be 4 axes of numbers",
        ),
        ({"images": np.array([[[0.0]], [[np.nan]]]), "labels": np.arange(2)}, {}, "a.npz, image 2: a pixel is NaN"),
        ({"images": np.zeros((9, 2, 2)), "labels": np.arange(9) // 8}, {}, "a.npz, image 9: class '1' has 1 row"),
        ({"images": np.array([None]), "labels": np.arange(1)}, {}, "a.npz: is no .npz file of plain arrays"),
    ],
)
def test_a_fault_of_arrays_is_named(
    tmp_path: Path, arrays: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError) as refused:
        ImageArrays(str(tmp_path / "a.npz"), **options).setup()
    assert message in str(refused.value)
    (tmp_path / "b.npz").write_bytes(b"no zip")
    for name in ("b.npz", "none.npz"):
        with pytest.raises(DataError, match=f"{name}: is no .npz file"):
            ImageArrays(str(tmp_path / name)).setup()


def videos(folder: Path) -> Path:
    for label in ("left", "right"):
        for number in range(4):
            for frame in range(7, 12):
                draw(folder / label / f"film{number}" / f"{frame}.png", level=frame * 10)
    return folder


def test_frames_are_in_natural_order_and_evenly_taken(tmp_path: Path) -> None:
    for frames, expected in ((5, [70, 80, 90, 100, 110]), (3, [70, 90, 110]), (2, [70, 110])):
        data = VideoFolder(str(videos(tmp_path)), frames)
        data.setup()
        assert data.parts["train"][0].shape[1:] == (frames, 3, 4, 6)
        assert (data.parts["train"][0][0, :, 0, 1, 1] * 255).round().tolist() == expected


def test_a_fault_of_videos_is_named_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"left/film0: it has 5 frames; frames is 6"):
        VideoFolder(str(videos(tmp_path)), 6).setup()
    draw(tmp_path / "right" / "film2" / "9.png", height=5)
    with pytest.raises(DataError, match=r"right/film2/9.png: 5 x 6 pixels"):
        VideoFolder(str(tmp_path), 5).setup()
    (tmp_path / "right" / "film2" / "9.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"right/film2/9.png: is no image"):
        VideoFolder(str(tmp_path), 5).setup()


def speech(folder: Path, rows: dict[str, str] | None = None) -> Path:
    wave = np.sin(np.arange(800) / 9)
    for number, kind in enumerate((np.float32, np.int16, np.int32, np.uint8, np.int16)):
        scaled = wave if kind is np.float32 else wave * 0.999 * (2 ** (8 * np.dtype(kind).itemsize - 1))
        samples = (scaled + (128 if kind is np.uint8 else 0)).astype(kind)[: 800 - number]
        wavfile.write(folder / f"{number}.wav", 8000, np.stack([samples] * 2, 1) if number == 4 else samples)
    texts = rows or {f"{number}.wav": f"It's {'abcde'[number]}" for number in range(5)}
    (folder / "transcripts.csv").write_text("file,text\n" + "".join(f"{f},{t}\n" for f, t in texts.items()))
    return folder


def test_waves_of_every_kind_are_read_alike(tmp_path: Path) -> None:
    data = SpeechFolder(str(speech(tmp_path)), sample_rate=8000)
    data.setup()
    assert data.sizes == {"symbols": 29}
    waves, lengths, characters = (torch.cat([part[i] for part in data.parts.values()]) for i in range(3))
    assert sorted(lengths.tolist()) == [796, 797, 798, 799, 800]
    expected = torch.sin(torch.arange(800) / 9)
    for wave, length in zip(waves, lengths.tolist(), strict=True):
        torch.testing.assert_close(wave[:length], expected[:length], atol=0.01, rtol=0)
        assert not wave[length:].any()
    spelled = ["".join(data.alphabet[c - 1] for c in row if c) for row in characters.tolist()]
    assert sorted(spelled) == ["it's a", "it's b", "it's c", "it's d", "it's e"]


def cut(folder: Path) -> None:
    path = folder / "3.wav"
    path.write_bytes(path.read_bytes()[:300])


SPEECH_FAULTS: list[tuple[Callable[[Path], Any], str]] = [
    (
        lambda at: wavfile.write(at / "3.wav", 16000, np.zeros(9)),
        "3.wav: it has 16000 samples a second; sample_rate is",
    ),
    (lambda at: (at / "3.wav").write_bytes(b"RIFX"), "3.wav: is no WAV file that can be read"),
    (cut, "3.wav: is no WAV file that can be read"),
    (lambda at: (at / "3.wav").unlink(), "transcripts.csv, line 5: there is no file"),
    (lambda at: wavfile.write(at / "3.wav", 8000, np.zeros(0, dtype=np.int16)), "3.wav: "),
    (lambda at: wavfile.write(at / "3.wav", 8000, np.array([0, np.inf])), "3.wav: sample 2 is inf"),
    (lambda at: speech(at, {f"{n}.wav": "abcé"[: n + 1] for n in range(5)}), "transcripts.csv, line 5: 'text' has 'é'"),
    (lambda at: speech(at, {f"{n}.wav": "abc"[n:] for n in range(5)}), "transcripts.csv, line 5: 'text' is empty"),
    (lambda at: (at / "transcripts.csv").unlink(), "transcripts.csv: cannot be read"),
]


@pytest.mark.parametrize(("spoil", "message"), SPEECH_FAULTS)
def test_a_fault_of_speech_is_named_with_its_file(tmp_path: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(speech(tmp_path))
    with pytest.raises(DataError, match=re.escape(message)):
        SpeechFolder(str(tmp_path), sample_rate=8000).setup()
