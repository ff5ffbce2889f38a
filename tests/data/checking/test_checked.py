"""The report on a data set: counts against a folder that is built here, bad files by name, text and JSON."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.data import Check, check, open_data
from convatlas.errors import BadData
from convatlas.record import from_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, name, n in (("train", "2", 22), ("train", "10", 2), ("test", "2", 3)):
        place = tmp_path / "set" / split / name
        place.mkdir(parents=True)
        for i in range(n):
            colour = (n,) if i == 1 else (i, 7 * n, 90)
            mode = "L" if i == 1 else "RGB"
            Image.new(mode, (10 + i, 20), colour).save(place / f"{i}.png")
    (tmp_path / "set/train/2/bad.jpg").write_text("no image")
    (tmp_path / "set/train/2/notes.txt").write_text("")
    (tmp_path / "set/test/loose.jpg").write_text("")
    return tmp_path / "set"


def test_what_it_counts(folder: Path) -> None:
    before = {p: (p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).digest()) for p in folder.rglob("*.*")}
    calls: list[tuple[int, int]] = []
    found = check(folder, progress=lambda done, total: calls.append((done, total)))
    assert {p: (p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).digest()) for p in folder.rglob("*.*")} == before
    assert calls == [(i, 28) for i in range(1, 29)]
    assert found.classes == ("10", "2") and found.channels == 3
    splits = {s.name: s for s in found.splits}
    assert sum(s.images for s in found.splits) == 28
    assert splits["test"].per_class == {"10": 0, "2": 3} and splits["test"].missing == ("10",)
    assert (splits["test"].smallest, splits["test"].median, splits["test"].largest) == ((10, 20), (11, 20), (12, 20))
    assert splits["test"].modes == {"RGB": 2, "L": 1}
    assert splits["train"].per_class == {"10": 2, "2": 21}  # 23 with the bad one, of which two are held out
    assert found.balance == 10.5
    assert found.ignored == {".txt": 1, "images outside class folders": 1}
    assert found.warnings == (
        "classes are in string order, '10' first; tools that sort naturally (timm) number 2 of them differently, "
        "so use the stored names",
        "validation has no image of 10",
        "test has no image of 10",
        "the largest training class has 10.5 times as many images as the smallest",
        "grey and colour images are mixed; all are read as colour",
    )
    assert [(b.path, b.reason) for b in found.bad] == [
        (str(folder / "train/2/bad.jpg"), "no image of a known format (JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF)")
    ]
    assert sum(s.bad for s in found.splits) == 1


def test_text_and_json_say_the_same(folder: Path) -> None:
    found = check(folder)
    text = found.as_text()
    assert f"  {folder}/train/2/bad.jpg: no image of a known format (JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF)" in text
    assert "Cannot be read: 1 of 28 (3.6 %)." in text
    assert "Ignored: 1 .txt, 1 images outside class folders." in text
    assert text.count("Warning: ") == 5
    rows = [line.split() for line in text.splitlines()]
    assert ["10", "2", "0", "0"] in rows and ["total", "23", "2", "3"] in rows
    read = json.loads(found.as_json())
    assert read["bad"][0]["path"].endswith("bad.jpg") and read["balance"] == 10.5


def test_a_clean_set_in_memory() -> None:
    found = check("digits")
    assert found.bad == () and found.warnings == ()
    assert found.as_text().endswith("Every image can be read.")
    assert found.splits[0].smallest == found.splits[0].largest == (8, 8)


def test_every_nasty_file_is_named_and_no_good_one(shared_data: Path, tmp_path: Path) -> None:
    shutil.copytree(shared_data / "nasty", tmp_path / "nasty")
    found = check(tmp_path / "nasty")
    assert sum(s.images for s in found.splits) == 49
    expected = {"broken.png", "broken_data_stream.png", "decompression_bomb.gif", "truncated_end_chunk.png",
                "truncated_image.png", "truncated_jpeg.jpg", "zero_width.gif", "xc1n0g08.png", "xdtn0g01.png",
                "xs1n0g01.png"}  # fmt: skip
    assert {Path(b.path).name for b in found.bad} == expected
    assert found.ignored == {"without extension": 3}


def test_what_cannot_be_opened_is_refused_as_it_is_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="does not exist; give digits or a folder"):
        check(tmp_path / "none")


def exif(**tags: object) -> Image.Exif:
    made = Image.Exif()
    if "turn" in tags:
        made[0x0112] = tags["turn"]
    if "camera" in tags:
        made[0x0110] = tags["camera"]
    if "place" in tags:
        made.get_ifd(0x8825).update({1: "N", 2: tags["place"], 3: "E", 4: (8.0, 30.0, 0.0)})
    return made


def noise(seed: int, width: int = 60, height: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Three plain photos a class and one of each oddity."""
    place = tmp_path / "odd"
    for name in ("a", "b"):
        (place / name).mkdir(parents=True)
        for i in range(9):
            noise(ord(name) + 7 * i).save(place / name / f"{i}.png")
    noise(900).save(place / "a/turned.jpg", exif=exif(turn=6))
    noise(901).save(place / "a/place.jpg", exif=exif(place=(47.0, 22.0, 0.0)))
    noise(902).save(place / "a/camera.jpg", exif=exif(camera="Phone 9"))
    noise(903).save(place / "b/upright.jpg", exif=exif(turn=1, camera=""))
    noise(904).save(place / "b/really.png.jpg", "PNG")
    noise(905, 9, 9).save(place / "b/tiny.png")
    Image.new("RGB", (60, 40), "red").save(place / "b/red.png")
    return place


def test_oddities_are_counted_and_named(odd: Path) -> None:
    found = check(odd)
    assert sum(s.turned for s in found.splits) == 1
    assert found.positions == (f"{odd}/a/place.jpg",)
    assert found.cameras == (f"{odd}/a/camera.jpg",)
    assert [(m.image, m.format) for m in found.misnamed] == [(f"{odd}/b/really.png.jpg", "PNG")]
    assert found.tiny == (f"{odd}/b/tiny.png",)
    assert found.plain == (f"{odd}/b/red.png",)
    assert found.duplicates == () and found.bad == () and found.warnings == ()


def test_the_json_has_everything(odd: Path) -> None:
    found = check(odd)
    assert from_json(Check, found.as_json()) == found
    assert Check.__doc__ is not None
    assert [f for f in json.loads(found.as_json()) if f not in Check.__doc__] == []


def test_a_set_that_is_open_already_is_checked_as_it_is(odd: Path) -> None:
    data = open_data(odd, seed=5)
    found = check(data)
    assert {s.name: s.images for s in found.splits} == {n: len(s) for n, s in data.splits.items()}
    assert "seed 5" in found.rule
