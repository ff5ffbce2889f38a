"""Distortions: torchvision's matrices, a bilinear resampling written out, and the statistics of smoothed noise."""

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import _get_inverse_affine_matrix

from convatlas.data.augment.distortion import Affine, Distortion, Elastic

BOTH = Distortion(Affine(15, 0.15, 10, 2), Elastic(34, 4))


def pictures(n: int, height: int = 14, width: int = 11, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, channels), np.uint8)


@pytest.mark.parametrize("turn", [-1.0, 0.0, 0.6])
@pytest.mark.parametrize("slant", [-0.5, 0.0, 1.0])
def test_a_matrix_is_torchvisions(turn: float, slant: float) -> None:
    ours = Affine(30, 0.2, 15, 3)._inverse(turn, 0.7, slant, 0.4, -0.9)
    shift, factor = [0.4 * 3, -0.9 * 3], 1 + 0.7 * 0.2
    # torchvision shears to the other side
    theirs = _get_inverse_affine_matrix([0.0, 0.0], 30 * turn, shift, factor, [-15 * slant, 0.0])
    assert np.ravel(ours) == pytest.approx(theirs, abs=1e-12)


def test_what_is_drawn_is_even_within_its_limits() -> None:
    n = 4000
    for affine, read in (
        (Affine(20, 0, 0, 0), lambda m: np.degrees(np.arctan2(m[:, 0, 1], m[:, 0, 0])) / 20),
        (Affine(0, 0.3, 0, 0), lambda m: (1 / m[:, 0, 0] - 1) / 0.3),
        (Affine(0, 0, 25, 0), lambda m: np.degrees(np.arctan(-m[:, 0, 1])) / 25),
        (Affine(0, 0, 0, 3), lambda m: -m[:, 0, 2] / 3),
        (Affine(0, 0, 0, 3), lambda m: -m[:, 1, 2] / 3),
    ):
        drawn = np.sort(read(affine.matrices(1, 0, np.arange(n)).numpy()))
        assert -1.0001 <= drawn[0] < -0.99 and 0.99 < drawn[-1] <= 1.0001
        assert np.abs(drawn - np.linspace(-1, 1, n)).max() < 2 * 2.2 / np.sqrt(n)  # Kolmogorov's test


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("change", [Distortion(BOTH.affine, None), Distortion(None, BOTH.elastic), BOTH])
def test_pixels_are_bilinear_where_matrix_and_field_say(change: Distortion, channels: int) -> None:
    images, index = pictures(6, channels=channels), np.arange(40, 46)
    out = change.apply(images.copy(), 2, 7, index)
    height, width = images.shape[1:3]
    y, x = np.mgrid[:height, :width].astype(float)
    for i in range(6):
        across, down = x - (width - 1) / 2, y - (height - 1) / 2
        if change.affine is not None:
            m = change.affine.matrices(2, 7, index)[i].double().numpy()
            across, down = (m[k, 0] * across + m[k, 1] * down + m[k, 2] for k in (0, 1))
        if change.elastic is not None:
            field = change.elastic.field(2, 7, index, (height, width))[i].double().numpy()
            across, down = across + field[0], down + field[1]
        expected = bilinear(images[i], down + (height - 1) / 2, across + (width - 1) / 2)
        assert np.abs(expected - out[i]).max() < 0.51
    assert not np.array_equal(out, images)


def bilinear(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(H,W,C) at (H,W) places, black outside."""
    edge = 40
    padded = np.pad(image.astype(float), ((edge, edge), (edge, edge), (0, 0)))
    y, x = y + edge, x + edge
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    down, right = (y - top)[..., None], (x - left)[..., None]
    upper = padded[top, left] * (1 - right) + padded[top, left + 1] * right
    lower = padded[top + 1, left] * (1 - right) + padded[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


@pytest.mark.parametrize(("strength", "smoothness"), [(34.0, 4.0), (8.0, 2.0)])
def test_the_field_is_simards_smoothed_noise(strength: float, smoothness: float) -> None:
    n, side, edge = 1500, 16, 14
    ours = Elastic(strength, smoothness).field(0, 0, np.arange(n), (side, side)).numpy()
    noise = np.random.default_rng(0).uniform(-1, 1, (n, side + 2 * edge, side + 2 * edge)).astype(np.float32)
    at = np.arange(-edge, edge + 1)
    kernel = np.exp(-(at**2) / (2 * smoothness**2))
    kernel /= kernel.sum()
    for axis in (1, 2):
        noise = sum(k * np.roll(noise, a, axis) for k, a in zip(kernel, at, strict=True))
    theirs = strength * noise[:, edge:-edge, edge:-edge]
    for field in (ours[:, 0], ours[:, 1]):
        assert field.std(axis=0) == pytest.approx(theirs.std(axis=0), rel=0.15)  # at every pixel
        assert field.std() == pytest.approx(theirs.std(), rel=0.03)
        for apart in (1, 3, 6, 10):
            a = (field[:, :, apart:] * field[:, :, :-apart]).mean() / field.var()
            b = (theirs[:, apart:] * theirs[:, :-apart]).mean() / theirs.var()
            assert a == pytest.approx(b, abs=0.04)
        quantiles = (0.01, 0.1, 0.5, 0.9, 0.99)
        assert np.quantile(field, quantiles) == pytest.approx(np.quantile(theirs, quantiles), abs=0.08 * theirs.std())
    assert abs(np.corrcoef(ours[:, 0].mean((1, 2)), ours[:, 1].mean((1, 2)))[0, 1]) < 5 / np.sqrt(n)
    together = np.corrcoef(ours[:-1, 0, 5, 5], ours[1:, 0, 5, 5])[0, 1]  # of neighbouring images
    assert abs(together) < 5 / np.sqrt(n)


@pytest.mark.parametrize("change", [Distortion(BOTH.affine, None), Distortion(None, BOTH.elastic), BOTH])
def test_an_image_is_changed_the_same_in_any_batch(change: Distortion) -> None:
    images, index = pictures(70, 28, 28), np.arange(100, 170)
    whole = change.apply(images.copy(), 5, 2, index)
    for some in (slice(0, 1), slice(3, 10), slice(30, 70)):
        assert np.array_equal(change.apply(images[some].copy(), 5, 2, index[some]), whole[some])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert np.array_equal(change.apply(images.copy(), 5, 2, index), whole)
    finally:
        torch.set_num_threads(before)
    assert not np.array_equal(change.apply(images.copy(), 5, 3, index), whole)
    assert not np.array_equal(change.apply(images.copy(), 6, 2, index), whole)


def test_many_large_images_are_done_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from convatlas.data.augment import distortion

    images = pictures(7, channels=3)
    whole = BOTH.apply(images.copy(), 0, 0, np.arange(7))
    monkeypatch.setattr(distortion, "AT_ONCE", 1000)
    assert np.array_equal(BOTH.apply(images.copy(), 0, 0, np.arange(7)), whole)
