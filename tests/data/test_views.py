"""Test views against torchvision's crops, Preprocess itself, and what a name may say."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convatlas.data import BadFile, Preprocess, Split
from convatlas.data.stored import Paths
from convatlas.data.views import KNOWN, Pictures, Scales, TenCrop, parse, read
from convatlas.errors import UnknownName, UsageError


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, channels)).astype(np.uint8)
    return Image.fromarray(pixels if channels == 3 else pixels[..., 0])


@pytest.mark.parametrize("size", [(90, 61), (61, 90), (75, 75), (40, 33)])
@pytest.mark.parametrize("side", [28, 33])
def test_ten_crop_is_torchvisions(size: tuple[int, int], side: int) -> None:
    from torchvision.transforms import Compose, Resize
    from torchvision.transforms import TenCrop as Ten

    picture = noise(*size)
    theirs = Compose([Resize(round(side / 0.875)), Ten(side)])(picture)
    ours = TenCrop().pictures(picture, Preprocess(3, side, side))
    assert len(ours) == len(theirs) == 10
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, np.array(b))


@given(st.integers(20, 90), st.integers(20, 90), st.integers(8, 20), st.integers(8, 20))
def test_the_fifth_crop_is_what_center_shows(width: int, height: int, tall: int, wide: int) -> None:
    preprocess = Preprocess(1, tall, wide)
    picture = noise(width, height, 1)
    crops = TenCrop().pictures(picture, preprocess)
    np.testing.assert_array_equal(crops[4], preprocess.array(picture))
    assert all(crop.shape == (tall, wide, 1) for crop in crops)


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_other_fits_are_brought_to_a_larger_input_first(fit: str) -> None:
    picture = noise(50, 30)
    small = Preprocess(3, 28, 28, fit=fit)  # type: ignore[arg-type]
    whole = Preprocess(3, 32, 32, fit=fit).array(picture)  # type: ignore[arg-type]
    crops = TenCrop().pictures(picture, small)
    np.testing.assert_array_equal(crops[0], whole[:28, :28])
    np.testing.assert_array_equal(crops[3], whole[4:, 4:])
    np.testing.assert_array_equal(crops[9], whole[2:30, 2:30][:, ::-1])


@pytest.mark.parametrize("size", [(90, 61), (61, 90), (64, 64)])
def test_dense_sees_the_whole_image_and_its_mirror_at_each_side(size: tuple[int, int]) -> None:
    from torchvision.transforms import Resize

    picture = noise(*size)
    pictures = Scales((256, 448)).pictures(picture, Preprocess(3, 112, 112))
    assert len(pictures) == 4
    for side, (whole, mirror) in zip((128, 224), (pictures[:2], pictures[2:]), strict=True):
        np.testing.assert_array_equal(whole, np.array(Resize(side)(picture)))
        np.testing.assert_array_equal(mirror, whole[:, ::-1])


def test_dense_without_a_side_takes_centers() -> None:
    whole, _ = Scales().pictures(noise(100, 80), Preprocess(3, 28, 28))
    assert whole.shape == (32, 40, 3)


def test_of_a_hair_thin_image_the_middle_is_seen() -> None:
    picture = noise(4000, 2)
    whole, _ = Scales().pictures(picture, Preprocess(3, 28, 28))
    assert whole.shape == (32, 8 * 32, 3)
    middle, _ = Scales().pictures(picture.crop((1992, 0, 2008, 2)), Preprocess(3, 28, 28))
    np.testing.assert_array_equal(whole, middle)


def test_names() -> None:
    assert parse("center") is None
    assert parse("ten-crop") == TenCrop()
    assert parse("dense") == Scales()
    assert parse(" dense 384 ") == Scales((384,))
    assert parse("multi-scale 224, 256,384") == Scales((224, 256, 384))


@pytest.mark.parametrize("name", ["centre", "ten-crop 5", "center 3", "", "twelve"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(UnknownName) as caught:
        parse(name)
    if name in ("", "twelve"):
        assert str(caught.value) == f"no test view named {name!r}; known: {KNOWN}"
    if name == "centre":
        assert str(caught.value) == "no test view named 'centre'; did you mean center?"


@pytest.mark.parametrize("name", ["dense 223", "dense 256,384", "dense big", "dense 99999"])
def test_sides_of_dense(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(name)
    assert str(caught.value) == (
        f"test view {name!r} needs one length of the shorter side for an input of 224, from 224 to 2240, "
        "for example 'dense 384'"
    )


@pytest.mark.parametrize("name", ["multi-scale", "multi-scale 100,256", "multi-scale 256,,384"])
def test_sides_of_multi_scale(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(name)
    assert str(caught.value) == (
        f"test view {name!r} needs lengths of the shorter side for an input of 224, from 224 to 2240, separated by "
        "commas, for example 'multi-scale 224,256,384'"
    )


@pytest.mark.parametrize("workers", [0, 3])
def test_reading_keeps_the_order_and_names_bad_files(tmp_path: Path, workers: int) -> None:
    files = tuple(tmp_path / f"{i}.png" for i in range(5))
    for i, file in enumerate(files):
        noise(20 + i, 20).save(file)
    files[2].write_bytes(b"no image")
    split = Split("test", np.zeros(5, np.int64), None, Paths(files, tmp_path), ("a",))
    found = list(read(split, Preprocess(3, 16, 16), TenCrop(), [4, 2, 0], workers))
    assert [item.number for item in found if isinstance(item, Pictures)] == [4, 0]
    assert isinstance(found[1], BadFile) and found[1].path == str(files[2])
    assert found[1].reason.startswith("no image of a known format")
