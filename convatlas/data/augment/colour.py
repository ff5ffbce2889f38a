"""Random colours: each image's pixels through one affine map of its channels, whatever changes it is put together from.

Maps are rounded to whole numbers of 1/4,096: float32 then holds each product and sum exactly, so that neither the batch
nor the number of threads can change a bit.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
import torch

from .. import draws
from ..moments import Colours

GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow and torchvision have it
GRID = 4096
ORDERS = np.array(list(permutations(range(3))))

Maps = tuple[np.ndarray, np.ndarray]  # (N,C,C) and (N,C): new = matrix @ old + shift, pixels from 0 to 255


@dataclass(frozen=True)
class Jitter:
    """Brightness, contrast and saturation, each by a random factor from 1 - amount to 1 + amount, in random order.

    The way of fb.resnet.torch, which blends with black, with the mean of the grey image, and with the grey image, and
    does not clip in between. With 0.5 these are the photometric distortions of Howard (2013, section 2.2) that
    GoogLeNet names, to which he adds "pca-colour 0.1".
    """

    amount: float

    def maps(self, mean: Callable[[], np.ndarray], seed: int, epoch: int, index: np.ndarray) -> Maps:
        """`mean()` gives each image's mean colour (N,C)."""
        means = mean()
        n, channels = means.shape
        grey = np.array(GREY if channels == 3 else (1.0,))
        drawn = [draws.uniform(draws.key(seed, epoch, draws.COLOUR, j), index) for j in range(4)]
        factors = 1 + self.amount * (2 * np.stack(drawn[:3], axis=1) - 1)
        matrix, shift = np.broadcast_to(np.eye(channels), (n, channels, channels)), np.zeros((n, channels))
        for kind in ORDERS[(drawn[3] * len(ORDERS)).astype(int)].T:
            factor = factors[np.arange(n), kind]
            to_grey = np.where(kind == 2, 1 - factor, 0)[:, None, None] * grey
            step = factor[:, None, None] * np.eye(channels) + to_grey
            level = (matrix @ means[..., None])[..., 0] + shift
            matrix, shift = step @ matrix, (step @ shift[..., None])[..., 0]
            shift = shift + (np.where(kind == 1, 1 - factor, 0) * (level @ grey))[:, None]
        return matrix, shift


@dataclass(frozen=True)
class PcaColour:
    """Adds to each pixel of an image the same random multiples of the data's principal components.

    Each has its component's standard deviation times a number from N(0, amount^2) (AlexNet, section 4.1, which says
    eigenvalue; its author's code has deviations). A grey image gets lighter or darker.
    """

    amount: float
    colours: Colours | None = None

    def maps(self, mean: Callable[[], np.ndarray], seed: int, epoch: int, index: np.ndarray) -> Maps:
        assert self.colours is not None
        vectors, deviations = np.array(self.colours.vectors), np.array(self.colours.deviations)
        streams = (draws.key(seed, epoch, draws.PCA, j) for j in range(len(deviations)))
        drawn = np.stack([draws.normal(stream, index) for stream in streams], axis=1)
        channels = vectors.shape[1]
        shift = (self.amount * drawn * deviations)[:, None, :] @ vectors
        return np.broadcast_to(np.eye(channels), (len(index), channels, channels)), shift[:, 0]


@dataclass(frozen=True)
class Colouring:
    """Changes of colour one after the other, in a single pass over the pixels."""

    steps: tuple[Jitter | PcaColour, ...]

    @property
    def needs_colours(self) -> bool:
        return any(isinstance(step, PcaColour) for step in self.steps)

    def with_colours(self, colours: Colours) -> "Colouring":
        return Colouring(tuple(replace(s, colours=colours) if isinstance(s, PcaColour) else s for s in self.steps))

    def apply(self, images: np.ndarray, seed: int, epoch: int, index: np.ndarray) -> np.ndarray:
        """uint8 (N,H,W,C), changed in place -> the same; rounded and clipped once."""
        channels = images.shape[-1]
        pixels = torch.from_numpy(images).view(len(images), -1, channels)
        matrix, shift = np.broadcast_to(np.eye(channels), (len(images), channels, channels)), np.zeros(channels)
        for step in self.steps:

            def mean(matrix: np.ndarray = matrix, shift: np.ndarray = shift) -> np.ndarray:
                return (matrix @ _means(images)[..., None])[..., 0] + shift

            by, add = step.maps(mean, seed, epoch, index)
            matrix, shift = by @ matrix, (by @ np.broadcast_to(shift, add.shape)[..., None])[..., 0] + add
        maps = torch.from_numpy(np.rint(matrix * GRID).transpose(0, 2, 1).astype(np.float32)).div_(GRID)
        shifts = torch.from_numpy(np.rint(shift * GRID).astype(np.float32)).div_(GRID)
        for image, by_image, shift_image in zip(pixels, maps, shifts, strict=True):
            image.copy_(torch.addmm(shift_image, image.float(), by_image).clamp_(0, 255).add_(0.5))
        return images


def _means(images: np.ndarray) -> np.ndarray:
    """Each image's mean colour, exact but for the division. -> float64 (N,C)"""
    height, width = images.shape[1:3]
    rows = [torch.from_numpy(image).float().sum(1) for image in images]  # whole numbers that float32 holds
    return torch.stack(rows).double().sum(1).numpy() / (height * width)
