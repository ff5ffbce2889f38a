"""Distortions of digits: random affine maps and elastic fields, put together in one resampling.

Nothing here depends on the batch that an image is in: the elastic field is summed up in numbers that float32 holds
exactly, so that no order of summation can change it, and the rest goes element by element.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import cos, pi, radians, sin, sqrt, tan

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .. import draws

KEPT = 0.999  # share of the elastic field's variance that the stored waves have
GRID = 512  # the waves are rounded to its inverse
NOISE_STD = sqrt(8 * (256**2 - 1) / 12)  # of the sum of eight random bytes
COARSE = 2.0**-9  # of the field's first sums that are rounded away, so that the second ones are exact too
BYTES, PAIRS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0001000100010001)
AT_ONCE = 2**22  # numbers of a field


@dataclass(frozen=True)
class Affine:
    """Turned, resized, sheared and shifted about the image's centre.

    By up to `rotation` degrees either way, by a factor from 1 - scale to 1 + scale, across by the tangent of up to
    `shear` degrees, and by up to `shift` pixels in each direction, each evenly drawn.
    """

    rotation: float
    scale: float
    shear: float
    shift: float

    def matrices(self, seed: int, epoch: int, index: np.ndarray) -> Tensor:
        """Where in the image each pixel comes from: offsets from its centre, in pixels. -> float32 (N,2,3)"""
        streams = (draws.key(seed, epoch, draws.AFFINE, j) for j in range(5))
        drawn = zip(*((2 * draws.uniform(stream, index) - 1).tolist() for stream in streams), strict=True)
        return torch.tensor([self._inverse(*row) for row in drawn], dtype=torch.float32)

    def _inverse(self, turn: float, size: float, slant: float, right: float, down: float) -> list[list[float]]:
        """The inverse of shift x rotation x scale x shear."""
        angle, factor, skew = radians(turn * self.rotation), 1 + size * self.scale, tan(radians(slant * self.shear))
        a, b = cos(angle) / factor, sin(angle) / factor
        top, bottom = [a + skew * b, b - skew * a], [-b, a]
        shift = right * self.shift, down * self.shift
        return [[*row, -(row[0] * shift[0] + row[1] * shift[1])] for row in (top, bottom)]


@dataclass(frozen=True)
class Elastic:
    """Each pixel moved by a smooth random field (Simard, Steinkraus and Platt 2003, section 2).

    The field is `strength` times noise, even in -1 to 1 at each pixel, smoothed by a Gaussian of `smoothness` pixels.
    What is drawn has that field's covariance, strength^2/3 x exp(-d^2/4s^2)/(4 pi s^2) at distance d: weights of its
    own waves (Karhunen and Loeve), of which a few dozen are enough.
    """

    strength: float
    smoothness: float

    def field(self, seed: int, epoch: int, index: np.ndarray, size: tuple[int, int]) -> Tensor:
        """Movements in pixels, across and down. -> float32 (N,2,H,W)"""
        tall, wide = (_waves(side, self.smoothness) for side in size)
        across = len(wide)
        waves = len(tall) * across
        counters = index[:, None] * (2 * waves) + np.arange(2 * waves)
        noise = _normal(draws.bits(draws.key(seed, epoch, draws.ELASTIC), counters))
        rows = noise.view(-1, across) @ wide
        rows = rows.mul_(COARSE).round_().view(-1, len(tall), size[1])
        sums = torch.matmul(tall.T.contiguous(), rows)
        amplitude = self.strength / sqrt(3 * 4 * pi) / self.smoothness
        return sums.mul_(amplitude / (NOISE_STD * GRID**2 * COARSE)).view(-1, 2, *size)


@dataclass(frozen=True)
class Distortion:
    """An affine map, an elastic field, or the field after the map; pixels from outside the image are black."""

    affine: Affine | None
    elastic: Elastic | None

    def apply(self, images: np.ndarray, seed: int, epoch: int, index: np.ndarray) -> np.ndarray:
        """uint8 (N,H,W,C) -> the same shape, bilinear and rounded."""
        out = np.empty_like(images)
        few = max(AT_ONCE // images[0].size, 1)
        for i in range(0, len(images), few):
            part = slice(i, i + few)
            planes = torch.from_numpy(images[part]).permute(0, 3, 1, 2).float().contiguous()
            at = self._grid(seed, epoch, index[part], images.shape[1:3])
            moved = F.grid_sample(planes, at, mode="bilinear", padding_mode="zeros", align_corners=False)
            out[part] = moved.add_(0.5).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return out

    def _grid(self, seed: int, epoch: int, index: np.ndarray, size: tuple[int, int]) -> Tensor:
        """Where each pixel comes from, as grid_sample counts: -1 and 1 are the image's edges. -> (N,H,W,2)"""
        height, width = size
        x, y = (torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in (width, height))
        field = None if self.elastic is None else self.elastic.field(seed, epoch, index, size)
        if self.affine is None:
            places = [x.expand(len(index), height, width), y[:, None].expand(len(index), height, width)]
        else:
            places = [
                (row[:, 0, None, None] * x).add(row[:, 1, None, None] * y[:, None]).add_(row[:, 2, None, None])
                for row in self.affine.matrices(seed, epoch, index).unbind(1)
            ]
        out = torch.empty(len(index), height, width, 2)
        for axis, (place, side) in enumerate(zip(places, (width, height), strict=True)):
            if field is not None:
                place = place + field[:, axis]
            torch.mul(place, 2 / side, out=out[..., axis])
        return out


@lru_cache(maxsize=8)
def _waves(side: int, smoothness: float) -> Tensor:
    """Waves whose squares add up to a smoothed line of noise: eigenvectors of its correlation. -> (waves, side)

    Rounded to whole numbers of 1/512, so that sums of their products with whole numbers are exact.
    """
    at = np.arange(side)
    values, vectors = np.linalg.eigh(np.exp(-((at[:, None] - at) ** 2) / (4 * smoothness**2)))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    kept = int(np.searchsorted(np.cumsum(values), KEPT * values.sum())) + 1
    return torch.from_numpy((vectors[:, :kept] * np.sqrt(values[:kept]) * GRID).round().T.astype(np.float32).copy())


def _normal(bits: np.ndarray) -> Tensor:
    """Sums of the eight bytes of each number, less their mean: nearly normal, whole, and within 1,020. -> float32"""
    pairs = (bits & BYTES) + ((bits >> np.uint64(8)) & BYTES)
    sums = (pairs * PAIRS) >> np.uint64(48)
    return torch.from_numpy(sums.astype(np.float32)).sub_(1020)
