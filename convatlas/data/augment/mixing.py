"""MixUp and CutMix: images of a batch mixed with their neighbours, and their targets in the same shares."""

from dataclasses import dataclass
from math import sqrt

from torch import Tensor

from .. import draws


@dataclass(frozen=True)
class MixUp:
    """Every pixel is a mean of two images, with a weight from Beta(alpha, alpha) (Zhang et al. 2018, section 2)."""

    alpha: float

    def apply(self, images: Tensor, targets: Tensor, seed: int, step: int) -> tuple[Tensor, Tensor]:
        share = _share(self.alpha, seed, step)
        return _mean(images, share), _mean(targets, share)


@dataclass(frozen=True)
class CutMix:
    """A box is replaced by the neighbour's, whose share of the area is from Beta(alpha, alpha) (Yun et al. 2019).

    The box is cut off at the image's edge, and targets follow what is left of it, as torchvision has it.
    """

    alpha: float

    def apply(self, images: Tensor, targets: Tensor, seed: int, step: int) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        half = 0.5 * sqrt(1 - _share(self.alpha, seed, step))
        across, down = (int(draws.uniform_at(seed, step, draws.MIXING, i) * n) for i, n in ((1, width), (2, height)))
        left, right = max(across - int(half * width), 0), min(across + int(half * width), width)
        top, bottom = max(down - int(half * height), 0), min(down + int(half * height), height)
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = images.roll(1, 0)[..., top:bottom, left:right]
        return mixed, _mean(targets, 1 - (right - left) * (bottom - top) / (width * height))


@dataclass(frozen=True)
class Mixing:
    """One of the ways for each batch, every one equally likely."""

    ways: tuple[MixUp | CutMix, ...]

    def apply(self, images: Tensor, targets: Tensor, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Each image with the one before it, the first with the last.

        images (N,C,H,W) and targets (N,classes), both floating -> the same shapes, anew; a function of (seed, step).
        """
        way = self.ways[int(draws.uniform_at(seed, step, draws.MIXING, 0) * len(self.ways))]
        return way.apply(images, targets, seed, step)


def _share(alpha: float, seed: int, step: int) -> float:
    return float(draws.generator(seed, step, draws.MIXING).beta(alpha, alpha))


def _mean(one: Tensor, share: float) -> Tensor:
    return one.roll(1, 0).mul_(1 - share).add_(one * share)
