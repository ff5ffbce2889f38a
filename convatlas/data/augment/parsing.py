"""The names that recipes use for augmentation, read into a plan."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ...errors import BadRecipe
from ..moments import Colours
from .automatic import BINS, RandAugment
from .colour import Colouring, Jitter, PcaColour
from .distortion import Affine, Distortion, Elastic
from .geometry import INPUT, Area, Flip, PadCrop, Side
from .mixing import CutMix, Mixing, MixUp

KNOWN = (
    "flip, pad-crop K, reflect-crop K, area A-B, side A-B, colour B, pca-colour S, affine R S H T, elastic A S, "
    "randaugment N M, mixup A, cutmix A"
)

NUMBER = r"(\d+(?:\.\d+)?)"
MARGIN = 1000  # pixels of a border at most

Step = Flip | PadCrop | Area | Side | Jitter | PcaColour | Affine | Elastic | RandAugment | MixUp | CutMix


class Change(Protocol):
    """What is done to a batch after the geometry."""

    def apply(self, images: np.ndarray, seed: int, epoch: int, index: np.ndarray) -> np.ndarray:
        """uint8 (N,H,W,C), which may be changed in place -> the same shape. `index` (N,) says which images."""


@dataclass(frozen=True)
class Plan:
    """Augmentation in the order it is done: the part of the original, if any, changes of the batch, and mixing."""

    part: Area | Side | None
    changes: tuple[Change, ...]
    mixing: Mixing | None = None

    @property
    def needs_colours(self) -> bool:
        """Whether a change adds the data's own principal components (`moments.colours`)."""
        return any(isinstance(change, Colouring) and change.needs_colours for change in self.changes)

    def with_colours(self, colours: Colours) -> "Plan":
        changes = (c.with_colours(colours) if isinstance(c, Colouring) else c for c in self.changes)
        return replace(self, changes=tuple(changes))


def parse(names: Sequence[str]) -> Plan:
    """The plan that a recipe's names give.

    Changes of colour that follow each other are one pass over the pixels; so are "affine" and "elastic". Raises
    BadRecipe for an unknown name, a bad number or two crops, MissingExtra for "randaugment" without torchvision.
    """
    steps = [_step(name.strip()) for name in names]
    crops = [name for name, step in zip(names, steps, strict=True) if isinstance(step, Area | Side | PadCrop)]
    if len(crops) > 1:
        raise BadRecipe(f"augmentations {crops[0]!r} and {crops[1]!r} both choose a crop; keep one of them")
    part: Area | Side | None = None
    changes: list[Change] = []
    ways: list[MixUp | CutMix] = []
    for step in steps:
        last = changes[-1] if changes else None
        if isinstance(step, Area | Side):
            part = step
        elif isinstance(step, MixUp | CutMix):
            ways.append(step)
        elif isinstance(step, Jitter | PcaColour):
            before = (changes.pop(), last.steps)[1] if isinstance(last, Colouring) else ()
            changes.append(Colouring((*before, step)))
        elif isinstance(step, Affine):
            joined = isinstance(last, Distortion) and last.affine is None
            changes.append(replace(changes.pop(), affine=step) if joined else Distortion(step, None))  # type: ignore[type-var]
        elif isinstance(step, Elastic):
            joined = isinstance(last, Distortion) and last.elastic is None
            changes.append(replace(changes.pop(), elastic=step) if joined else Distortion(None, step))  # type: ignore[type-var]
        else:
            changes.append(step)
    return Plan(part, tuple(changes), Mixing(tuple(ways)) if ways else None)


@dataclass(frozen=True)
class _Name:
    """How the numbers after one name are read."""

    make: Callable[..., Step]
    needs: str
    example: str
    allowed: Callable[..., bool]
    numbers: int = 1
    between: str = " "
    whole: bool = False


def _within(*bounds: float) -> Callable[..., bool]:
    return lambda *given: all(0 <= g <= b for g, b in zip(given, bounds, strict=True)) and any(given)


SHARES = "two shares of the area, 0 < A <= B <= 1"
SIDES = f"two lengths of the shorter side for an input of {INPUT}, {INPUT} <= A <= B"
TURNS = (
    "up to how many degrees it turns (0 to 180), which share it grows or shrinks (0 to 0.9), how many degrees it is "
    "sheared (0 to 60) and pixels it is shifted, not all of them 0"
)
BORDER = "a whole number of pixels from 1 on"
ABOVE = "a number above 0"

NAMES = {
    "flip": _Name(Flip, "no number", "flip", lambda: True, 0),
    "pad-crop": _Name(PadCrop, BORDER, "4", _within(MARGIN), whole=True),
    "reflect-crop": _Name(lambda k: PadCrop(k, "mirrored"), BORDER, "4", _within(MARGIN), whole=True),
    "area": _Name(Area, SHARES, "0.08-1", lambda a, b: 0 < a <= b <= 1, 2, "-"),
    "side": _Name(Side, SIDES, "256-480", lambda a, b: INPUT <= a <= b, 2, "-"),
    "colour": _Name(Jitter, "a number above 0 and up to 1", "0.4", _within(1)),
    "pca-colour": _Name(PcaColour, ABOVE, "0.1", _within(float("inf"))),
    "affine": _Name(Affine, TURNS, "10 0.1 5 2", _within(180, 0.9, 60, MARGIN), 4),
    "elastic": _Name(
        Elastic,
        "the strength above 0 and the smoothness of 0.5 or more of the field, in pixels",
        "34 4",
        lambda a, s: a > 0 and s >= 0.5,
        2,
    ),
    "randaugment": _Name(
        RandAugment,
        f"a number of operations from 1 to 14 and a magnitude from 0 to {BINS - 1}",
        "2 9",
        lambda n, m: 1 <= n <= 14 and m < BINS,
        2,
        whole=True,
    ),
    "mixup": _Name(MixUp, ABOVE, "0.2", _within(float("inf"))),
    "cutmix": _Name(CutMix, ABOVE, "1", _within(float("inf"))),
}


def _step(name: str) -> Step:
    kind, _, text = name.partition(" ")
    known = NAMES.get(kind)
    if known is None:
        raise BadRecipe(f"no augmentation named {name!r}; known: {KNOWN}")
    gap = r"\s+" if known.between == " " else known.between
    found = re.fullmatch(gap.join([r"(\d+)" if known.whole else NUMBER] * known.numbers), text.strip())
    given = tuple((int if known.whole else float)(n) for n in found.groups()) if found else ()
    if not found or not known.allowed(*given):
        example = kind if not known.numbers else f"{kind} {known.example}"
        raise BadRecipe(f"augmentation {name!r} needs {known.needs}, for example {example!r}")
    return known.make(*given)
