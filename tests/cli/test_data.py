"""`check-data` as a user types it: what it says, what it writes, what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.cli import main
from convatlas.data import open_data

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for split, n in (("train", 5), ("test", 2)):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for i in range(n):
                noise = np.random.default_rng([len(split), ord(name[0]), i]).integers(0, 256, (40, 50, 3), np.uint8)
                Image.fromarray(noise).save(folder / split / name / f"{i}.png")
    return folder


def test_leaks_are_warnings_on_stdout_and_no_failure(photos: Path, capsys: Capture) -> None:
    shutil.copy(photos / "train/cat/0.png", photos / "test/dog/copy.png")
    assert main(["check-data", str(photos)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "Warning: test shares 1 of 5 (20.0 %) of its images with train: 1 identical.\n" in out
    assert "Warning: 1 group of identical images has different labels.\n" in out
    assert main(["check-data", str(photos), "--json"]) == 0
    (group,) = json.loads(capsys.readouterr().out)["duplicates"]
    assert (group["kind"], group["splits"], group["classes"]) == ("file", ["train", "test"], ["cat", "dog"])


def test_a_packed_copy_and_shards_hold_the_same_splits(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    (photos / "train/cat/bad.png").write_text("no image")
    before = {p: p.read_bytes() for p in photos.rglob("*.png")}
    pack, shards = tmp_path / "packed", tmp_path / "shards"
    line = ["check-data", str(photos), "--pack", str(pack), "--side", "20", "--shards", str(shards)]
    assert main([*line, "--shard-size", "20kB"]) == 3
    err = capsys.readouterr().err.splitlines()
    assert err == [
        f"next: convatlas train NETWORK {pack} --out RUN",
        f"next: convatlas train NETWORK {shards} --out RUN",
        "convatlas: 1 of the files cannot be read; they would be left out and counted in training",
    ]
    assert {p: p.read_bytes() for p in photos.rglob("*.png")} == before
    own = open_data(photos)
    for place in (pack, shards):
        data = open_data(place)
        assert data.classes == ("cat", "dog")
        assert len(data.split("test")) == len(own.split("test")) == 4
        sizes = {data.split("test").picture(i, 3).size for i in range(4)}
        assert sizes == {(25, 20)} if place == pack else {(50, 40)}
    assert len(list(shards.glob("train-*.tar"))) > 1


OUTSIDE = "lies over or in the data set {tmp}/photos; give a folder outside it"
REFUSED = [
    ("--side 64", "--side 64 is the size of packed images; give --pack FOLDER as well"),
    ("--pack {tmp}/p --side 0", "--side 0 is no size; give the shorter side in pixels, 1 or more"),
    ("--shard-size 1GB", "--shard-size 1GB is the size of tar shards; give --shards FOLDER as well"),
    ("--shards {tmp}/s --shard-size 9Q", "--shard-size '9Q' is no size; write it like 500MB or 1GB"),
    ("--shards {tmp}/s --shard-size 0B", "--shard-size '0B' is no size; write it like 500MB or 1GB"),
    ("--pack {tmp}/photos/p", "--pack {tmp}/photos/p " + OUTSIDE),
    ("--pack {tmp}/photos", "--pack {tmp}/photos " + OUTSIDE),
    ("--shards {tmp}", "--shards {tmp} " + OUTSIDE),
    ("--pack {tmp}/there", "--pack {tmp}/there exists already; give a folder that is not there yet"),
    ("--pack {tmp}/x/p --shards {tmp}/x", "--pack and --shards both lie in {tmp}/x; give two folders side by side"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[o for o, _ in REFUSED])
def test_what_cannot_be_written_is_refused_before_anything_is_read(
    options: str, message: str, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "there").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert main(["check-data", str(photos), *options.format(tmp=tmp_path).split()]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"convatlas: {message.format(tmp=tmp_path)}\n")
    assert sorted(tmp_path.rglob("*")) == before
