"""How a decoded picture becomes a network's input; it travels with the weights, and everything uses the same one."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from ..errors import BadRecipe
from .decoding import PIXELS, to_channels

BILINEAR = Image.Resampling.BILINEAR


@dataclass(frozen=True)
class Preprocess:
    """Geometry, colour mode and normalisation of one input.

    fit "crop": the shorter side becomes round(size / crop), then the centre is cut out; equal to the byte to
    torchvision's Resize and CenterCrop on Pillow images. "pad": the whole image, its aspect kept, centred on black;
    enlarged by whole factors only, shrunk as needed. "stretch": both sides resized. `mean` and `std` are per channel,
    in shares of white (0 to 1). Raises BadRecipe for values that make no input.
    """

    channels: int
    height: int
    width: int
    fit: Literal["crop", "pad", "stretch"] = "crop"
    crop: float = 0.875
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    interpolation: Literal["bilinear"] = "bilinear"  # antialiased, Pillow's
    whiten: Literal["none", "gcn", "zca"] = "none"  # what the network's first layer does beside; see layers.Whiten

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise BadRecipe(f"channels is {self.channels}; give 1 (grey) or 3 (colour)")
        if min(self.height, self.width) < 1:
            raise BadRecipe(f"size is {self.height}x{self.width}; both sides need at least one pixel")
        if self.fit not in ("crop", "pad", "stretch"):
            raise BadRecipe(f"fit is {self.fit!r}; give crop, pad or stretch")
        if not 0 < self.crop <= 1:
            raise BadRecipe(f"crop is {self.crop:g}; give a share of the shorter side above 0 and up to 1")
        for name, values, default in (("mean", self.mean, 0.0), ("std", self.std, 1.0)):
            if not values:
                object.__setattr__(self, name, (default,) * self.channels)
            elif len(values) != self.channels or not np.isfinite(values).all():
                raise BadRecipe(f"{name} is {values}; give {self.channels} finite numbers, one a channel")
        if min(self.std) <= 0:
            raise BadRecipe(f"std is {self.std}; give numbers above 0")

    def array(self, picture: Image.Image) -> np.ndarray:
        """Geometry and colour mode. Returns uint8 (height, width, channels). Raises BadImage as `to_channels` does."""
        picture = to_channels(picture, self.channels)
        fitted = {"crop": self._cropped, "pad": self._padded, "stretch": self._stretched}[self.fit](picture)
        return np.array(fitted).reshape(self.height, self.width, self.channels)

    def normalise(self, images: np.ndarray) -> np.ndarray:
        """(x / 255 - mean) / std. uint8 (N,height,width,channels) -> float32 (N,channels,height,width), contiguous."""
        scale, shift = self.affine
        planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
        planes *= scale[:, None, None]
        planes -= shift[:, None, None]
        return planes

    @property
    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """float32 scale and shift per channel: normalised = x * scale - shift, each step rounded to float32."""
        mean, std = np.array(self.mean, np.float64), np.array(self.std, np.float64)
        return (1 / (255 * std)).astype(np.float32), (mean / std).astype(np.float32)

    def _cropped(self, picture: Image.Image) -> Image.Image:
        width, height = picture.size
        tall, wide = round(self.height / self.crop), round(self.width / self.crop)
        if tall * width >= wide * height:  # the height decides
            new_width, new_height = int(tall * width / height), tall
        else:
            new_width, new_height = wide, int(wide * height / width)
        # torchvision rounds the margin half to even
        left, top = round((new_width - self.width) / 2), round((new_height - self.height) / 2)
        box = (left, top, left + self.width, top + self.height)
        if new_width * new_height <= PIXELS:
            return picture.resize((new_width, new_height), BILINEAR).crop(box)
        # A hair-thin image would need gigabytes on the way; its centre alone does not.
        across, down = width / new_width, height / new_height
        part = (box[0] * across, box[1] * down, min(box[2] * across, width), min(box[3] * down, height))
        return picture.resize((self.width, self.height), BILINEAR, box=part)

    def _padded(self, picture: Image.Image) -> Image.Image:
        width, height = picture.size
        factor = min(self.width // width, self.height // height)
        if factor >= 1:
            new = width * factor, height * factor
        else:
            share = min(self.width / width, self.height / height)
            new = (
                min(max(round(width * share), 1), self.width),
                min(max(round(height * share), 1), self.height),
            )
        if new != picture.size:
            picture = picture.resize(new, BILINEAR)
        if new == (self.width, self.height):
            return picture
        ground = Image.new(picture.mode, (self.width, self.height))
        ground.paste(picture, ((self.width - new[0]) // 2, (self.height - new[1]) // 2))
        return ground

    def _stretched(self, picture: Image.Image) -> Image.Image:
        return picture.resize((self.width, self.height), BILINEAR)
