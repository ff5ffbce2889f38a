"""Which layout a source has, folds, and what is said before a training."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from convatlas.data import Split, open_data
from convatlas.data.folders import LAYOUTS
from convatlas.errors import BadData, BadRecipe


def fill(folder: Path, counts: dict[str, int]) -> Path:
    for name, n in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            Image.new("L", (8, 6), i * 10).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("divided")
    for role, n in (("train", 7), ("val", 3), ("test", 2)):
        fill(folder / role, {"a": n, "b": n + 4})
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("whole"), {"a": 20, "b": 31})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12, deadline=None)
@given(k=st.integers(2, 10), seed=st.integers(0, 2**40), source=st.sampled_from(["divided", "whole", "digits"]))
def test_folds_partition_what_is_trained_on(divided: Path, whole: Path, k: int, seed: int, source: str) -> None:
    place = {"divided": divided, "whole": whole}.get(source, source)

    def content(*names: str) -> list[bytes]:
        """The images of some splits, each by its bytes and label; files by their path."""
        found = []
        for name in names:
            split = data.splits[name]
            for i, label in enumerate(split.labels.tolist()):
                image = split.given(i)
                found.append(str(image).encode() if isinstance(image, Path) else image.tobytes() + bytes([label]))  # type: ignore[union-attr]
        return sorted(found)

    data = open_data(place, seed=seed, validation=0.1)
    pool, test = content("train", "validation"), content("test")
    held: list[bytes] = []
    for i in range(1, k + 1):
        data = open_data(place, seed=seed, fold=(i, k))
        assert list(data.splits) == ["train", "validation", "test"]
        assert content("train", "validation") == pool and content("test") == test
        held += content("validation")
        for split in data.splits["validation"], data.splits["train"]:
            assert (np.diff(split.labels.reshape(-1)) >= 0).all() or source != "whole"
    assert sorted(held) == pool  # each image in one fold's validation split


def test_a_fold_is_told_in_the_rule(divided: Path, whole: Path, tmp_path: Path) -> None:
    data = open_data(divided, fold=(2, 5), seed=3)
    assert data.rule == (
        "train, validation and test as given; part 2 of 5 of train and validation together, each class divided evenly "
        "with seed 3, is the validation split"
    )
    assert data.splits["validation"].counts().tolist() in ([2, 3], [2, 4])  # of 10 and 18 images
    assert open_data(whole, fold=(1, 4)).rule == (
        "a fifth of each class is the test split, drawn with seed 0; part 1 of 4 of the rest, each class divided "
        "evenly with seed 0, is the validation split"
    )
    fill(tmp_path / "train", {"a": 4, "b": 4})
    fill(tmp_path / "test", {"a": 1, "b": 1})
    assert open_data(tmp_path, fold=(1, 2)).rule == (
        "train and test as given; part 1 of 2 of train, each class divided evenly with seed 0, is the validation split"
    )


def test_the_test_split_of_a_fold_is_that_without_folds(whole: Path) -> None:
    assert open_data(whole, fold=(3, 4)).splits["test"].digest() == open_data(whole).splits["test"].digest()


@pytest.mark.parametrize(
    "fold, said",
    [
        ((0, 5), "fold is 0/5; give the part and the number of parts, 1/5 to 5/5"),
        ((6, 5), "fold is 6/5; give the part and the number of parts, 1/5 to 5/5"),
        ((1, 1), "fold is 1/1; give the part and the number of parts, such as 1/5"),
        ((1, -2), "fold is 1/-2; give the part and the number of parts, such as 1/5"),
        ((1, 2000), "2000 folds of 1,438 images; give 2 folds or more, and no more than images"),
    ],
)
def test_folds_that_cannot_be(fold: tuple[int, int], said: str) -> None:
    with pytest.raises(BadRecipe) as caught:
        open_data("digits", fold=fold)
    assert str(caught.value) == said


def test_sets_that_cannot_be_folded(tmp_path: Path) -> None:
    fill(tmp_path / "tests/test", {"a": 3, "b": 3})
    with pytest.raises(BadData) as caught:
        open_data(tmp_path / "tests", fold=(1, 2))
    assert str(caught.value) == f"{tmp_path / 'tests'} has no train split to divide into folds; it has test"
    fill(tmp_path / "single/train", {"a": 3, "b": 1})
    with pytest.raises(BadData) as caught:
        open_data(tmp_path / "single", fold=(1, 2))
    assert str(caught.value) == (
        f"class 'b' of {tmp_path / 'single'} has one image to train on; folds need two or more"
    )


def test_a_split_that_renames_a_class_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"shirt": 2, "shoe": 2})
    fill(tmp_path / "validation", {"Shirt": 1, "shoe": 1})
    with pytest.raises(BadData) as caught:
        open_data(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'validation'} has 'Shirt' where {tmp_path / 'train'} has 'shirt'; labels are matched by name, so "
        f"give each class one name"
    )


def test_what_a_trainer_should_say_first(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"2": 2, "10": 2})
    fill(tmp_path / "test", {"2": 2})
    assert open_data(tmp_path, validation=0).warnings == (
        "classes are in string order, '10' first; tools that sort naturally (timm) number 2 of them differently, so "
        "use the stored names",
        "test has no image of 10",
    )
    assert open_data("digits").warnings == ()


def test_digests_of_layouts_before_others_came(tmp_path: Path) -> None:
    """Old run folders are resumed only while these sums stay: sha256 over names, int64 labels, keys and contents."""
    fill(tmp_path, {"train/a": 3, "train/b": 2, "val/b": 1, "test/a": 1})
    data = open_data(tmp_path)
    for role, folder, files in (
        ("train", "train", ["a/0.png", "a/1.png", "a/2.png", "b/0.png", "b/1.png"]),
        ("validation", "val", ["b/0.png"]),
        ("test", "test", ["a/0.png"]),
    ):
        labels = b"".join((0 if name[0] == "a" else 1).to_bytes(8, "little") for name in files)
        text = b"a\0b" + labels
        for name in files:
            text += name.encode() + b"\0" + hashlib.sha256((tmp_path / folder / name).read_bytes()).digest()
        assert data.splits[role].digest() == hashlib.sha256(text).hexdigest()


def test_addresses(tmp_path: Path) -> None:
    with pytest.raises(BadData) as caught:
        open_data("s3://bucket/set")
    assert str(caught.value) == "s3://bucket/set: only addresses that begin with http:// or https:// are read"
    with pytest.raises(BadData) as caught:
        open_data(tmp_path / "gone.csv")
    assert str(caught.value) == (
        f"{tmp_path / 'gone.csv'} does not exist; give digits or a folder, a CSV file or the address of "
        f"shards; {LAYOUTS}"
    )


def test_shards_are_a_set_like_any_other(divided: Path, tmp_path: Path) -> None:
    from convatlas.data import shards

    def content(split: Split) -> list[tuple[int, bytes]]:
        return sorted((int(label), split.picture(i, 1).tobytes()) for i, label in enumerate(split.labels))

    data = open_data(divided)
    shards.write(data, tmp_path / "shards")
    read = open_data(tmp_path / "shards")
    assert read.classes == data.classes and read.channels == data.channels
    assert {n: content(s) for n, s in read.splits.items()} == {n: content(s) for n, s in data.splits.items()}
    train = open_data(tmp_path / "shards", fold=(1, 3)).splits["train"]
    order = train.order(5)  # the shards' own, both parts' in turns
    assert isinstance(order, np.ndarray) and sorted(order.tolist()) == list(range(len(train)))


def test_folders_that_only_look_like_shards_are_image_folders(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "manifest.json").write_text('{"of": "another tool"}')
    (tmp_path / "download.tar").write_bytes(b"")
    assert open_data(tmp_path).classes == ("a", "b")
