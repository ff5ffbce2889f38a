"""CIFAR files in the published layouts, against torchvision's reader; damage and hostile pickles."""

import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convatlas.data import open_data
from convatlas.errors import BadData

TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def python2(value: Any) -> bytes:
    """A value as Python 2's cPickle wrote it with protocol 2, without memo."""
    if isinstance(value, dict):
        return b"}(" + b"".join(python2(k) + python2(v) for k, v in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(python2, value)) + b"e"
    if isinstance(value, str):
        return b"U" + bytes([len(value)]) + value.encode("latin1")
    if isinstance(value, int):
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)
    shape = b"".join(map(python2, value.shape)) + b"\x86"
    kind = b"cnumpy\ndtype\n" + b"U\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    content = b"T" + struct.pack("<I", value.size) + value.tobytes()
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return made + b"(K\x01" + shape + kind + b"\x89" + content + b"tb"


def pixels(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), np.uint8)


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x80\x02" + python2(value) + b".")


def ten_python(folder: Path, each: int = 20) -> Path:
    for i, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        labels = [(3 * j + i) % 10 for j in range(each)]
        names = [f"some_{j}.png" for j in range(each)]
        said = "testing batch 1 of 1" if i == 5 else f"training batch {i + 1} of 5"
        batch = {"batch_label": said, "labels": labels, "data": pixels(each, i), "filenames": names}
        write(folder / name, batch)
    write(folder / "batches.meta", {"num_cases_per_batch": 10000, "label_names": TEN, "num_vis": 3072})
    (folder / "readme.html").write_text("<meta>")
    return folder


