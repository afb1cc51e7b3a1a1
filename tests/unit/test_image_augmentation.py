"""Image augmentation: shapes and ranges, off at no strength, by torch's global random state alone."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from trainables.augmentation.images import ImageAugmentation


@pytest.mark.parametrize("channels", [1, 3])
def test_image_augmentation_keeps_shape_and_range_and_is_off_at_no_strength(channels: int) -> None:
    pytest.importorskip("kornia")
    torch.manual_seed(0)
    images, targets = torch.rand(6, channels, 8, 8), torch.arange(6)
    change = ImageAugmentation(rotation=20, crop=0.2, jitter=0.3, hue=0.1, flip=0.5, vertical_flip=0.5)
    changed, kept = change.change((images, targets), pl.LightningModule())
    assert changed.shape == images.shape
    assert torch.equal(kept, targets)
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1
    assert not torch.equal(changed, images)
    torch.manual_seed(1)
    one = change.change((images, targets), pl.LightningModule())[0]
    torch.manual_seed(1)
    assert torch.equal(one, change.change((images, targets), pl.LightningModule())[0]), "by torch's global state alone"
    batch = (images, targets)
    assert ImageAugmentation(strength=0.0, rotation=20, crop=0.2, jitter=1).change(batch, pl.LightningModule()) is batch


def test_a_flip_is_a_flip_and_rotation_by_nothing_nothing() -> None:
    pytest.importorskip("kornia")
    images = torch.rand(2, 3, 4, 5)
    flipped = ImageAugmentation(flip=1.0).change((images, images), pl.LightningModule())[0]
    assert torch.equal(flipped, images.flip(-1))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"crop": 1.0}, "below 1"), ({"flip": 2}, "probabilities"), ({"hue": 0.6}, "0.5"), ({"jitter": 1.1}, "at most 1")],
)
def test_amounts_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageAugmentation(**options)


def test_a_crop_has_the_shape_of_the_image() -> None:
    pytest.importorskip("kornia")
    torch.manual_seed(0)
    across, down = torch.linspace(0, 1, 80).expand(1, 1, 20, 80), torch.linspace(0, 1, 20)[:, None].expand(1, 1, 20, 80)
    images = torch.cat([across, down], 1).repeat(8, 1, 1, 1)
    cropped = ImageAugmentation(crop=0.5).change((images, images), pl.LightningModule())[0]
    width, height = (cropped.amax((2, 3)) - cropped.amin((2, 3))).unbind(1)
    assert float(width.min()) > 0.45
    torch.testing.assert_close(width, height, atol=0.06, rtol=0)
