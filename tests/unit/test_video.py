"""Videos move as their label says and a frame alone does not tell; the network needs the order of frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from trainables.data.moving_digits import DIRECTIONS, MovingDigits, film
from trainables.video.cnn_rnn import VideoNet


def test_each_frame_is_the_one_before_moved_by_a_pixel() -> None:
    videos, directions, digits = film(5, 12, 3)
    for number, way in enumerate(DIRECTIONS):
        chosen = videos[directions == number]
        np.testing.assert_array_equal(np.roll(chosen[:, :-1], way, axis=(2, 3)), chosen[:, 1:])
    images, truth = load_digits(return_X_y=True)
    np.testing.assert_array_equal(digits, truth)
    np.testing.assert_allclose(videos.sum((2, 3)), np.repeat(images.sum(1, keepdims=True) / 16, 5, axis=1), rtol=1e-5)
    assert len(np.unique(videos[:, 0].argmax(1))) > 1


def test_where_a_video_starts_says_nothing_of_its_direction() -> None:
    videos, directions, _ = film(2, 16, 0)
    rows = videos[:, 0].any(2).argmin(1)  # the first empty row is uniform but for wrapping
    means = [rows[directions == number].mean() for number in range(4)]
    assert max(means) - min(means) < 1
    with pytest.raises(ValueError, match="size 7 is below the 8 pixels"):
        film(2, 7, 0)


def test_digits_can_be_the_label_and_never_share_an_image() -> None:
    data = MovingDigits(label="digit")
    data.setup()
    assert set(data.parts["test"][-1].tolist()) == set(range(10))
    assert sum(len(part[0]) for part in data.parts.values()) == 1797


def test_each_frame_is_seen_alike_and_their_order_matters() -> None:
    model = VideoNet(bidirectional=True).eval()
    videos = torch.rand(3, 6, 1, 16, 16)
    seen = model.frame(videos[:, 2])
    torch.testing.assert_close(model.frame(videos.flatten(0, 1)).unflatten(0, (3, 6))[:, 2], seen)
    assert not torch.allclose(model(videos), model(videos.flip(1)))
    assert VideoNet(channels=3, classes=7, depth=4)(torch.rand(2, 3, 3, 9, 5)).shape == (2, 7)
