"""The small pictures: from the data where it is, and nothing where it is not."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.data import open_data
from convatlas.report.pictures import SIDE, Album, Picture


def run(folder: Path, source: str, **recipe: float) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"recipe": recipe, "data": {"source": source}}))
    return str(folder)


def opened(picture: Picture | None) -> Image.Image:
    assert picture is not None
    kind, _, content = picture.address.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
    assert kind == f"data:image/{str(image.format).lower()}"
    return image


def test_an_image_in_memory_is_shown_as_it_is(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", "digits")
    test = open_data("digits").split("test")
    picture = Album().picture(folder, "test image 5", str(test.labels[5]))
    image = opened(picture)
    assert picture is not None and picture.small and test.images is not None
    assert np.array_equal(np.asarray(image), test.images[5])


def test_a_photo_becomes_a_thumbnail(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photo = tmp_path / "photo.jpg"
    Image.fromarray(rng.integers(0, 255, (600, 900, 3), np.uint8)).save(photo)
    picture = Album().picture(run(tmp_path / "run", str(tmp_path)), str(photo), "hat")
    image = opened(picture)
    assert image.format == "JPEG" and max(image.size) == SIDE and abs(image.width / image.height - 1.5) < 0.02
    assert picture is not None and not picture.small


@pytest.mark.parametrize(
    ("source", "image", "label"),
    [
        ("digits", "test image 5", "no such class"),  # another set's image, or the set has changed
        ("digits", "test image 99999", "0"),
        ("gone", "test image 5", "0"),
        ("", "test image 5", "0"),
        ("http://example.invalid/shards", "test image 5", "0"),  # a report asks no network
    ],
)
def test_what_cannot_be_had_is_left_out(tmp_path: Path, source: str, image: str, label: str) -> None:
    assert Album().picture(run(tmp_path / "run", source), image, label) is None


def test_damaged_files_and_refusal(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff nothing")
    folder = run(tmp_path / "run", str(tmp_path))
    assert Album().picture(folder, str(broken), "a") is None
    assert Album(wanted=False).picture(run(tmp_path / "other", "digits"), "test image 5", "0") is None
    assert Album().picture(str(tmp_path / "no run"), "test image 5", "0") is None
