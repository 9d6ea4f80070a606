"""Training images moved and turned a little, anew each time: what a digit is does not depend on where it stands."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gradcheck.contract import Array


@dataclass(frozen=True)
class Augmentation:
    """Moves each image by up to ``shift`` pixels both ways, and turns it by up to ``rotation`` degrees either way.

    Nothing is flipped: a mirrored digit is none. Raises ValueError for what is negative or not finite.
    """

    shift: float = 0.0  # pixels
    rotation: float = 0.0  # degrees

    def __post_init__(self) -> None:
        for name, value in (("shift", self.shift), ("rotation", self.rotation)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"augmentation needs a {name} that is finite and not negative, got {value:g}")

    def __call__(self, images: Array, rng: np.random.Generator) -> Array:
        """Return images (n, height, width) of ink, each moved and turned as ``rng`` draws it.

        Shifts are uniform in [-shift, shift], angles in [-rotation, rotation]. With neither, the images themselves are
        returned. What is drawn depends on nothing but ``rng`` and the number of images.
        """
        if not self.shift and not self.rotation:
            return images
        drawn = rng.uniform(-1.0, 1.0, (len(images), 3)) * (self.shift, self.shift, self.rotation)
        return moved(images, drawn[:, :2], drawn[:, 2])


def moved(images: Array, shifts: Array, angles: Array) -> Array:
    """Return images (n, height, width), each turned about its centre and then moved; blank is what comes from outside.

    ``shifts`` (n, 2) are pixels down and to the right, ``angles`` (n,) degrees counterclockwise. Ink between pixels is
    interpolated linearly.
    https://docs.scipy.org/doc/scipy/reference/generated/scipy.ndimage.affine_transform.html
    """
    from scipy import ndimage

    centre = (np.array(images.shape[1:]) - 1) / 2
    result = np.empty_like(images)
    for image, shift, angle, out in zip(images, shifts, np.deg2rad(angles), result, strict=True):
        # Where each pixel of the result comes from: the inverse of the motion.
        back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        offset = centre - back @ (centre + shift)
        ndimage.affine_transform(image, back, offset, output=out, order=1, mode="grid-constant")
    return result
