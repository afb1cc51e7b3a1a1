"""Sound to log-mel bands to symbols: each step against scipy, torchmetrics, or every path counted one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal
from torch import Tensor
from torchmetrics.functional.text import edit_distance

from trainables.data.tone_digits import SAMPLE_RATE, ToneDigits, dial
from trainables.sequences.edit_distance import edit_distances
from trainables.speech.ctc import SpeechCTC, greedy
from trainables.speech.log_mel import LogMel, hertz_to_mel, mel_filters, mel_to_hertz

SYMBOLS = st.lists(st.integers(1, 4), max_size=7)


def test_the_mel_scale_is_o_shaughnessy_s() -> None:
    hertz = torch.tensor([0.0, 700.0, 1000.0, 4000.0], dtype=torch.float64)
    torch.testing.assert_close(
        hertz_to_mel(hertz), torch.tensor([0, 781.17, 999.99, 2146.07]).double(), atol=0.02, rtol=0
    )
    torch.testing.assert_close(mel_to_hertz(hertz_to_mel(hertz)), hertz)


def test_filters_are_triangles_that_share_out_each_frequency_between_two() -> None:
    filters = mel_filters(20, 512, 8000)
    centres = mel_to_hertz(torch.linspace(0, float(hertz_to_mel(torch.tensor(4000.0))), 22)[1:-1])
    frequencies = torch.linspace(0, 4000, 257)
    between = (frequencies >= centres[0]) & (frequencies <= centres[-1])
    torch.testing.assert_close(filters[between].sum(1), torch.ones(int(between.sum())))
    assert (filters[between] > 0).sum(1).max() <= 2
    assert (frequencies[filters.argmax(0)] - centres).abs().max() <= 4000 / 256
    with pytest.raises(ValueError, match="64 bands are too many for windows of 128"):
        mel_filters(64, 128, 4000)


def test_bands_are_those_of_scipy_s_spectrum() -> None:
    wave = np.random.default_rng(0).normal(size=1000)
    bands = LogMel(12, 128, 48, 4000).double()
    window = signal.get_window("hann", 128)
    _, _, spectrum = signal.stft(wave, nperseg=128, noverlap=80, window=window, boundary=None, padded=False)
    power = np.abs(spectrum.T * window.sum()) ** 2
    expected = np.log(power @ mel_filters(12, 128, 4000).double().numpy() + 1e-3)
    np.testing.assert_allclose(bands(torch.from_numpy(wave)[None])[0].numpy(), expected, rtol=1e-5)
    assert bands.frames(torch.tensor([1000, 128, 5])).tolist() == [len(expected), 1, 1]


def padded(rows: list[list[int]]) -> Tensor:
    longest = max(map(len, rows), default=0)
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows]).reshape(len(rows), longest)


@settings(max_examples=60)
@given(st.lists(st.tuples(SYMBOLS, SYMBOLS), min_size=1, max_size=5))
def test_edit_distances_are_those_of_torchmetrics(pairs: list[tuple[list[int], list[int]]]) -> None:
    written, right = ([list(row) for row in side] for side in zip(*pairs, strict=True))
    texts = [["".join(map(str, row)) for row in side] for side in (written, right)]
    expected = edit_distance(texts[0], texts[1], reduction="none")
    assert edit_distances(padded(written), padded(right)).tolist() == expected.int().tolist()


def collapsed(path: tuple[int, ...]) -> list[int]:
    return [symbol for symbol, _ in itertools.groupby(path) if symbol]


def test_greedy_decoding_drops_repetitions_then_blanks_and_stops_at_the_end() -> None:
    paths = [(1, 1, 0, 1, 2, 2), (0, 0, 3, 0, 0, 3), (0, 0, 0, 0, 0, 0)]
    answers = torch.nn.functional.one_hot(torch.tensor(paths), 4).float()
    decoded = greedy(answers, torch.tensor([6, 6, 6]))
    assert (
        decoded.tolist() == padded([[*collapsed(path), *[0] * (6 - len(collapsed(path)))] for path in paths]).tolist()
    )
    assert greedy(answers, torch.tensor([4, 3, 1]))[:, :3].tolist() == [[1, 1, 0], [3, 0, 0], [0, 0, 0]]


def test_the_loss_is_the_sum_over_every_path_that_says_the_target() -> None:
    model = SpeechCTC(symbols=3, bands=4, window=32, hop=16, sample_rate=4000).eval()
    batch = (torch.randn(2, 80), torch.tensor([80, 64]), torch.tensor([[1, 2], [2, 0]]))
    answers = model(*batch[:2])
    losses = model._losses(answers, batch)
    for row, (frames, target) in enumerate([(4, [1, 2]), (3, [2])]):
        paths = [p for p in itertools.product(range(3), repeat=frames) if collapsed(p) == target]
        total = sum(torch.stack([answers[row, t, s] for t, s in enumerate(path)]).sum().exp() for path in paths)
        torch.testing.assert_close(losses[row], -torch.as_tensor(total).log() / len(target))
    best = greedy(answers, torch.tensor([4, 3]))
    sums = model.score(batch)
    assert int(sums["error"][0]) == int(edit_distances(best, batch[2]).sum())
    assert int(sums["error"][1]) == 3


def test_what_is_after_the_end_of_a_sound_changes_nothing() -> None:
    model = SpeechCTC().eval()
    waves, samples, _ = (torch.from_numpy(part[:6]) for part in dial(60, 0.5, 0))
    answers, frames = model(waves, samples), model.bands.frames(samples)
    for row, length in enumerate(samples.tolist()):
        alone = model(waves[row : row + 1, :length], samples[row : row + 1])[0]
        torch.testing.assert_close(answers[row, : frames[row]], alone, atol=1e-4, rtol=1e-4)


def test_a_sound_has_the_two_tones_of_its_first_digit() -> None:
    waves, _, targets = dial(40, 0.0, 0)
    tones = {1: (697, 1209), 5: (770, 1336), 9: (852, 1477), 0: (941, 1336)}
    for wave, digits in zip(waves, targets, strict=True):
        if int(digits[0]) - 1 in tones:
            power = np.abs(np.fft.rfft(wave[:240], 4096)) ** 2
            hertz = np.fft.rfftfreq(4096, 1 / SAMPLE_RATE)
            low = hertz[hertz < 1075][power[hertz < 1075].argmax()]
            high = hertz[hertz > 1075][power[hertz > 1075].argmax()]
            assert (low, high) == pytest.approx(tones[int(digits[0]) - 1], rel=0.025)


def test_sounds_say_two_to_five_digits() -> None:
    data = ToneDigits(sounds=80)
    data.setup()
    targets = torch.cat([part[-1] for part in data.parts.values()])
    assert set((targets > 0).sum(1).tolist()) == {2, 3, 4, 5}
    assert (targets.min().item(), targets.max().item()) == (0, 10)


def test_bands_are_the_same_under_mixed_precision_and_a_model_learns_in_half() -> None:
    torch.manual_seed(0)
    bands, waves = LogMel(20, 128, 64, 4000), 20 * torch.randn(2, 1000)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(bands(waves), bands(waves.clone()))
        mixed = bands(waves)
    assert torch.equal(mixed, bands(waves))
    model = SpeechCTC().bfloat16()
    lengths, targets = torch.tensor([1000, 800]), torch.tensor([[3, 4], [5, 0]])
    loss, _ = model.objective((waves.bfloat16(), lengths, targets))
    assert bool(torch.isfinite(loss))
