"""Geometry by hand, and distributions against torchvision's."""

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import transforms as v1

from convatlas.data.augment import resized
from convatlas.data.augment.geometry import Area, Flip, PadCrop, Side


def numbered(n: int, height: int = 4, width: int = 5, channels: int = 3) -> np.ndarray:
    return np.arange(n * height * width * channels).reshape(n, height, width, channels).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_flip_mirrors_half_and_nothing_else(channels: int) -> None:
    images = numbered(2000, channels=channels)
    out = Flip().apply(images.copy(), 0, 0, np.arange(2000))
    mirrored = (out == images[:, :, ::-1]).all((1, 2, 3))
    assert (mirrored | (out == images).all((1, 2, 3))).all()
    assert abs(mirrored.sum() - 1000) < 5 * np.sqrt(500)  # five standard deviations of a fair coin


@pytest.mark.parametrize(("filled", "mode"), [("black", "constant"), ("mirrored", "reflect")])
def test_pad_crop_cuts_from_the_padded_image_at_every_place(
    filled: Literal["black", "mirrored"], mode: Literal["constant", "reflect"]
) -> None:
    n, border = 4000, 2
    images = np.random.default_rng(0).integers(1, 256, (n, 4, 5, 3), np.uint8)
    out = PadCrop(border, filled).apply(images.copy(), 3, 1, np.arange(n))
    places = np.zeros((5, 5), int)
    for image, cut in zip(images, out, strict=True):
        padded = np.pad(image, ((border, border), (border, border), (0, 0)), mode)
        hits = [(y, x) for y in range(5) for x in range(5) if np.array_equal(padded[y : y + 4, x : x + 5], cut)]
        assert len(hits) == 1
        places[hits[0]] += 1
    expected = n / 25
    assert ((places - expected) ** 2 / expected).sum() < 24 + 6 * np.sqrt(48)  # chi-square, 24 degrees of freedom


def test_a_mirrored_border_is_torchs() -> None:
    images = numbered(1, 6, 6)
    theirs = torch.nn.ReflectionPad2d(2)(torch.from_numpy(images).permute(0, 3, 1, 2).float())[0].permute(1, 2, 0)
    for i in range(20):
        cut = PadCrop(2, "mirrored").apply(images.copy(), i, 0, np.arange(1))[0]
        assert any(np.array_equal(theirs[y : y + 6, x : x + 6], cut) for y in range(5) for x in range(5))


@pytest.mark.parametrize("change", [Flip(), PadCrop(2), PadCrop(2, "mirrored")])
def test_an_image_is_changed_the_same_in_any_batch(change: Flip | PadCrop) -> None:
    images = numbered(30)
    index = np.arange(100, 130)
    whole = change.apply(images.copy(), 5, 2, index)
    for i in range(30):
        assert np.array_equal(change.apply(images[i : i + 1].copy(), 5, 2, index[i : i + 1])[0], whole[i])
    assert not np.array_equal(change.apply(images.copy(), 5, 3, index), whole)  # another epoch
    assert not np.array_equal(change.apply(images.copy(), 6, 2, index), whole)  # another seed


@pytest.mark.parametrize("size", [(500, 375), (100, 400), (40, 41)])
@pytest.mark.parametrize("share", [(0.08, 1.0), (0.5, 0.9)])
def test_area_has_the_distribution_of_random_resized_crop(size: tuple[int, int], share: tuple[float, float]) -> None:
    n = 3000
    area = Area(*share)
    u = area.draws(1, 0, np.arange(n))
    ours = np.array([area.box(row, size, (224, 224)) for row in u], float)
    torch.manual_seed(0)
    picture = Image.new("L", size)
    params = [v1.RandomResizedCrop.get_params(picture, share, (3 / 4, 4 / 3)) for _ in range(n)]
    theirs = np.array([(left, top, left + w, top + h) for top, left, h, w in params], float)
    for measure in (
        lambda b: b[:, 0],
        lambda b: b[:, 1],
        lambda b: b[:, 2] - b[:, 0],
        lambda b: b[:, 3] - b[:, 1],
        lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]),
        lambda b: np.log((b[:, 2] - b[:, 0]) / (b[:, 3] - b[:, 1])),
        lambda b: b[:, 0] + b[:, 2],
    ):
        assert kolmogorov(measure(ours), measure(theirs)) < 2.2 * np.sqrt(2 / n)  # once in 8,000 by chance, each


def kolmogorov(a: np.ndarray, b: np.ndarray) -> float:
    """The largest distance of two samples' distribution functions (Kolmogorov and Smirnov)."""
    at = np.concatenate([a, b])
    share_a, share_b = (np.searchsorted(np.sort(s), at, side="right") / len(s) for s in (a, b))
    return float(np.abs(share_a - share_b).max())


@given(
    st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 10**6), st.sampled_from([Area(0.08, 1), Side(256, 480)])
)
def test_a_box_lies_in_the_image(width: int, height: int, number: int, part: Area | Side) -> None:
    left, top, right, bottom = part.box(part.draws(0, 0, np.array([number]))[0], (width, height), (112, 112))
    assert 0 <= left < right <= width and 0 <= top < bottom <= height


def test_an_impossible_area_falls_back_to_the_centre_as_torchvision_does() -> None:
    for size in ((1000, 10), (10, 1000), (900, 30)):
        area = Area(1, 1)
        box = area.box(area.draws(0, 0, np.array([0]))[0], size, (8, 8))
        top, left, h, w = v1.RandomResizedCrop.get_params(Image.new("L", size), [1.0, 1.0], [3 / 4, 4 / 3])
        assert box == (left, top, left + w, top + h)


@pytest.mark.parametrize("size", [(112, 112), (224, 224)])
def test_side_is_even_in_length_and_place(size: tuple[int, int]) -> None:
    n, (width, height) = 4000, (1000, 600)
    side = Side(256, 480)
    boxes = np.array([side.box(u, (width, height), size) for u in side.draws(2, 0, np.arange(n))])
    parts = boxes[:, 2] - boxes[:, 0]
    assert np.abs(parts - (boxes[:, 3] - boxes[:, 1])).max() <= 1
    lengths = size[0] / parts * height  # of the shorter side when the part is as large as the input
    low, high = 256 * size[0] / 224, 480 * size[0] / 224
    assert low * 0.995 <= lengths.min() < low * 1.02 and high * 0.98 < lengths.max() <= high * 1.005
    assert lengths.mean() == pytest.approx((low + high) / 2, rel=0.02)
    for at, room in ((boxes[:, 0], width - parts), (boxes[:, 1], height - (boxes[:, 3] - boxes[:, 1]))):
        place = at / room
        assert place.mean() == pytest.approx(0.5, abs=0.025) and np.quantile(place, 0.1) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [(30, 40), (90, 20), (64, 48), (7, 200)])
def test_resized_equals_pillow_to_a_rounding(mode: str, size: tuple[int, int]) -> None:
    chance = np.random.default_rng(0)
    picture = Image.fromarray(chance.integers(0, 256, (64, 48, 3), np.uint8)).convert(mode)
    ours = resized(picture, size)
    theirs = np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR)).reshape(ours.shape)
    assert ours.dtype == np.uint8 and ours.shape == (*size, len(mode))
    assert np.abs(ours.astype(int) - theirs).max() <= 1
