"""RandAugment, as torchvision has it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...errors import MissingExtra
from .. import draws

BINS = 31  # of the magnitude, as in torchvision


@dataclass(frozen=True)
class RandAugment:
    """`operations` of fourteen, drawn for each image, in the strength `magnitude` of 0 to 30 (Cubuk et al. 2020).

    It is torchvision's own, on Pillow images, with its generator set anew for each image and put back afterwards.
    Raises MissingExtra without torchvision.
    """

    operations: int
    magnitude: int

    def __post_init__(self) -> None:
        _transform(self.operations, self.magnitude)

    def apply(self, images: np.ndarray, seed: int, epoch: int, index: np.ndarray) -> np.ndarray:
        """uint8 (N,H,W,C) -> the same shape."""
        transform = _transform(self.operations, self.magnitude)
        out = np.empty_like(images)
        before = torch.get_rng_state()
        try:
            for i, number in enumerate(index.tolist()):
                # torch.manual_seed would reach the GPUs' generators as well
                torch.default_generator.manual_seed(draws.key(seed, epoch, draws.RANDAUGMENT, number) >> 1)
                image = Image.fromarray(images[i].squeeze(-1) if images.shape[-1] == 1 else images[i])
                out[i] = np.asarray(transform(image)).reshape(images.shape[1:])
        finally:
            torch.set_rng_state(before)
        return out


@lru_cache(maxsize=4)
def _transform(operations: int, magnitude: int) -> Callable[[Image.Image], Image.Image]:
    try:
        from torchvision.transforms import v2
    except ImportError:
        raise MissingExtra("torchvision", "torchvision", "augmentation 'randaugment'") from None
    transform: Any = v2.RandAugment(operations, magnitude, BINS)
    return transform