def hundred_python(folder: Path) -> Path:
    fine = [f"fine{n:02d}" for n in range(100)]
    for i, (name, n) in enumerate((("train", 300), ("test", 200))):
        labels = [(7 * j) % 100 for j in range(n)]
        coarse = [f // 5 for f in labels]
        batch = {"filenames": [f"{j}.png" for j in range(n)], "batch_label": name, "fine_labels": labels}
        write(folder / name, batch | {"coarse_labels": coarse, "data": pixels(n, i)})
    write(folder / "meta", {"fine_label_names": fine, "coarse_label_names": [f"coarse{n}" for n in range(20)]})
    (folder / "file.txt~").touch()
    return folder


def ten_binary(folder: Path, each: int = 20) -> Path:
    folder.mkdir(parents=True)
    for i, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        labels = np.array([(3 * j + i) % 10 for j in range(each)], np.uint8)
        (folder / f"{name}.bin").write_bytes(np.column_stack([labels, pixels(each, i)]).tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")
    return folder


def hundred_binary(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for i, (name, n) in enumerate((("train", 300), ("test", 200))):
        fine = np.array([(7 * j) % 100 for j in range(n)], np.uint8)
        (folder / f"{name}.bin").write_bytes(np.column_stack([fine // 5, fine, pixels(n, i)]).tobytes())
    (folder / "fine_label_names.txt").write_text("".join(f"fine{n:02d}\n" for n in range(100)))
    (folder / "coarse_label_names.txt").write_text("".join(f"coarse{n}\n" for n in range(20)))
    return folder


def theirs(kind: str, folder: Path, train: bool) -> Any:
    """torchvision's reading; it wants the published sums, so it is told the sums of these files."""
    from torchvision import datasets

    def sums(entries: list[list[str]]) -> list[list[str]]:
        return [[n, hashlib.md5((folder / n).read_bytes()).hexdigest()] for n, _ in entries]

    base = getattr(datasets, kind)
    meta = base.meta | {"md5": sums([[base.meta["filename"], ""]])[0][1]}
    own = {"base_folder": folder.name, "train_list": sums(base.train_list), "test_list": sums(base.test_list)}
    return type("Own", (base,), own | {"meta": meta})(folder.parent, train=train)


@pytest.mark.parametrize("below", [True, False])
@pytest.mark.parametrize(
    "kind, name, make",
    [("CIFAR10", "cifar-10-batches-py", ten_python), ("CIFAR100", "cifar-100-python", hundred_python)],
)
def test_python_files_are_read_as_torchvision_reads_them(
    tmp_path: Path, kind: str, name: str, make: Any, below: bool
) -> None:
    folder = make(tmp_path / name)
    data = open_data(tmp_path if below else folder, validation=0)
    assert list(data.splits) == ["train", "test"] and data.channels == 3 and data.warnings == ()
    assert data.rule == "train and test as given, no validation split"
    for role, split in data.splits.items():
        other = theirs(kind, folder, role == "train")
        assert np.array_equal(split.images, other.data)
        assert split.labels.tolist() == other.targets and list(split.classes) == other.classes


@pytest.mark.parametrize(
    "one, first, other, second",
    [
        (ten_python, "cifar-10-batches-py", ten_binary, "cifar-10-batches-bin"),
        (hundred_python, "cifar-100-python", hundred_binary, "cifar-100-binary"),
    ],
)
def test_binary_files_hold_the_same(tmp_path: Path, one: Any, first: str, other: Any, second: str) -> None:
    one(tmp_path / "python" / first)
    other(tmp_path / "binary" / second)
    for name in (second, ""):
        a, b = open_data(tmp_path / "python"), open_data(tmp_path / "binary" / name)
        assert {n: s.digest() for n, s in a.splits.items()} == {n: s.digest() for n, s in b.splits.items()}


def refusal(folder: Path) -> str:
    with pytest.raises(BadData) as caught:
        open_data(folder)
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)
    return str(caught.value)


def test_classes_that_train_lacks_and_names_that_are_missing(tmp_path: Path) -> None:
    folder = ten_python(tmp_path / "some", each=1)
    (folder / "test_batch").unlink()
    assert open_data(folder).classes == ("airplane", "automobile", "bird", "cat", "deer")
    for n in range(1, 5):
        (folder / f"data_batch_{n}").write_bytes((folder / "data_batch_1").read_bytes())
    (folder / "data_batch_5").unlink()
    assert refusal(folder) == f"{folder} has one class, 'airplane'; a classifier needs two or more"
    ten_python(folder)
    (folder / "data_batch_5").unlink()
    (folder / "batches.meta").unlink()
    data = open_data(folder)
    assert data.classes == tuple("0123456789")
    assert data.warnings == (
        f"{folder / 'batches.meta'} is missing, so classes are called by their numbers",
        f"{folder} holds 4 of CIFAR-10's 5 training batches",
    )


def test_damage_is_named(tmp_path: Path) -> None:
    folder = ten_python(tmp_path / "py")
    batch = folder / "data_batch_3"
    content = batch.read_bytes()
    batch.unlink()
    assert refusal(folder) == f"{folder} lacks data_batch_3; fetch the set again"
    batch.write_bytes(content[:-9])
    assert refusal(folder) == f"{batch} is no CIFAR file: its pickle is damaged; nothing of it was run"
    write(batch, {"data": pixels(3, 0)[:, :100], "labels": [1, 2, 3]})
    assert refusal(folder) == f"{batch}: 'data' is no array of 3,072 bytes an image; fetch it again"
    write(batch, {"data": pixels(3, 0), "fine_labels": [1, 2, 3]})
    assert refusal(folder) == f"{batch}: 'labels' is no list of class numbers; fetch it again"
    write(batch, {"data": pixels(3, 0), "labels": [1, 2]})
    assert refusal(folder) == f"{batch} holds 3 images and 2 labels; the numbers must be equal"
    write(batch, {"data": pixels(0, 0), "labels": []})
    assert refusal(folder) == f"{batch} holds no image"
    batch.write_bytes(content)
    write(folder / "batches.meta", {"label_names": TEN[:9]})
    assert refusal(folder) == (
        f"{folder / 'batches.meta'} does not give 10 different class names, as the labels need; fetch it again"
    )
    write(folder / "batches.meta", {"label_names": TEN})
    write(folder / "test_batch", {"data": pixels(1, 0), "labels": [12]})
    assert refusal(folder) == f"label 12 of test in {folder} is missing in train"
    binary = ten_binary(tmp_path / "bin")
    (binary / "data_batch_2.bin").write_bytes(b"x" * 3074)
    assert refusal(binary) == (
        f"{binary / 'data_batch_2.bin'} has 3,074 bytes, no multiple of the 3,073 of an image; fetch it again"
    )


class Runs:
    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, name: str) -> None:
    folder, canary = ten_python(tmp_path / "set"), tmp_path / "canary"
    hostile = pickle.dumps({"data": Runs(canary), "labels": [1], "label_names": TEN}, 0)
    (folder / name).write_bytes(hostile)
    said = refusal(folder)
    assert said.startswith(f"{folder / name} is no CIFAR file: it would run ")
    assert said.endswith(", which no data need; nothing of it was run")
    assert not canary.exists()


def test_several_sets_in_one_folder(tmp_path: Path) -> None:
    one, other = ten_python(tmp_path / "cifar-10-batches-py"), hundred_binary(tmp_path / "cifar-100-binary")
    assert refusal(tmp_path) == f"{tmp_path} holds several CIFAR sets: {one}, {other}; keep or give one"


def test_a_file_larger_than_any_published_one(tmp_path: Path) -> None:
    folder = ten_binary(tmp_path / "bin")
    with (folder / "data_batch_1.bin").open("wb") as file:
        file.truncate(1_000_000_001)  # a hole: no disk is used
    assert refusal(folder) == (
        f"{folder / 'data_batch_1.bin'} has 1,000,000,001 bytes, more than the 1,000,000,000 allowed"
    )
