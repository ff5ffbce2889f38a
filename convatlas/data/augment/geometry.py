"""Random geometry: mirrored images, shifted ones, and parts of the original."""

from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from .. import draws
from ..decoding import Box

ASPECT = (3 / 4, 4 / 3)
ATTEMPTS = 10
INPUT = 224  # the input size that "side A-B" is given for


@dataclass(frozen=True)
class Flip:
    """Mirrors half of the images left to right."""

    def apply(self, images: np.ndarray, seed: int, epoch: int, index: np.ndarray) -> np.ndarray:
        """uint8 (N,H,W,C), changed in place -> the same."""
        chosen = draws.uniform(draws.key(seed, epoch, draws.FLIP), index) < 0.5
        if images.shape[-1] == 1:
            images[chosen] = images[chosen, :, ::-1]
            return images
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        for i in np.flatnonzero(chosen).tolist():  # torch mirrors one channels_last image ten times as fast as numpy
            pixels[i : i + 1] = pixels[i : i + 1].flip(3)
        return images


@dataclass(frozen=True)
class PadCrop:
    """Puts `border` pixels on each side and cuts the size back at a random place.

    They are black (ResNet, section 4.2), or the image mirrored at its edge, whose pixels are not repeated (the
    published code of Wide ResNet).
    """

    border: int
    filled: Literal["black", "mirrored"] = "black"

    def apply(self, images: np.ndarray, seed: int, epoch: int, index: np.ndarray) -> np.ndarray:
        """uint8 (N,H,W,C) -> the same shape."""
        height, width = images.shape[1:3]
        places = 2 * self.border + 1
        tops, lefts = (
            (draws.uniform(draws.key(seed, epoch, draws.SHIFT, axis), index) * places).astype(int).tolist()
            for axis in (0, 1)
        )
        edges = ((0, 0), (self.border, self.border), (self.border, self.border), (0, 0))
        padded = np.pad(images, edges) if self.filled == "black" else np.pad(images, edges, "reflect")
        out = np.empty_like(images)
        for i, (top, left) in enumerate(zip(tops, lefts, strict=True)):
            out[i] = padded[i, top : top + height, left : left + width]
        return out


@dataclass(frozen=True)
class Area:
    """A part with a random share of the area and a random aspect of 3/4 to 4/3, resized to the input.

    The distribution is torchvision's RandomResizedCrop, which follows GoogLeNet, section 6.
    """

    low: float
    high: float

    def draws(self, seed: int, epoch: int, index: np.ndarray) -> np.ndarray:
        """(N,) -> (N, 40) numbers in [0, 1): area, aspect, top and left for each of ten attempts."""
        streams = (draws.key(seed, epoch, draws.AREA, j) for j in range(4 * ATTEMPTS))
        return np.stack([draws.uniform(stream, index) for stream in streams], axis=1)

    def box(self, u: np.ndarray, image: tuple[int, int], size: tuple[int, int]) -> Box:
        """A box in an image of (width, height); `size` does not matter."""
        width, height = image
        low, high = log(ASPECT[0]), log(ASPECT[1])
        for area, aspect, down, across in u.reshape(ATTEMPTS, 4).tolist():
            pixels = width * height * (self.low + area * (self.high - self.low))
            ratio = exp(low + aspect * (high - low))
            w, h = round(sqrt(pixels * ratio)), round(sqrt(pixels / ratio))
            if 0 < w <= width and 0 < h <= height:
                top, left = int(down * (height - h + 1)), int(across * (width - w + 1))
                return left, top, left + w, top + h
        # ten misses, which only long images give: the largest centred part of an allowed aspect
        w, h = min(width, round(height * ASPECT[1])), min(height, round(width / ASPECT[0]))
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h


@dataclass(frozen=True)
class Side:
    """The shorter side becomes a random number of pixels from `low` to `high`, then a random part of the input's size.

    Numbers are for an input of 224 and scale with it (VGG, section 3.1; ResNet, section 3.4). The part is cut from the
    original at whole pixels and resized once, which is the same up to that rounding.
    """

    low: float
    high: float

    def draws(self, seed: int, epoch: int, index: np.ndarray) -> np.ndarray:
        """(N,) -> (N, 3) numbers in [0, 1): side, top, left."""
        streams = (draws.key(seed, epoch, draws.SIDE, j) for j in range(3))
        return np.stack([draws.uniform(stream, index) for stream in streams], axis=1)

    def box(self, u: np.ndarray, image: tuple[int, int], size: tuple[int, int]) -> Box:
        """A box in an image of (width, height) for an input of `size` (height, width)."""
        width, height = image
        side, down, across = u.tolist()
        low, high = (round(bound * max(size) / INPUT) for bound in (self.low, self.high))
        scale = (low + int(side * (high - low + 1))) / min(width, height)
        w, h = (min(whole, max(1, round(part / scale))) for whole, part in ((width, size[1]), (height, size[0])))
        top, left = int(down * (height - h + 1)), int(across * (width - w + 1))
        return left, top, left + w, top + h


def resized(picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """A picture resized to (height, width), bilinear and antialiased. Returns uint8 (height, width, channels).

    torch's kernel for uint8 computes what Pillow's does, to a rounding of one, in half the time.
    """
    pixels = np.array(picture)
    pixels = pixels.reshape(1, *pixels.shape[:2], -1)
    if pixels.shape[1:3] == size:
        return pixels[0]
    planes = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # channels_last in all four strides: the fast path
    out = F.interpolate(planes, size, mode="bilinear", antialias=True, align_corners=False)
    return out[0].permute(1, 2, 0).numpy()
