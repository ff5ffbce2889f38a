"""Mean and standard deviation of a training set, for the normalisation that travels with the weights."""

import numpy as np

from ..errors import BadData, BadImage
from .decoding import printable
from .parallel import in_order
from .preprocess import Preprocess
from .sets import Split, spaced

IMAGES = 2000

Moments = tuple[tuple[float, ...], tuple[float, ...]]
GREY = np.arange(256) / 255


def statistics(split: Split, preprocess: Preprocess, *, workers: int = 0) -> Moments:
    """Mean and standard deviation per channel, in shares of white.

    Of all images of a split in memory (2,000 where they would take over 1 GB at the input's size); of up to 2,000
    evenly spaced files.

    They are taken after `preprocess.array`, black borders included, and counted exactly. Files that cannot be decoded
    are passed over; `workers` threads decode. A constant channel gets 1/255 for its deviation. Raises BadData when no
    image can be decoded.
    """
    histogram = np.zeros((preprocess.channels, 256), np.int64)
    if split.fits(preprocess):
        prepared = split.prepared(preprocess)
        for i in range(0, len(split), IMAGES):
            histogram += _histogram(prepared[i : i + IMAGES])
    else:

        def count(number: int) -> np.ndarray | None:
            try:
                return _histogram(preprocess.array(split.picture(number, preprocess.channels)))
            except BadImage:
                return None

        for counts in in_order(count, spaced(len(split), IMAGES), workers):
            if counts is not None:
                histogram += counts
    pixels = histogram.sum(axis=1)
    if not pixels.all():
        raise BadData(
            f"no image of the {printable(split.name)} split can be decoded; `convatlas check-data` names each"
        )
    mean = histogram @ GREY / pixels
    square = histogram @ GREY**2 / pixels
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return tuple(mean.tolist()), tuple(np.maximum(std, 1 / 255).tolist())


def _histogram(pixels: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(pixels[..., c].ravel(), minlength=256) for c in range(pixels.shape[-1])])
