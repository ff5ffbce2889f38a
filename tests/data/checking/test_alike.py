"""Near duplicates: changed copies are found, other images are not, and time does not grow with the square."""

import io
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from convatlas.data.checking import alike


def scene(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """A picture with large and small shapes in it, another for each seed."""
    chance = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float64)
    for side in (3, 6, 12, 40):
        noise = Image.fromarray(chance.integers(0, 256, (side, side, 3), np.uint8))
        picture += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC)) / side**0.5
    return Image.fromarray((255 * picture / picture.max()).astype(np.uint8))


def found(pictures: list[Image.Image], small: bool = False) -> list[list[int]]:
    thumbnails, colours = zip(*(alike.thumbnail(p) for p in pictures), strict=True)
    edges = alike.pairs(
        np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, 32, 32),
        np.frombuffer(b"".join(colours), np.uint8).reshape(-1, 2, 4, 4),
        np.full(len(pictures), small),
    )
    assert (edges[:, 0] < edges[:, 1]).all()
    return edges.tolist()


def compressed(picture: Image.Image, quality: int, format: str = "JPEG") -> Image.Image:
    file = io.BytesIO()
    picture.save(file, format, quality=quality)
    with Image.open(file) as again:
        return again.convert("RGB")


CHANGES = {
    "half": lambda p: p.resize((p.width // 2, p.height // 2), Image.Resampling.BICUBIC),
    "twice": lambda p: p.resize((p.width * 2, p.height * 2), Image.Resampling.LANCZOS),
    "stretched": lambda p: p.resize((p.width, p.width)),
    "jpeg 30": lambda p: compressed(p, 30),
    "webp 40": lambda p: compressed(p, 40, "WEBP"),
    "darker": lambda p: ImageEnhance.Brightness(p).enhance(0.7),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.15),
    "contrast": lambda p: ImageEnhance.Contrast(p).enhance(0.8),
    "grey": lambda p: p.convert("L"),
}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), change=st.sampled_from(sorted(CHANGES)))
def test_a_changed_copy_is_found_among_others(seed: int, change: str) -> None:
    others = [scene(10**7 + i) for i in range(5)]
    assert found([scene(seed), *others, CHANGES[change](scene(seed))]) == [[0, 6]]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_different_images_are_not_taken_for_copies(seed: int) -> None:
    assert found([scene(seed + i) for i in range(30)]) == []


def test_another_colour_is_no_copy() -> None:
    grey = np.asarray(scene(1).convert("L")).astype(np.float64)
    red, blue = (np.stack([grey * f for f in factors], -1).clip(0, 255) for factors in ((1, 0.3, 0.3), (0.3, 0.55, 1)))
    assert found([Image.fromarray(p.astype(np.uint8)) for p in (red, blue)]) == []


def test_copies_of_real_photos_are_found_and_no_others(shared_data: Path) -> None:
    files = sorted((shared_data / "clothing/test").rglob("*.jpg"))[::5]
    photos = []
    for file in files:
        with Image.open(file) as picture:
            photos.append(picture.convert("RGB"))
    copies = [compressed(p.resize((p.width // 2, p.height // 2), Image.Resampling.BICUBIC), 60) for p in photos]
    assert found(photos + copies) == [[i, i + len(photos)] for i in range(len(photos))]


def test_small_images_must_be_closer() -> None:
    shade = np.asarray(scene(3, 28, 28).convert("L")).astype(np.int16)
    noisy = shade + np.random.default_rng(0).integers(-8, 9, shade.shape)
    pictures = [Image.fromarray(p.clip(0, 255).astype(np.uint8)) for p in (shade, noisy)]
    a, b = (np.asarray(p).astype(float).ravel() for p in pictures)
    assert alike.CORRELATION < np.corrcoef(a, b)[0, 1] < alike.CORRELATION_SMALL
    assert found(pictures, small=False) == [[0, 1]] and found(pictures, small=True) == []


def test_the_hash_is_that_of_nine_by_eight_means() -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (20, 32, 32), np.uint8)
    for picture, code in zip(pictures, alike.hashes(pictures), strict=True):
        wide = np.repeat(np.repeat(picture.astype(float), 9, axis=1), 1, axis=0)  # 288 columns: nine of 32
        means = wide.reshape(8, 4, 9, 32).mean((1, 3))
        bits = (np.diff(means, axis=1) > alike.FLAT * picture.std()).ravel()
        assert int(code) == sum(int(bit) << i for i, bit in enumerate(bits))


def test_all_close_hashes_meet_in_a_table() -> None:
    """Against all pairs."""
    chance = np.random.default_rng(2)
    codes = np.unique(chance.integers(0, 2**63, 300, np.uint64))
    flips = [
        codes ^ np.bitwise_or.reduce(np.uint64(1) << chance.integers(0, 64, (6, len(codes)), np.uint64)) for _ in "ab"
    ]
    every = np.concatenate([codes, *flips])
    for tables, most in ((alike.ALL, 6), (alike.DISJOINT, 3)):
        met = {
            tuple(sorted(p))
            for a, b in alike._candidates(every, tables)
            for p in zip(a.tolist(), b.tolist(), strict=True)
        }
        close = np.argwhere(np.triu(np.bitwise_count(every[:, None] ^ every) <= most, 1))
        assert len(close) > 0 or most == 3
        assert {(int(a), int(b)) for a, b in close} <= met


def test_components() -> None:
    edges = np.array([[4, 7], [1, 2], [2, 9], [7, 8]])
    assert alike.components(edges, 10) == [[1, 2, 9], [4, 7, 8]]
    assert alike.components(edges[:0], 10) == []


def test_plain_images_and_none() -> None:
    flat = np.full((2, 32, 32), 90, np.uint8)
    flat[1, :, 16:] += 30
    assert alike.plain(flat).tolist() == [True, False]
    nothing = np.zeros((0, 32, 32), np.uint8)
    assert alike.pairs(nothing, np.zeros((0, 2, 4, 4), np.uint8), np.zeros(0, bool)).shape == (0, 2)


@pytest.mark.slow
def test_a_hundred_thousand_images_take_seconds() -> None:
    """Each a blurred picture; half of all pairs compared one by one would be five thousand million."""
    chance = np.random.default_rng(0)
    coarse = chance.integers(0, 256, (100_000, 8, 8), np.uint8)
    thumbnails = np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2)
    thumbnails[99_000:] = thumbnails[:1000] // 2 + 40
    begin = time.process_time()
    edges = alike.pairs(thumbnails, np.full((len(coarse), 2, 4, 4), 128, np.uint8), np.zeros(len(coarse), bool))
    assert edges.tolist() == [[i, 99_000 + i] for i in range(1000)]
    assert time.process_time() - begin < 60
