"""Geometry against torchvision to the byte, padding and normalisation against formulas."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import transforms as v1
from torchvision.transforms import v2

from convatlas.data import Preprocess
from convatlas.errors import BadRecipe
from convatlas.record import from_json, to_json


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from([1, 3]),
    st.integers(1, 70),
    st.sampled_from([0.875, 1.0, 0.5, 0.95, 0.1]),
)
def test_crop_equals_torchvision_to_the_byte(width: int, height: int, channels: int, size: int, crop: float) -> None:
    picture = noise(width, height, channels)
    ours = Preprocess(channels, size, size, crop=crop).array(picture)
    for kit in (v1, v2):
        theirs = kit.CenterCrop(size)(kit.Resize(round(size / crop))(picture))
        assert np.array_equal(ours, np.asarray(theirs).reshape(size, size, channels))


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (400, 533), (257, 256), (1200, 401), (224, 224)])
def test_crop_equals_torchvision_on_photo_sizes(width: int, height: int) -> None:
    picture = noise(width, height)
    theirs = v1.Compose([v1.Resize(256), v1.CenterCrop(224)])(picture)
    assert np.array_equal(Preprocess(3, 224, 224).array(picture), np.asarray(theirs))


def test_a_hair_thin_image_needs_no_gigabytes() -> None:
    thin = Image.fromarray(
        np.linspace(0, 255, 300_000).astype(np.uint8)[None, :]
    )  # would be resized to 256 x 76,800,000
    array = Preprocess(1, 224, 224).array(thin)
    assert array.shape == (224, 224, 1)
    assert np.unique(array).tolist() in ([127], [127, 128])  # its centre


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 100), st.integers(1, 100), st.integers(1, 60), st.integers(1, 60))
def test_pad_shows_the_whole_image_centred_on_black(width: int, height: int, high: int, wide: int) -> None:
    white = Image.new("L", (width, height), 255)
    array = Preprocess(1, high, wide, fit="pad").array(white)[..., 0]
    assert set(np.unique(array)) <= {0, 255}
    rows, columns = np.flatnonzero(array.any(axis=1)), np.flatnonzero(array.any(axis=0))
    new_height, new_width = len(rows), len(columns)
    assert (array[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 255).all()
    factor = min(high // height, wide // width)
    if factor >= 1:
        assert (new_height, new_width) == (height * factor, width * factor)
    else:  # one side fills the input, the other keeps the aspect to half a pixel
        assert new_height == high or new_width == wide
        share = min(high / height, wide / width)
        assert abs(new_height - max(height * share, 1)) <= 0.5 and abs(new_width - max(width * share, 1)) <= 0.5
    assert rows[0] == (high - new_height) // 2 and columns[0] == (wide - new_width) // 2


def test_pad_of_the_small_sets() -> None:
    mnist = noise(28, 28, 1)
    padded = Preprocess(1, 32, 32, fit="pad").array(mnist)
    assert np.array_equal(padded[..., 0], np.pad(np.asarray(mnist), 2))  # LeNet's input, pixels untouched
    digits = noise(8, 8, 1)
    enlarged = Preprocess(1, 32, 32, fit="pad").array(digits)[..., 0]
    assert np.array_equal(enlarged, np.asarray(digits.resize((32, 32), Image.Resampling.BILINEAR)))


def test_stretch_resizes_both_sides() -> None:
    picture = noise(50, 31)
    theirs = v1.Resize((20, 40))(picture)
    assert np.array_equal(Preprocess(3, 20, 40, fit="stretch").array(picture), np.asarray(theirs))


def test_colour_mode_follows_the_channels() -> None:
    grey = Preprocess(1, 4, 4, crop=1).array(Image.new("RGB", (4, 4), (255, 0, 0)))
    assert grey.shape == (4, 4, 1)
    assert np.unique(grey).tolist() == [76]  # ITU-R 601: 0.299 of 255
    assert Preprocess(3, 4, 4, crop=1).array(Image.new("L", (4, 4), 9)).shape == (4, 4, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalise_is_x_over_255_minus_mean_over_std(channels: int) -> None:
    mean, std = (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels]
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 6, channels), np.uint8)
    ours = Preprocess(channels, 5, 6, mean=mean, std=std).normalise(images)
    exact = ((images / 255 - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)
    assert ours.dtype == np.float32 and ours.shape == (4, channels, 5, 6) and ours.flags.c_contiguous
    assert np.abs(ours - exact).max() < 1e-6
    theirs = v2.Normalize(mean, std)(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    assert (torch.from_numpy(ours) - theirs).abs().max() < 1e-6


def test_it_travels_as_json() -> None:
    p = Preprocess(3, 112, 96, "pad", 0.9, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert from_json(Preprocess, to_json(p)) == p
    assert Preprocess(1, 2, 2).mean == (0.0,) and Preprocess(3, 2, 2).std == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": 2}, "channels is 2; give 1 (grey) or 3 (colour)"),
        ({"height": 0}, "size is 0x8; both sides need at least one pixel"),
        ({"fit": "cover"}, "fit is 'cover'; give crop, pad or stretch"),
        ({"crop": 1.5}, "crop is 1.5; give a share of the shorter side above 0 and up to 1"),
        ({"mean": (0.5,)}, "mean is (0.5,); give 3 finite numbers, one a channel"),
        ({"std": (1.0, 1.0, 0.0)}, "std is (1.0, 1.0, 0.0); give numbers above 0"),
    ],
)
def test_values_that_make_no_input(fields: dict[str, object], message: str) -> None:
    with pytest.raises(BadRecipe) as caught:
        Preprocess(**{"channels": 3, "height": 8, "width": 8} | fields)  # type: ignore[arg-type]
    assert str(caught.value) == message
