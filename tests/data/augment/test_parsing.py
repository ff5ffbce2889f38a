"""Names become plans, and one line says what is wrong with a name."""

import pytest

from convatlas.data.augment import KNOWN, Plan, parse
from convatlas.data.augment.automatic import RandAugment
from convatlas.data.augment.colour import Colouring, Jitter, PcaColour
from convatlas.data.augment.distortion import Affine, Distortion, Elastic
from convatlas.data.augment.geometry import Area, Flip, PadCrop, Side
from convatlas.data.augment.mixing import CutMix, Mixing, MixUp
from convatlas.data.augment.parsing import NAMES
from convatlas.data.moments import Colours
from convatlas.errors import BadRecipe


def test_names() -> None:
    assert parse(()) == Plan(None, ())
    assert parse(("pad-crop 4", "flip")) == Plan(None, (PadCrop(4), Flip()))
    assert parse(("reflect-crop 4",)) == Plan(None, (PadCrop(4, "mirrored"),))
    assert parse(("area 0.08-1", "flip")) == Plan(Area(0.08, 1), (Flip(),))
    assert parse(("flip", " side 256-480 ")) == Plan(Side(256, 480), (Flip(),))
    assert parse(("randaugment 2 9", "mixup 0.2", "cutmix 1")) == Plan(
        None, (RandAugment(2, 9),), Mixing((MixUp(0.2), CutMix(1)))
    )


def test_neighbours_are_one_pass_over_the_pixels() -> None:
    colours = parse(("colour 0.4", "pca-colour 0.1", "flip", "colour 0.5"))
    assert colours.changes == (Colouring((Jitter(0.4), PcaColour(0.1))), Flip(), Colouring((Jitter(0.5),)))
    affine, elastic = Affine(10, 0.1, 5, 2), Elastic(34, 4)
    for names in (("affine 10 0.1 5 2", "elastic 34 4"), ("elastic 34 4", "affine 10  0.1 5 2")):
        assert parse(names).changes == (Distortion(affine, elastic),)
    twice = parse(("elastic 34 4", "elastic 34 4", "affine 10 0.1 5 2"))
    assert twice.changes == (Distortion(None, elastic), Distortion(affine, elastic))


def test_only_pca_colour_needs_colours() -> None:
    assert not parse(("colour 0.4", "flip")).needs_colours
    plan = parse(("flip", "colour 0.4", "pca-colour 0.1"))
    assert plan.needs_colours
    colours = Colours(((1.0,),), (2.0,))
    assert plan.with_colours(colours).changes == (Flip(), Colouring((Jitter(0.4), PcaColour(0.1, colours))))


def test_known_has_every_name() -> None:
    assert [name.split()[0] for name in KNOWN.split(", ")] == list(NAMES)


AREA = "needs two shares of the area, 0 < A <= B <= 1, for example 'area 0.08-1'"
SIDE = "needs two lengths of the shorter side for an input of 224, 224 <= A <= B, for example 'side 256-480'"
PAD = "needs a whole number of pixels from 1 on, for example 'pad-crop 4'"
AFFINE = (
    "needs up to how many degrees it turns (0 to 180), which share it grows or shrinks (0 to 0.9), how many degrees it "
    "is sheared (0 to 60) and pixels it is shifted, not all of them 0, for example 'affine 10 0.1 5 2'"
)
ELASTIC = (
    "needs the strength above 0 and the smoothness of 0.5 or more of the field, in pixels, for example 'elastic 34 4'"
)
RANDAUGMENT = "needs a number of operations from 1 to 14 and a magnitude from 0 to 30, for example 'randaugment 2 9'"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["fip"],
            "no augmentation named 'fip'; known: flip, pad-crop K, reflect-crop K, area A-B, side A-B, colour B, "
            "pca-colour S, affine R S H T, elastic A S, randaugment N M, mixup A, cutmix A",
        ),
        (["flip 0.5"], "augmentation 'flip 0.5' needs no number, for example 'flip'"),
        (["pad-crop"], f"augmentation 'pad-crop' {PAD}"),
        (["pad-crop 0"], f"augmentation 'pad-crop 0' {PAD}"),
        (["pad-crop 1.5"], f"augmentation 'pad-crop 1.5' {PAD}"),
        (["reflect-crop -1"], f"augmentation 'reflect-crop -1' {PAD.replace('pad', 'reflect')}"),
        (["area 0-1"], f"augmentation 'area 0-1' {AREA}"),
        (["area 0.5"], f"augmentation 'area 0.5' {AREA}"),
        (["area 0.5-1.1"], f"augmentation 'area 0.5-1.1' {AREA}"),
        (["area 1-0.5"], f"augmentation 'area 1-0.5' {AREA}"),
        (["side 128-480"], f"augmentation 'side 128-480' {SIDE}"),
        (["side 480-256"], f"augmentation 'side 480-256' {SIDE}"),
        (["colour 1.5"], "augmentation 'colour 1.5' needs a number above 0 and up to 1, for example 'colour 0.4'"),
        (["pca-colour 0"], "augmentation 'pca-colour 0' needs a number above 0, for example 'pca-colour 0.1'"),
        (["affine 10 0.1"], f"augmentation 'affine 10 0.1' {AFFINE}"),
        (["affine 0 0 0 0"], f"augmentation 'affine 0 0 0 0' {AFFINE}"),
        (["affine 10 1 0 0"], f"augmentation 'affine 10 1 0 0' {AFFINE}"),
        (["elastic 0 4"], f"augmentation 'elastic 0 4' {ELASTIC}"),
        (["elastic 34 0.1"], f"augmentation 'elastic 34 0.1' {ELASTIC}"),
        (["randaugment 2 31"], f"augmentation 'randaugment 2 31' {RANDAUGMENT}"),
        (["randaugment 2.5 3"], f"augmentation 'randaugment 2.5 3' {RANDAUGMENT}"),
        (["mixup"], "augmentation 'mixup' needs a number above 0, for example 'mixup 0.2'"),
        (["cutmix 0"], "augmentation 'cutmix 0' needs a number above 0, for example 'cutmix 1'"),
        (
            ["area 0.1-1", "reflect-crop 4"],
            "augmentations 'area 0.1-1' and 'reflect-crop 4' both choose a crop; keep one of them",
        ),
    ],
)
def test_names_that_cannot_be(names: list[str], message: str) -> None:
    with pytest.raises(BadRecipe) as caught:
        parse(names)
    assert str(caught.value) == message
