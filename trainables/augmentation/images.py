"""Image augmentation on the device that trains, a batch at a time."""

from __future__ import annotations

from typing import Any, Final

import pytorch_lightning as pl
from torch import Tensor, nn

from trainables.training.batch_change import BatchChange

_CHANNELS_HEIGHT_WIDTH: Final = 3


class ImageAugmentation(BatchChange):
    """Rotates, flips, crops and recolours the images of each training batch, by kornia; each image on its own.

    One knob, `strength`, scales all the others; or set each its own. The default of all is no change. Images are
    (batch, channels, height, width) with values from 0 to 1, the first tensor of the batch; targets stay.

    Args:
        strength: Factor of the four below it, 0 or more: 1 takes them as they are.
        rotation: Greatest angle, in degrees, to either side.
        crop: Greatest share of each side that is cut away; what is left is scaled to the old size. Below 1.
        jitter: Greatest relative change of brightness, contrast and, for three channels, saturation; where there are
            not three, brightness changes by so much of the whole range. At most 1.
        hue: Greatest turn of the hue, as a share of the colour circle, at most 0.5; for three channels.
        flip: Probability of a mirrored image, left to right. Not scaled by `strength`.
        vertical_flip: Probability of a mirrored image, top to bottom. Not scaled by `strength`.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs are arguments
        self,
        strength: float = 1.0,
        rotation: float = 0.0,
        crop: float = 0.0,
        jitter: float = 0.0,
        hue: float = 0.0,
        flip: float = 0.0,
        vertical_flip: float = 0.0,
    ) -> None:
        super().__init__()
        amounts = {"strength": strength, "rotation": rotation, "crop": crop, "jitter": jitter, "hue": hue}
        wrong = [f"{name} {value}" for name, value in amounts.items() if value < 0]
        wrong += [f"flip {value}" for value in (flip, vertical_flip) if not 0 <= value <= 1]
        wrong += ["crop times strength must stay below 1"] if crop * strength >= 1 else []
        wrong += ["jitter times strength must be at most 1"] if jitter * strength > 1 else []
        wrong += ["hue times strength must be at most 0.5"] if hue * strength > 0.5 else []  # noqa: PLR2004  # all hues
        if wrong:
            msg = f"amounts must be at least 0 and probabilities in [0, 1]: {', '.join(wrong)}"
            raise ValueError(msg)
        self.rotation, self.crop = rotation * strength, crop * strength
        self.jitter, self.hue = jitter * strength, hue * strength
        self.flip, self.vertical_flip = flip, vertical_flip
        self._changes: dict[tuple[int, ...], nn.Module | None] = {}

    def change(self, batch: Any, pl_module: pl.LightningModule) -> Any:  # noqa: ANN401  # as the base has it
        """The batch with its images changed."""
        images, *rest = batch
        changes = self.changes_for(images)
        return batch if changes is None else (changes(images), *rest)

    def changes_for(self, images: Tensor) -> nn.Module | None:
        """What is done to images of such a shape; None for nothing."""
        shape = tuple(images.shape[1:])
        if len(shape) != _CHANNELS_HEIGHT_WIDTH:
            msg = f"images are (batch, channels, height, width), got inputs of shape {tuple(images.shape)}"
            raise ValueError(msg)
        if shape not in self._changes:
            self._changes[shape] = self._made(shape)
        return self._changes[shape]

    def _made(self, shape: tuple[int, ...]) -> nn.Module | None:
        from kornia import augmentation as kornia

        channels, height, width = shape
        has_colours = channels == 3  # noqa: PLR2004  # red, green, blue
        parts: list[nn.Module] = []
        if self.rotation:
            parts.append(kornia.RandomRotation(self.rotation, p=1.0))
        if self.crop:
            scale = ((1 - self.crop) ** 2, 1.0)
            ratio = (width / height, width / height)  # of the image itself
            parts.append(kornia.RandomResizedCrop((height, width), scale=scale, ratio=ratio, p=1.0))
        if self.jitter or (self.hue and has_colours):
            parts.append(
                kornia.ColorJitter(self.jitter, self.jitter, self.jitter, self.hue, p=1.0)
                if has_colours
                else _grey(self.jitter)
            )
        parts += [kornia.RandomHorizontalFlip(p=self.flip)] if self.flip else []
        parts += [kornia.RandomVerticalFlip(p=self.vertical_flip)] if self.vertical_flip else []
        return nn.Sequential(*parts) if parts else None


def _grey(amount: float) -> nn.Module:
    """Brightness and contrast alone, for images without colours."""
    from kornia import augmentation as kornia

    span = (max(0.0, 1 - amount), 1 + amount)
    return nn.Sequential(kornia.RandomBrightness(span, p=1.0), kornia.RandomContrast(span, p=1.0))
