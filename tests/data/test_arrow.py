"""Folders that Hugging Face's `datasets` saved."""

import io
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convatlas.data import open_data
from convatlas.errors import BadData, BadImage, MissingExtra

try:
    import datasets
except ImportError:
    pytest.skip("datasets is not installed: its saved folders are not tested", allow_module_level=True)

NAMES = ["truck", "cat", "10", "dog"]


def png(value: int, mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, (6, 4), value).save(out, "PNG")
    return out.getvalue()


def table(labels: list[int | None], names: list[str] = NAMES, mode: str = "RGB", **others: Any) -> Any:
    images = [{"bytes": png(i, mode), "path": None} for i in range(len(labels))]
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)} | {
        k: f for k, (f, _) in others.items()
    }
    columns = {"image": images, "label": labels} | {k: values for k, (_, values) in others.items()}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def save(folder: Path, **splits: Any) -> Path:
    datasets.DatasetDict(splits).save_to_disk(folder)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(BadData) as caught:
        open_data(folder)
    assert caught.value.exit_code == 3 and str(caught.value).isprintable()
    return str(caught.value)


def test_splits_are_those_of_the_set(tmp_path: Path) -> None:
    train, valid = table([1, 0, 3, 1, 0, 3], mode="L"), table([3, 1], names=["truck", "dog", "bird", "cat"], mode="L")
    folder = save(tmp_path / "hub", test=table([0, 3]), train=train, valid=valid, unsupervised=table([0]))
    data = open_data(folder)
    assert data.classes == ("truck", "cat", "dog") and data.channels == 1 and data.name == "hub"
    assert {n: s.labels.tolist() for n, s in data.splits.items()} == {
        "train": [1, 0, 2, 1, 0, 2],
        "validation": [1, 2],  # by name: the set's own numbers are others
        "test": [0, 2],
    }
    assert data.rule == (
        "train, validation and test as given; validation has no image of truck; test has no image of cat"
    )
    assert data.warnings[0] == "split 'unsupervised' is none of train, validation and test and is left out"
    split = data.splits["train"]
    assert split.named(2) == f"{folder}/train row 2"
    for i, row in enumerate(train):
        assert np.array_equal(np.asarray(split.picture(i, 1)), np.asarray(row["image"]))


def test_a_set_without_splits_is_divided_and_travels_to_workers(tmp_path: Path) -> None:
    whole = table([0, 1] * 10).select(range(4, 20))
    whole.save_to_disk(tmp_path / "one")
    data = open_data(tmp_path / "one")
    assert {n: s.counts().tolist() for n, s in data.splits.items()} == {
        "train": [5, 5],
        "validation": [1, 1],
        "test": [2, 2],
    }
    for split in data.splits.values():
        split.given(0)
        sent = pickle.loads(pickle.dumps(split))
        assert [sent.given(i) for i in range(len(sent))] == [split.given(i) for i in range(len(split))]
        numbers = [int(split.named(i).rsplit(" ", 1)[1]) for i in range(len(split))]
        assert [split.given(i) for i in range(len(split))] == [png(n + 4) for n in numbers]
        assert split.labels.tolist() == [n % 2 for n in numbers]


