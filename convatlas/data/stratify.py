"""The rules by which a set is divided: seeded, class by class."""

import numpy as np

from ..errors import BadRecipe
from . import draws

TEST = 0.2  # share of each class that becomes the test split where the data has none


def divide(labels: np.ndarray, *, test: float, validation: float, seed: int) -> dict[str, np.ndarray]:
    """Ascending positions of "train", "validation" and "test"; every position is in exactly one.

    Each class is shuffled by itself; its first `test` share, rounded half up, is the test split, the next `validation`
    share of the rest the validation split. Training keeps at least one image of each class, and the test split does
    not depend on `validation`. Raises BadRecipe for a share outside 0 to 1.
    """
    if not 0 <= validation < 1:
        raise BadRecipe(
            f"validation is {validation:g}; give the share of the training images to hold out, 0 to below 1"
        )
    parts: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        members = members[draws.order(draws.key(seed, draws.SPLIT, int(label)), len(members))]
        tests = min(_half_up(test * len(members)), len(members) - 1)
        held = min(_half_up(validation * (len(members) - tests)), len(members) - tests - 1)
        parts["test"].append(members[:tests])
        parts["validation"].append(members[tests : tests + held])
        parts["train"].append(members[tests + held :])
    return {name: np.sort(np.concatenate(part)) if part else np.zeros(0, np.int64) for name, part in parts.items()}


def folds(labels: np.ndarray, k: int, *, seed: int) -> np.ndarray:
    """The part, 1 to k, that each image is in. (N,) class numbers -> (N,) int64.

    Each class is shuffled by itself and dealt out in turns, the next class from where the last one stopped: the parts'
    sizes differ by one image at most, in each class and in all. A class of two images or more is never whole in one
    part. Raises BadRecipe for k below 2 or above the number of images.
    """
    if k < 2 or k > len(labels):
        raise BadRecipe(f"{k} folds of {len(labels):,} images; give 2 folds or more, and no more than images")
    part = np.empty(len(labels), np.int64)
    dealt = 0
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        # One number more than in `divide`: another stream.
        members = members[draws.order(draws.key(seed, draws.SPLIT, int(label), 1), len(members))]
        part[members] = (dealt + np.arange(len(members))) % k + 1
        dealt += len(members)
    return part


def _half_up(x: float) -> int:
    return int(x + 0.5)
