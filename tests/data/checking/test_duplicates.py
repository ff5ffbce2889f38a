"""Copies within and across splits and classes, against sets that are built here."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.data import Data, Split, check


def picture(seed: int) -> Image.Image:
    chance = np.random.default_rng(seed)
    coarse = Image.fromarray(chance.integers(0, 256, (8, 10, 3), np.uint8))
    return coarse.resize((100, 80), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures of each of two classes in train, three in validation and test, and known copies among them."""
    place = tmp_path / "set"
    seed = 0
    for split, n in (("train", 6), ("validation", 3), ("test", 3)):
        for name in ("cat", "dog"):
            (place / split / name).mkdir(parents=True)
            for i in range(n):
                seed += 1
                picture(seed).save(place / split / name / f"{i}.png")
    shutil.copy(place / "train/cat/0.png", place / "test/cat/leak.png")  # the same file, across splits
    shutil.copy(place / "train/cat/1.png", place / "train/dog/conflict.png")  # the same file, across classes
    with Image.open(place / "train/dog/2.png") as again:
        again.save(place / "train/dog/again.bmp")  # the same pixels
        again.resize((50, 40), Image.Resampling.BICUBIC).save(place / "test/dog/small.jpg")  # looks the same
    return place


def summary(place: Path, source: Path | Data) -> list[tuple[str, tuple[str, ...], tuple[str, ...], list[str]]]:
    return [
        (g.kind, g.splits, g.classes, [c.image.removeprefix(f"{place}/") for c in g.copies])
        for g in check(source).duplicates
    ]


def test_each_kind_is_found_and_nothing_else(folder: Path) -> None:
    assert summary(folder, folder) == [
        ("file", ("train", "test"), ("cat",), ["train/cat/0.png", "test/cat/leak.png"]),
        ("near", ("train", "test"), ("dog",), ["train/dog/2.png", "train/dog/again.bmp", "test/dog/small.jpg"]),
        ("file", ("train",), ("cat", "dog"), ["train/cat/1.png", "train/dog/conflict.png"]),
        ("pixels", ("train",), ("dog",), ["train/dog/2.png", "train/dog/again.bmp"]),
    ]


def test_leaks_and_contradictions_are_warned_about(folder: Path) -> None:
    found = check(folder)
    assert [(k.split, k.other, k.identical, k.near) for k in found.leaks] == [("test", "train", 1, 1)]
    assert found.warnings == (
        "test shares 2 of 8 (25.0 %) of its images with train: 1 identical and 1 nearly so",
        "1 group of identical images has different labels",
    )


def test_a_copy_of_a_copy_joins_its_group(folder: Path) -> None:
    with Image.open(folder / "train/cat/3.png") as original:
        for i, side in enumerate((90, 60, 45)):
            original.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"train/cat/c{i}.jpg", quality=60)
    groups = [images for kind, *_, images in summary(folder, folder) if kind == "near"]
    assert [f"train/cat/{n}" for n in ("3.png", "c0.jpg", "c1.jpg", "c2.jpg")] in groups


def test_arrays_are_compared_by_their_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 28, 28), np.uint8)
    images[50] = images[3]
    images[41] = images[40]
    labels = np.arange(60) % 2
    train = Split("train", labels[:45], images[:45], classes=("a", "b"))
    test = Split("test", labels[45:], images[45:], classes=("a", "b"))
    data = Data("set", "set", ("a", "b"), {"train": train, "test": test}, 1, "as given")
    assert summary(Path(), data) == [
        ("pixels", ("train", "test"), ("b", "a"), ["train image 3", "test image 5"]),
        ("pixels", ("train",), ("a", "b"), ["train image 40", "train image 41"]),
    ]


def test_the_same_values_in_another_shape_are_no_copy() -> None:
    wide = np.arange(600, dtype=np.uint16).reshape(20, 30).astype(np.uint8)
    files = []
    for values in (wide, wide.reshape(30, 20)):
        file = io.BytesIO()
        Image.fromarray(values).save(file, "PNG")
        files.append(file.getvalue())

    class Two:
        def __len__(self) -> int:
            return 2

        def name(self, number: int) -> str:
            return str(number)

        def read(self, number: int) -> bytes:
            return files[number]

    split = Split("train", np.array([0, 1]), None, Two(), ("a", "b"))  # type: ignore[arg-type]
    assert check(Data("set", "set", ("a", "b"), {"train": split}, 1, "")).duplicates == ()


@pytest.mark.parametrize("side", [8, 15])
def test_very_small_images_are_only_compared_exactly(side: int) -> None:
    images = np.repeat(np.random.default_rng(0).integers(0, 200, (1, side, side), np.uint8), 4, axis=0)
    images[2] += 1  # would look the same
    images[3] += 2
    split = Split("train", np.array([0, 1, 0, 1]), images, classes=("a", "b"))
    found = check(Data("set", "set", ("a", "b"), {"train": split}, 1, "")).duplicates
    assert [(g.kind, [c.image for c in g.copies]) for g in found] == [("pixels", ["train image 0", "train image 1"])]


@pytest.mark.slow
def test_fashion_mnist_and_mnist_hold_no_image_twice(shared_data: Path) -> None:
    """By numpy's own comparison of rows."""
    for name in ("mnist", "fashion-mnist"):
        found = check(shared_data / name)
        from convatlas.data import open_data

        rows = np.concatenate([s.images.reshape(len(s), -1) for s in open_data(shared_data / name).splits.values()])
        exact = sum(g.kind == "pixels" for g in found.duplicates)
        _, counts = np.unique(rows, axis=0, return_counts=True)
        assert exact == (counts > 1).sum()
