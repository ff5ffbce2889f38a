"""Colours against torchvision's functions, AlexNet's formula, and the same in any batch."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from convatlas.data import draws
from convatlas.data.augment.colour import Colouring, Jitter, PcaColour
from convatlas.data.moments import Colours

OWN = Colours(((0.6, 0.64, 0.48), (0.8, -0.48, -0.36), (0.0, 0.6, -0.8)), (60.0, 20.0, 5.0))
CHANGES = [Colouring((Jitter(0.4),)), Colouring((PcaColour(0.1, OWN),)), Colouring((Jitter(1.0), PcaColour(0.5, OWN)))]


def pictures(n: int, low: int = 0, high: int = 256, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, (n, 9, 7, channels), np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_is_torchvisions_three_adjustments_in_some_order(channels: int) -> None:
    amount, n = 0.2, 40
    images = pictures(n, 90, 140, channels)  # of middle tones, so that nothing is clipped in between
    out = Colouring((Jitter(amount),)).apply(images.copy(), 4, 2, np.arange(n))
    u = np.stack([draws.uniform(draws.key(4, 2, draws.COLOUR, j), np.arange(n)) for j in range(3)])
    factors = 1 + amount * (2 * u - 1)
    adjust = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
    met = set()
    for i in range(n):
        ways = []
        for order in permutations(range(3)):
            x = torch.from_numpy(images[i]).permute(2, 0, 1) / 255
            for kind in order:
                if channels == 3 or kind < 2:
                    x = adjust[kind](x, factors[kind, i])
            ways.append(np.abs(x.permute(1, 2, 0).numpy() * 255 - out[i]).max())
        met.add(int(np.argmin(ways)))
        assert min(ways) < 0.6  # half a level of rounding
    assert len(met) > (2 if channels == 3 else 0)


def test_pca_colour_adds_multiples_of_the_components() -> None:
    n, amount = 4000, 0.1
    images = np.full((n, 2, 2, 3), 128, np.uint8)
    shift = Colouring((PcaColour(amount, OWN),)).apply(images.copy(), 0, 0, np.arange(n)).astype(float) - 128
    assert (shift == shift[:, :1, :1]).all()  # one colour an image
    along = shift[:, 0, 0] @ np.array(OWN.vectors).T
    expected = amount * np.array(OWN.deviations)
    rounding = 1 / 12
    assert along.std(axis=0) == pytest.approx(np.sqrt(expected**2 + rounding), rel=0.06)
    assert np.abs(along.mean(axis=0)).max() < 5 * expected[0] / np.sqrt(n)
    assert np.abs(np.corrcoef(along.T) - np.eye(3)).max() < 5 / np.sqrt(n)
    kurtosis = (along[:, 0] ** 4).mean() / along[:, 0].var() ** 2
    assert kurtosis == pytest.approx(3, abs=0.5)  # normal; even numbers would have 1.8


def test_two_changes_in_one_pass_are_one_after_the_other_to_a_rounding() -> None:
    images = pictures(30, 80, 160)
    steps = (Jitter(0.2), PcaColour(0.1, OWN))
    once = Colouring(steps).apply(images.copy(), 1, 1, np.arange(30)).astype(int)
    twice = images.copy()
    for step in steps:
        twice = Colouring((step,)).apply(twice, 1, 1, np.arange(30))
    assert np.abs(once - twice).max() <= 1 and not np.array_equal(once, images)


@pytest.mark.parametrize("change", CHANGES)
def test_an_image_is_changed_the_same_in_any_batch(change: Colouring) -> None:
    images, index = pictures(30), np.arange(100, 130)
    whole = change.apply(images.copy(), 5, 2, index)
    for i in range(30):
        assert np.array_equal(change.apply(images[i : i + 1].copy(), 5, 2, index[i : i + 1])[0], whole[i])
    assert not np.array_equal(change.apply(images.copy(), 5, 3, index), whole)
    assert not np.array_equal(change.apply(images.copy(), 6, 2, index), whole)


def test_pixels_are_clipped_and_not_wrapped_round() -> None:
    up = Colours(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (1e3, 0.0, 0.0))
    for level in (0, 255):
        out = Colouring((PcaColour(1.0, up),)).apply(np.full((50, 1, 1, 3), level, np.uint8), 0, 0, np.arange(50))
        red = out[:, 0, 0, 0]
        assert np.isin(red, (0, 255)).sum() > 35 and {0, 255} <= set(red.tolist())
        assert (out[..., 1:] == level).all()
