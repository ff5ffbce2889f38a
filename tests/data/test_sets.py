"""The embedded digits, splits and digests."""

import gzip
import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.data import Preprocess, Split, open_data
from convatlas.data.opening import DIGITS
from convatlas.data.sets import spaced
from convatlas.data.stored import Paths
from convatlas.errors import BadData, BadImage, BadRecipe


def test_digits_hold_what_the_file_says() -> None:
    data = open_data("digits", validation=0)
    assert (data.name, data.source, data.channels) == ("digits", "digits", 1)
    assert data.classes == tuple("0123456789")
    lines = gzip.decompress(DIGITS.read_bytes()).decode().split()
    expected = sorted(
        (int(line.rsplit(",", 1)[1]), tuple(int(int(v) * 255 / 16 + 0.5) for v in line.split(",")[:-1]))
        for line in lines
    )
    found = []
    for split in data.splits.values():
        assert split.images is not None and split.images.shape[1:] == (8, 8) and split.images.dtype == np.uint8
        found += [(int(n), tuple(i.ravel().tolist())) for n, i in zip(split.labels, split.images, strict=True)]
    assert len(found) == 1797 and sorted(found) == expected


def test_the_embedded_file_is_the_shared_one(shared_data: Path) -> None:
    assert DIGITS.read_bytes() == (shared_data / "digits8x8/digits.csv.gz").read_bytes()
    licence = (shared_data / "digits8x8/LICENSE.scikit-learn").read_bytes()
    assert (DIGITS.parent / "LICENSE").read_bytes() == licence


def test_digits_are_divided_by_the_rule() -> None:
    data = open_data("digits")
    total = sum(split.counts() for split in data.splits.values())
    assert total.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # the UCI page's class counts
    assert np.abs(data.splits["test"].counts() - total / 5).max() <= 0.5
    assert np.abs(data.splits["validation"].counts() - (total - data.splits["test"].counts()) / 10).max() <= 0.5
    other = open_data("digits", seed=1)
    assert other.splits["train"].digest() != data.splits["train"].digest()


def test_a_missing_split_names_those_there_are() -> None:
    data = open_data("digits")
    assert data.split("test") is data.splits["test"]
    with pytest.raises(BadData) as caught:
        data.split("tset")
    assert str(caught.value) == "digits has no tset split; it has train, validation, test"


def test_a_share_out_of_range() -> None:
    with pytest.raises(BadRecipe) as caught:
        open_data("digits", validation=1.0)
    assert str(caught.value) == ("validation is 1; give the share of the training images to hold out, 0 to below 1")


def test_the_digest_of_pixels_sees_pixels_labels_and_names() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    base = Split("train", np.array([0, 1]), images, classes=("a", "b"))
    assert base.digest() == Split("test", np.array([0, 1]), images.copy(), classes=("a", "b")).digest()
    changed = images.copy()
    changed[1, 2, 3] += 1
    others = [
        Split("train", np.array([0, 1]), changed, classes=("a", "b")),
        Split("train", np.array([1, 0]), images, classes=("a", "b")),
        Split("train", np.array([0, 1]), images, classes=("a", "c")),
        Split("train", np.array([0, 1]), images.reshape(2, 4, 3), classes=("a", "b")),
    ]
    assert len({base.digest(), *(o.digest() for o in others)}) == 5


def test_the_digest_of_files_sees_content_and_names_but_not_place_or_date(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        (tmp_path / "one" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), len(name)).save(tmp_path / "one" / name)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    os.utime(tmp_path / "two/a/1.png", (0, 0))

    def digest(folder: str) -> str:
        return open_data(tmp_path / folder, validation=0).splits["train"].digest()

    assert digest("one") == digest("two")
    split = open_data(tmp_path / "one", validation=0).splits["train"]
    by_hand = hashlib.sha256(b"a\0b" + split.labels.astype("<i8").tobytes())
    for path in split.paths or ():
        by_hand.update(f"{path.parent.name}/{path.name}".encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    assert split.digest() == by_hand.hexdigest()
    for path in (tmp_path / "two").rglob("*.png"):
        path.write_bytes(path.read_bytes() + b"x")
    assert digest("one") != digest("two")


def test_sums_that_are_kept_stand_for_the_images() -> None:
    class Summed(Paths):
        def digest(self) -> str:  # type: ignore[override]
            return "kept"

    stored = Summed((Path("/nowhere/1.png"), Path("/nowhere/2.png")))
    split = Split("train", np.array([0, 1]), None, stored, ("a", "b"))
    assert split.digest() == hashlib.sha256(b"a\0b" + split.labels.astype("<i8").tobytes() + b"kept").hexdigest()


class Lost:
    """Bytes that are no image, and a disk that refuses."""

    def __len__(self) -> int:
        return 2

    def name(self, number: int) -> str:
        return f"entry {number}"

    def key(self, number: int) -> bytes:
        return b"%d" % number

    def read(self, number: int) -> bytes:
        if number:
            raise PermissionError(13, "Permission denied")
        return b"no image"

    def take(self, positions: np.ndarray) -> "Lost":
        return self

    def order(self, stream: int) -> None:
        return None

    def digest(self) -> None:
        return None


def test_bad_bytes_and_a_refusing_disk_name_the_image() -> None:
    split = Split("train", np.array([0, 1]), None, Lost(), ("a", "b"))
    known = "no image of a known format (JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF)"
    for number, said in enumerate((f"entry 0: {known}", "entry 1: permission denied")):
        for read in (
            lambda n: split.picture(n, 3),
            lambda n: split.cut(n, 3, lambda width, height: (0, 0, width, height), (2, 2)),
        ):
            with pytest.raises(BadImage) as caught:
                read(number)
            assert str(caught.value) == said


def test_prepared_is_array_of_each_image_and_kept() -> None:
    split = open_data("digits").splits["test"]
    p = Preprocess(1, 20, 20, "pad")
    prepared = split.prepared(p)
    assert split.images is not None
    assert np.array_equal(prepared[7], p.array(Image.fromarray(split.images[7])))
    assert split.prepared(p) is prepared


def test_spaced_positions() -> None:
    assert spaced(5, 10) == [0, 1, 2, 3, 4]
    assert spaced(0, 10) == []
    assert spaced(101, 3) == [0, 50, 100]
    assert len(spaced(1_000_003, 2000)) == 2000