def test_the_digest_is_that_of_the_content_wherever_it_lies(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", train=table([0, 1, 0, 1]))
    shutil.copytree(folder, tmp_path / "b")
    one, other = (open_data(tmp_path / name, validation=0).splits["train"].digest() for name in "ab")
    assert one == other
    changed = open_data(save(tmp_path / "c", train=table([0, 1, 1, 0])), validation=0)
    assert changed.splits["train"].digest() != one


def test_files_and_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.png").write_bytes(png(3))
    cells = [
        {"bytes": None, "path": str(tmp_path / "in.png")},
        {"bytes": None, "path": str(tmp_path / "gone.png")},
        {"bytes": None, "path": "https://x.org/1.png"},
        None,
        {"bytes": b"no image", "path": None},
    ]
    features = datasets.Features({"img": datasets.Image(), "labels": datasets.ClassLabel(names=["a", "b"])})
    train = datasets.Dataset.from_dict({"img": cells, "labels": [0, 1, 0, 1, 0]}, features=features)
    # As one whose files were deleted since: saving such rows as images would read them.
    monkeypatch.setattr(datasets.Dataset, "_estimate_nbytes", lambda _: 1)
    monkeypatch.setattr(datasets.arrow_writer, "embed_table_storage", lambda rows, *_, **__: rows)
    save(tmp_path / "set", train=train)
    split = open_data(tmp_path / "set", validation=0).splits["train"]
    assert split.picture(0, 3).size == (6, 4)
    said = []
    for i in range(1, 5):
        with pytest.raises(BadImage) as caught:
            split.picture(i, 3)
        said.append(str(caught.value))
    at = tmp_path / "set/train row"
    assert said == [
        f"{tmp_path / 'gone.png'}: no such file or directory",
        f"{at} 2: its file https://x.org/1.png is elsewhere and is not fetched",
        f"{at} 3: holds no image",
        f"{at} 4: no image of a known format (JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF)",
    ]


def test_labels_that_are_missing(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", train=table([0, 1, 1, 0]), test=table([-1, -1, None]))
    data = open_data(folder, validation=0)
    assert list(data.splits) == ["train"]
    assert data.warnings == ("test has no labels and is left out",)
    folder = save(tmp_path / "b", train=table([0, 1, None, 0]))
    assert refusal(folder) == f"row 2 of train in {folder} has no label; remove rows without one"


def test_refusals(tmp_path: Path) -> None:
    folder = save(tmp_path / "names", train=table([0, 1]), validation=table([0, 1], names=["Truck", "cat"]))
    assert refusal(folder) == (
        f"validation in {folder} has 'Truck' where train has 'truck'; labels are matched by name, so give each class "
        f"one name"
    )
    folder = save(tmp_path / "one", train=table([1, 1]))
    assert refusal(folder) == f"{folder} has one class, 'cat'; a classifier needs two or more"
    folder = save(tmp_path / "twice", train=table([0, 1]), val=table([0]), valid=table([0]))
    assert refusal(folder) == f"{folder} holds both val and valid; keep one validation split"
    folder = save(tmp_path / "odd", first=table([0, 1]), second=table([0, 1]))
    assert refusal(folder) == f"{folder} has the splits first, second; give train, validation or test"
    folder = save(tmp_path / "text", train=datasets.Dataset.from_dict({"text": ["a"], "n": [1]}))
    assert refusal(folder) == (
        f"train in {folder} has no Image column among text, n; cast it with cast_column(NAME, datasets.Image())"
    )
    folder = save(tmp_path / "value", train=table([0, 1]).cast_column("label", datasets.Value("int64")))
    assert refusal(folder) == (
        f"train in {folder} has no ClassLabel column among image, label; make one with class_encode_column(NAME)"
    )
    cells = [{"bytes": png(1), "path": None}] * 2
    two = table([0, 1], left=(datasets.Image(), cells), right=(datasets.Image(), cells))
    assert len(open_data(save(tmp_path / "three", train=two), validation=0).splits["train"]) == 2
    folder = save(tmp_path / "two", train=two.remove_columns("image"))
    assert refusal(folder) == f"train in {folder} has several Image columns (left, right); call the one to use 'image'"


def test_a_damaged_folder(tmp_path: Path) -> None:
    folder = save(tmp_path / "set", train=table([0, 1] * 4))
    (arrow,) = (folder / "train").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:50])
    assert refusal(folder).startswith(f"{folder} cannot be read by datasets: ")
    arrow.unlink()
    assert refusal(folder).startswith(f"{folder} cannot be read by datasets: ")
    (folder / "dataset_dict.json").write_text("{")
    assert refusal(folder).startswith(f"{folder} cannot be read by datasets: ")


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "set", train=table([0, 1]))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra) as caught:
        open_data(folder)
    assert str(caught.value) == (
        f"reading {folder} needs datasets, which is not installed; pip install 'convatlas[datasets]'"
    )
