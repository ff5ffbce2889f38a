"""What is written: bytes as they were, sizes, sums, and the same after any kill."""

import hashlib
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.data import Data, Split, open_data, shards
from convatlas.data.shards import writing
from convatlas.errors import BadData, SaveFailed, UsageError


def sums(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_every_image_is_in_a_shard_once_byte_for_byte(data: Data, folder: Path) -> None:
    for name, split in data.splits.items():
        held = []
        for path in sorted(folder.glob(f"{name}-*.tar")):
            assert path.stat().st_size <= 20_480
            with tarfile.open(path) as tar:
                entries = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
            for key in {entry.partition(".")[0] for entry in entries}:
                (image,) = (e for e in entries if e.startswith(key) and not e.endswith(".cls"))
                held.append((entries[image], int(entries[f"{key}.cls"])))
        expected = [(path.read_bytes(), int(n)) for path, n in zip(split.paths, split.labels, strict=True)]
        assert sorted(held) == sorted(expected)


def test_nothing_but_what_is_listed_lies_in_the_folder_and_the_sums_hold(folder: Path) -> None:
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    listed = {line.split("  ")[1]: line.split("  ")[0] for line in lines}
    assert {p.name for p in folder.iterdir()} == listed.keys() | {"SHA256SUMS", "classes.txt", "manifest.json"}
    assert all(sums(folder)[name] == sha256 for name, sha256 in listed.items())
    assert (folder / "classes.txt").read_text() == "cat\ndog\neel\n"


def test_neighbours_are_of_different_classes(folder: Path) -> None:
    labels = shards.read(folder).splits["train"].labels
    assert len(set(labels[:8].tolist())) == 3  # by class folders they would all be cats


def test_pixels_become_png_and_keep_their_values(tmp_path: Path) -> None:
    data = open_data("digits")
    shards.write(data, tmp_path / "s")
    split, given = shards.read(tmp_path / "s").splits["test"], data.splits["test"]
    found = sorted((int(n), np.asarray(split.picture(i, 1)).tobytes()) for i, n in enumerate(split.labels))
    assert found == sorted((int(n), a.tobytes()) for n, a in zip(given.labels, given.images, strict=True))


CHILD = """
import sys, time
from convatlas.data import open_data, shards
def slowly(done, total):
    print(done, flush=True)
    time.sleep(0.01)
shards.write(open_data(sys.argv[1]), __import__("pathlib").Path(sys.argv[2]), size=20_480, progress=slowly)
"""


def test_a_killed_writing_goes_on_and_ends_with_the_same_bytes(
    photos: Path, data: Data, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    child = subprocess.Popen([sys.executable, "-c", CHILD, photos, out], stdout=subprocess.PIPE, text=True)
    for line in child.stdout:
        if int(line) == 33:
            child.send_signal(signal.SIGKILL)
            break
    child.wait()
    child.stdout.close()
    finished = {p.name: p.stat().st_mtime_ns for p in out.glob("*.tar")}
    assert finished and not (out / "manifest.json").exists()
    with pytest.raises(BadData) as caught:
        shards.read(out)
    assert str(caught.value) == f"the shards in {out} are not finished; write them again to go on"
    time.sleep(0.02)
    counted: list[int] = []
    shards.write(data, out, size=20_480, progress=lambda done, total: counted.append(done))
    assert sums(out) == sums(folder)
    assert all((out / name).stat().st_mtime_ns == date for name, date in finished.items())
    assert counted[0] > 0 and counted[-1] == 60


@pytest.mark.parametrize("step", range(0, 60, 7))
def test_a_writing_that_fails_anywhere_goes_on(data: Data, folder: Path, tmp_path: Path, step: int) -> None:
    class Killed(BaseException):
        pass

    def stop(done: int, total: int) -> None:
        if done == step:
            raise Killed

    with pytest.raises(Killed):
        shards.write(data, tmp_path / "out", size=20_480, progress=stop)
    shards.write(data, tmp_path / "out", size=20_480)
    assert sums(tmp_path / "out") == sums(folder)


def test_a_shard_lost_meanwhile_is_written_again(data: Data, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def stop(done: int, total: int) -> None:
        if done == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards.write(data, out, size=20_480, progress=stop)
    (out / "train-000001.tar").unlink()
    shards.write(data, out, size=20_480)
    assert sums(out) == sums(folder)


def test_writing_what_is_there_changes_nothing(data: Data, folder: Path) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert shards.write(data, folder, size=20_480).classes == ("cat", "dog", "eel")
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before


def test_images_that_cannot_be_read_are_left_out_and_listed(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("a", "b"):
        (root / "train" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("L", (4, 4), i).save(root / "train" / name / f"{i}.png")
    (root / "train/a/gone.jpg").symlink_to("nowhere")
    os.mkfifo(root / "train/b/pipe.jpg")
    data = open_data(root, validation=0)
    found = shards.write(data, tmp_path / "out", size=10_240)
    assert sorted((bad.path, bad.reason) for bad in found.left_out) == [
        (f"{root}/train/a/gone.jpg", "no such file or directory"),
        (f"{root}/train/b/pipe.jpg", "not a regular file"),
    ]
    assert len(shards.read(tmp_path / "out").splits["train"]) == 8


def test_a_folder_of_something_else(data: Data, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError) as caught:
        shards.write(data, tmp_path)
    assert str(caught.value) == f"{tmp_path} holds other files (thesis.tex); give a new folder"
    with pytest.raises(UsageError) as caught:
        shards.write(data, tmp_path / "thesis.tex")
    assert str(caught.value) == f"{tmp_path}/thesis.tex is a file; give a new folder for the shards"
    with pytest.raises(BadData) as caught:
        shards.write(data, folder, size=10**6)
    assert str(caught.value) == f"{folder} holds shards of other data or another size; give a new folder"
    with pytest.raises(UsageError) as caught:
        shards.write(data, tmp_path / "new", size=0)
    assert str(caught.value) == "size is 0; give the bytes of a shard, such as 1000000000"


def test_two_writers_in_one_folder(data: Data, tmp_path: Path) -> None:
    def second(done: int, total: int) -> None:
        with pytest.raises(UsageError) as caught:
            shards.write(data, tmp_path / "out")
        assert str(caught.value) == f"another process writes shards into {tmp_path}/out; wait for it to end"

    shards.write(data, tmp_path / "out", progress=second)


def test_a_full_disk(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.TarWriter, "_write", full)
    with pytest.raises(SaveFailed, match=r"^cannot write .*out: No space left on device; .* choose another folder$"):
        shards.write(data, tmp_path / "out")
    monkeypatch.undo()
    shards.write(data, tmp_path / "out")


def test_a_split_without_a_readable_image(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "x.jpg").symlink_to("nowhere")
    data = open_data(tmp_path / "set", validation=0)
    with pytest.raises(BadData) as caught:
        shards.write(data, tmp_path / "out")
    message = str(caught.value)
    assert message.startswith("none of the 2 images of the train split can be read; first ")
    assert message.endswith("/x.jpg: no such file or directory")


def test_extensions_follow_the_content(tmp_path: Path) -> None:
    assert writing._extension(b"\x89PNG\r\n\x1a\n", ".jpg") == "png"
    assert writing._extension(b"\0\0\0\x20ftypavif", "") == "avif"
    assert writing._extension(b"damaged", ".webp") == "webp"
    split = Split("train", np.array([0]), np.zeros((1, 2, 2), np.uint8), classes=("a", "b"))
    assert writing._content(split, 0)[1] == "png"
