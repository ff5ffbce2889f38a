"""The time of loading: whose images, on what, and what is said where there are none."""

import gzip
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.data import Preprocess
from convatlas.measure.loading import loading
from convatlas.measure.sources import open_source


def named(run_folder: Path, data: str) -> None:
    """The run was trained on these data."""
    file = run_folder / "config.json"
    file.write_text(file.read_text().replace(str(run_folder.parent / "gone"), data))


def photos(folder: Path, count: int, side: int) -> Path:
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.random.default_rng(i).integers(0, 256, (side, side, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{name}{i}.png")
    return folder


def test_a_runs_images_are_read_decoded_and_prepared(run_folder: Path, tmp_path: Path) -> None:
    named(run_folder, str(photos(tmp_path / "photos", 10, 40)))
    found, reason = loading(open_source(run_folder))
    assert found is not None and reason == ""
    assert (found.images, found.of) == (4, "4 of the 4 test images of photos")
    assert 0 < found.low_ms <= found.median_ms <= found.high_ms


def test_64_images_suffice(run_folder: Path) -> None:
    named(run_folder, "digits")
    found, _ = loading(open_source(run_folder))
    assert found is not None
    assert (found.images, found.of) == (64, "64 of the 359 test images of digits")


def test_it_takes_as_long_as_the_parts_take(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named(run_folder, "digits")
    prepare = Preprocess.array

    def slow(self: Preprocess, picture: Image.Image) -> np.ndarray:
        time.sleep(0.003)
        return prepare(self, picture)

    monkeypatch.setattr(Preprocess, "array", slow)
    found, _ = loading(open_source(run_folder))
    assert found is not None and 3 <= found.low_ms <= found.median_ms < 6


def test_a_file_that_cannot_be_read_is_passed_over(run_folder: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 10, 40)
    named(run_folder, str(folder))
    for file in folder.rglob("*.png"):
        file.write_bytes(file.read_bytes()[:200])
    assert loading(open_source(run_folder)) == (None, "none of 4 of the 4 test images of photos can be read")


def test_a_catalogue_name_has_no_images() -> None:
    assert loading(open_source("lenet5")) == (None, "")


def test_data_that_are_gone_or_far_are_said(run_folder: Path) -> None:
    source = open_source(run_folder)
    found, reason = loading(source)
    gone = run_folder.parent / "gone"
    assert found is None and reason.startswith(f"the data cannot be read any more: {gone} does not exist; ")
    named(run_folder, "https://example.org/shards")
    assert loading(source) == (None, "the data lies at an address (https://example.org/shards)")
    (run_folder / "config.json").write_text("{}")
    assert loading(source) == (None, "config.json does not name the data")


def test_a_bundle_brings_its_replay_images(run_folder: Path, tmp_path: Path) -> None:
    source = open_source(run_folder)
    bundle = tmp_path / "bundle"
    as_bundle = type(source)(
        str(bundle), source.network, source.net, source.shape, 2, source.weights_bytes, source.preprocess
    )
    assert loading(as_bundle) == (None, "the bundle has no replay images")
    (bundle / "replay").mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (30, 20)).save(bundle / "replay" / f"{i:02d}.png")
    (bundle / "replay" / "03.png").write_bytes(gzip.compress(b"no image"))
    found, _ = loading(as_bundle)
    assert found is not None and (found.images, found.of) == (3, "the bundle's 4 replay images")
