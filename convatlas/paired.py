"""Whether two classifiers differ, by what each answered to the same images."""

from collections.abc import Sequence
from functools import lru_cache

DRAWS = 10_000  # of the bootstrap
SEED = 20170414  # any would do; a fixed one gives the same interval for the same counts, always


def mcnemar(won: int, lost: int) -> float:
    """The two-sided p value of McNemar's exact test (McNemar 1947): the binomial's, with a half for each image.

    `won` images were right by the first classifier alone, `lost` by the second alone.
    """
    n, k = won + lost, min(won, lost)
    term = tail = 1
    for i in range(k):
        term = term * (n - i) // (i + 1)
        tail += term
    return min(1.0, 2 * tail / 2**n)  # Python divides whole numbers of any size


@lru_cache(maxsize=4096)
def bootstrap(won: int, lost: int, images: int) -> tuple[float, float]:
    """The percentile bootstrap's 95 % interval of the difference of two accuracies on the same images, as shares.

    10,000 draws of `images` images with replacement (Efron and Tibshirani 1993, chapter 13). Only how many images each
    classifier alone has right enters the difference, so a draw is multinomial over (won, lost, neither of these).
    """
    if not images:
        return -1.0, 1.0
    if not won + lost:
        return 0.0, 0.0
    import numpy as np

    shares = [won / images, lost / images, (images - won - lost) / images]
    drawn = np.random.Generator(np.random.PCG64(SEED)).multinomial(images, shares, size=DRAWS)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / images, (0.025, 0.975))
    return float(low), float(high)


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for having tested several times (Holm 1979): each still holds if the smallest ones do."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    corrected, least = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = least
    return corrected
