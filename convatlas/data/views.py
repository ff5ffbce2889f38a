"""What a network is shown of each test image, by the names that recipes use; `center` is `Preprocess.array` itself.

"ten-crop" is AlexNet's (section 4.1), "dense" VGG's (section 3.2), "multi-scale" VGG's (section 4.2) and ResNet's
(section 3.4). Numbers are shorter sides for an input of 224 and scale with the input, as those of "side A-B" do.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..errors import BadImage, UnknownName, UsageError
from .checking import bad_file
from .decoding import BadFile, to_channels
from .parallel import in_order
from .preprocess import BILINEAR, Preprocess
from .sets import Split

KNOWN = "center, ten-crop, dense, dense S, multi-scale S1,S2,..."
INPUT = 224  # the input size that the sides are given for
LARGEST = 10 * INPUT
LONGEST = 8  # longer sides in shorter ones; of a longer image its middle is looked at, for memory's sake
NUMBER = r"\d{1,5}(?:\.\d{1,3})?"


@dataclass(frozen=True)
class TenCrop:
    """Four corners and the centre of the image as `center` resizes it, and the same of its mirror image.

    Equal to the byte to torchvision's TenCrop. With fit "pad" and "stretch" the image is first brought to the input's
    size divided by `crop`.
    """

    def pictures(self, picture: Image.Image, preprocess: Preprocess) -> list[np.ndarray]:
        """Ten arrays uint8 (height,width,channels) of one image."""
        p = preprocess
        whole = _resized(picture, p, (round(p.height / p.crop), round(p.width / p.crop)))
        return [part for side in (whole, whole[:, ::-1]) for part in _five(side, (p.height, p.width))]


@dataclass(frozen=True)
class Scales:
    """The whole image, its shorter side as each number says, and its mirror image; () is `center`'s shorter side."""

    sides: tuple[float, ...] = ()

    def pictures(self, picture: Image.Image, preprocess: Preprocess) -> list[np.ndarray]:
        """Two arrays uint8 (H,W,channels) for each side."""
        found = []
        for size in self._sizes(preprocess):
            whole = _resized(picture, preprocess, size)
            found += [whole, whole[:, ::-1]]
        return found

    def _sizes(self, p: Preprocess) -> list[tuple[int, int]]:
        if not self.sides:
            return [(round(p.height / p.crop), round(p.width / p.crop))]
        return [(round(p.height * side / INPUT), round(p.width * side / INPUT)) for side in self.sides]


class Pictures(NamedTuple):
    """All that is shown of one image; `number` is its place in the split."""

    number: int
    arrays: list[np.ndarray]


def parse(name: str) -> TenCrop | Scales | None:
    """The view of that name; None is `center`. Raises UnknownName, and UsageError for sides that it cannot have."""
    kind, _, rest = name.strip().partition(" ")
    texts = [part.strip() for part in rest.split(",")] if rest.strip() else []
    if kind not in ("center", "ten-crop", "dense", "multi-scale") or (texts and kind in ("center", "ten-crop")):
        raise UnknownName("test view", name, ("center", "ten-crop", "dense", "multi-scale"), f"known: {KNOWN}")
    if kind == "center":
        return None
    if kind == "ten-crop":
        return TenCrop()
    sides = tuple(float(text) for text in texts if re.fullmatch(NUMBER, text))
    good = len(sides) == len(texts) and all(INPUT <= side <= LARGEST for side in sides)
    if kind == "dense" and not (good and len(sides) <= 1):
        raise UsageError(
            f"test view {name!r} needs one length of the shorter side for an input of {INPUT}, from {INPUT} to "
            f"{LARGEST}, for example 'dense 384'"
        )
    if kind == "multi-scale" and not (good and sides):
        raise UsageError(
            f"test view {name!r} needs lengths of the shorter side for an input of {INPUT}, from {INPUT} to {LARGEST}, "
            "separated by commas, for example 'multi-scale 224,256,384'"
        )
    return Scales(sides)


def read(
    split: Split, preprocess: Preprocess, view: TenCrop | Scales, numbers: Sequence[int], workers: int
) -> Iterator[Pictures | BadFile]:
    """The images of a split with these numbers, in that order; `workers` threads decode."""

    def one(number: int) -> Pictures | BadFile:
        try:
            picture = split.picture(number, preprocess.channels)
            return Pictures(number, view.pictures(picture, preprocess))
        except BadImage as error:
            return bad_file(split.named(number), error)

    yield from in_order(one, numbers, workers)


def _resized(picture: Image.Image, preprocess: Preprocess, size: tuple[int, int]) -> np.ndarray:
    """The whole image so that (height, width) is covered (fit "crop") or met. Returns uint8 (H,W,channels)."""
    picture = to_channels(picture, preprocess.channels)
    if preprocess.fit != "crop":
        return replace(preprocess, height=size[0], width=size[1]).array(picture)
    picture = _middle(picture)
    width, height = picture.size
    tall, wide = size
    # The same integers as Preprocess has them, which are torchvision's.
    new = (int(tall * width / height), tall) if tall * width >= wide * height else (wide, int(wide * height / width))
    pixels = np.array(picture.resize(new, BILINEAR))
    return pixels.reshape(new[1], new[0], preprocess.channels)


def _middle(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    across, down = min(width, LONGEST * height), min(height, LONGEST * width)
    if (across, down) == (width, height):
        return picture
    left, top = (width - across) // 2, (height - down) // 2
    return picture.crop((left, top, left + across, top + down))


def _five(whole: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    """Corners (top left, top right, bottom left, bottom right) and centre. (H,W,C) -> 5 x (height,width,C)"""
    (height, width), (tall, wide) = whole.shape[:2], size
    down, right = height - tall, width - wide
    # torchvision rounds the centre's margin half to even
    places = ((0, 0), (0, right), (down, 0), (down, right), (round(down / 2), round(right / 2)))
    return [whole[top : top + tall, left : left + wide] for top, left in places]
