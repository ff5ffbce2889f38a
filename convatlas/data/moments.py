"""What a training set's pixels are like: for the normalisation that travels with the weights, and for colour noise."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import BadData, BadImage, BadRecipe
from .decoding import printable
from .parallel import in_order
from .preprocess import Preprocess
from .sets import Split, spaced

IMAGES = 2000
PIXELS = 2**21  # that are looked at together
WHITENED = 50_000  # images that a whitening is taken from at most: the training set of CIFAR-10
NUMBERS = 3 * 64 * 64  # of an image that can be whitened; the matrix has their square

Moments = tuple[tuple[float, ...], tuple[float, ...]]
GREY = np.arange(256) / 255

# Goodfellow et al. 2013, "Maxout networks", whose preprocessing NiN takes (section 4.2): pylearn2's CIFAR10(gcn=55.)
# and ZCA with its default filter_bias.
SCALE, BIAS = 55.0, 0.1
FLAT = 1e-3  # a norm that no image of 8 bits has, from 0 to 1, unless it is of one value; pylearn2 has 55e-8 in float64


@dataclass(frozen=True)
class Colours:
    """Principal components of a training set's pixels, 0 to 255: for each its direction and standard deviation.

    `vectors` are rows of unit length, one number a channel; the largest deviation comes first.
    """

    vectors: tuple[tuple[float, ...], ...]
    deviations: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Whitening:
    """What `layers.Whiten` subtracts and multiplies with, float32 (C*H*W,) and (C*H*W, C*H*W); empty for "gcn"."""

    mean: np.ndarray
    matrix: np.ndarray


def statistics(split: Split, preprocess: Preprocess, *, workers: int = 0) -> Moments:
    """Mean and standard deviation per channel, in shares of white.

    Of all images of a split in memory (2,000 where they would take over 1 GB at the input's size); of up to 2,000
    evenly spaced files.

    They are taken after `preprocess.array`, black borders included, and counted exactly. Files that cannot be decoded
    are passed over; `workers` threads decode. A constant channel gets 1/255 for its deviation. Raises BadData when no
    image can be decoded.
    """
    histogram = np.zeros((preprocess.channels, 256), np.int64)
    for pixels in _arrays(split, preprocess, None, workers):
        histogram += np.stack([np.bincount(pixels[..., c].ravel(), minlength=256) for c in range(pixels.shape[-1])])
    pixels = histogram.sum(axis=1)
    mean = histogram @ GREY / pixels
    square = histogram @ GREY**2 / pixels
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return tuple(mean.tolist()), tuple(np.maximum(std, 1 / 255).tolist())


def colours(split: Split, preprocess: Preprocess, *, workers: int = 0) -> Colours:
    """The principal components of the pixels of the images that `statistics` sees, borders included. Raises BadData."""
    count, total = 0, np.zeros(preprocess.channels)
    products = np.zeros((preprocess.channels, preprocess.channels))
    for images in _arrays(split, preprocess, None, workers):
        pixels = images.reshape(-1, preprocess.channels).astype(np.float64)
        count += len(pixels)
        total += pixels.sum(axis=0)
        products += pixels.T @ pixels
    mean = total / count
    values, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    values, rows = np.maximum(values[::-1], 0), vectors.T[::-1]
    rows = rows * np.where(rows.sum(axis=1) < 0, -1, 1)[:, None]  # either sign would do; this one is always the same
    return Colours(tuple(tuple(row) for row in rows.tolist()), tuple(np.sqrt(values).tolist()))


def whitening(split: Split, preprocess: Preprocess, kind: Literal["gcn", "zca"], *, workers: int = 0) -> Whitening:
    """What the training images give to `layers.Whiten`: nothing for "gcn"; mean and matrix of their values for "zca".

    Of up to 50,000 evenly spaced images. The matrix is the inverse root of (covariance + 0.1) of the images after
    global contrast normalisation. Raises BadRecipe for inputs of over 12,288 numbers, BadData.
    """
    if kind == "gcn":
        return Whitening(np.zeros(0, np.float32), np.zeros((0, 0), np.float32))
    numbers = preprocess.channels * preprocess.height * preprocess.width
    if numbers > NUMBERS:
        raise BadRecipe(
            f"whiten zca at {preprocess.height}x{preprocess.width} needs a matrix of {numbers:,} x {numbers:,}; "
            f"at most {NUMBERS:,} numbers an image can be whitened, so give a smaller size, or whiten gcn"
        )
    count, total, products = 0, np.zeros(numbers), np.zeros((numbers, numbers))
    for images in _arrays(split, preprocess, spaced(len(split), WHITENED), workers):
        rows = _contrast_normalised(images.transpose(0, 3, 1, 2).reshape(len(images), -1))
        count += len(rows)
        total += rows.sum(axis=0, dtype=np.float64)
        products += rows.T @ rows
    mean = total / count
    products /= count
    products -= np.outer(mean, mean)
    products[np.diag_indices(numbers)] += BIAS
    values, vectors = np.linalg.eigh(products)
    matrix = (vectors / np.sqrt(np.maximum(values, BIAS))) @ vectors.T
    return Whitening(mean.astype(np.float32), matrix.astype(np.float32))


def _contrast_normalised(rows: np.ndarray) -> np.ndarray:
    """Each image less its mean, with a norm of 55. uint8 (N,numbers) -> float32"""
    values = rows.astype(np.float64) / 255
    values -= values.mean(axis=1, keepdims=True)
    norms = np.sqrt((values**2).sum(axis=1, keepdims=True))
    return (values / np.where(norms < FLAT, 1, norms / SCALE)).astype(np.float32)


def _arrays(split: Split, preprocess: Preprocess, numbers: list[int] | None, workers: int) -> Iterator[np.ndarray]:
    """Images through `preprocess.array`, some at a time, uint8 (n,height,width,channels).

    Those of `numbers`; without them all of a split in memory, and 2,000 evenly spaced ones of any other. Raises BadData
    when none can be decoded.
    """

    def read(number: int) -> np.ndarray | None:
        try:
            return preprocess.array(split.picture(number, preprocess.channels))
        except BadImage:
            return None

    if split.fits(preprocess):
        prepared = split.prepared(preprocess)
        chosen = np.arange(len(split)) if numbers is None else np.array(numbers)
        yield from (prepared[chosen[i : i + IMAGES]] for i in range(0, len(chosen), IMAGES))
        return
    lot: list[np.ndarray] = []
    any_good, most = False, max(PIXELS // (preprocess.height * preprocess.width), 1)
    for image in in_order(read, spaced(len(split), IMAGES) if numbers is None else numbers, workers):
        if image is not None:
            lot.append(image)
            any_good = True
        if len(lot) == most:
            yield np.stack(lot)
            lot = []
    if lot:
        yield np.stack(lot)
    if not any_good:
        raise BadData(
            f"no image of the {printable(split.name)} split can be decoded; `convatlas check-data` names each"
        )
