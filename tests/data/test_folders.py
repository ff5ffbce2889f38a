"""Image folders: order and labels against torchvision's ImageFolder, odd trees, and refusals in full."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.data import open_data
from convatlas.data.folders import LAYOUTS
from convatlas.errors import BadData


def fill(folder: Path, counts: dict[str, int], mode: str = "RGB") -> Path:
    for name, n in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            Image.new(mode, (8, 6), i * 10).save(folder / name / f"{i}.png")
    return folder


def refusal(folder: Path | str) -> str:
    with pytest.raises(BadData) as caught:
        open_data(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("validation", ["validation", "val", "valid", "Val"])
def test_split_folders_are_kept(tmp_path: Path, validation: str) -> None:
    for name, n in (("train", 4), (validation, 2), ("test", 1)):
        fill(tmp_path / name, {"cat": n, "dog": n + 1})
    data = open_data(tmp_path)
    assert data.classes == ("cat", "dog") and data.channels == 3
    assert {name: split.counts().tolist() for name, split in data.splits.items()} == {
        "train": [4, 5],
        "validation": [2, 3],
        "test": [1, 2],
    }
    assert data.rule == "train, validation and test as given"


def test_order_and_labels_are_those_of_imagefolder(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    fill(tmp_path / "train", {"10": 3, "2": 2, "b": 1, "B": 2, "a b": 1, "é": 1})
    fill(tmp_path / "train/2", {"deep/er": 2, "also": 1})
    theirs = ImageFolder(tmp_path / "train")
    ours = open_data(tmp_path, validation=0).splits["train"]
    assert list(ours.classes) == theirs.classes
    assert ours.paths is not None
    assert {(str(p), int(label)) for p, label in zip(ours.paths, ours.labels, strict=True)} == set(theirs.samples)


def test_validation_is_held_out_of_train(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"a": 10, "b": 20})
    fill(tmp_path / "test", {"a": 1, "b": 1})
    data = open_data(tmp_path, validation=0.2, seed=3)
    assert data.splits["validation"].counts().tolist() == [2, 4]
    assert data.rule == "train and test as given; 20 % of each class of train held out for validation with seed 3"
    assert list(data.splits) == ["train", "validation", "test"]
    none = open_data(tmp_path, validation=0)
    assert list(none.splits) == ["train", "test"]
    assert none.rule == "train and test as given, no validation split"


def test_one_folder_is_divided(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 10, "b": 20, "train": 10})  # a class of trains
    data = open_data(tmp_path)
    assert data.classes == ("a", "b", "train")
    assert {name: split.counts().tolist() for name, split in data.splits.items()} == {
        "train": [7, 14, 7],
        "validation": [1, 2, 1],
        "test": [2, 4, 2],
    }
    assert data.rule == (
        "a fifth of each class is the test split and 10 % of the rest the validation split, drawn with seed 0"
    )


def test_a_split_that_lacks_a_class_says_so(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"a": 2, "b": 2, "c": 2})
    fill(tmp_path / "test", {"b": 1, "a": 0})
    data = open_data(tmp_path, validation=0.4)
    assert data.rule.endswith("; test has no image of a and c")
    assert data.splits["test"].labels.tolist() == [1]


def test_a_test_folder_alone_can_be_evaluated(tmp_path: Path) -> None:
    fill(tmp_path / "test", {"a": 1, "b": 1})
    assert list(open_data(tmp_path).splits) == ["test"]


def test_links_hidden_and_other_files(tmp_path: Path) -> None:
    fill(tmp_path / "real", {"a": 3})
    fill(tmp_path / "set", {"b": 2, ".hidden": 4})
    (tmp_path / "set/a").symlink_to(tmp_path / "real/a")
    (tmp_path / "set/b/back").symlink_to(tmp_path / "set/b")
    (tmp_path / "set/b/up").symlink_to(tmp_path / "set")
    (tmp_path / "set/b/self").symlink_to("self")
    (tmp_path / "set/b/._0.png").touch()
    (tmp_path / "set/b/notes.TXT").touch()
    (tmp_path / "set/b/README").touch()
    (tmp_path / "set/loose.jpg").touch()
    (tmp_path / "set/list.csv").touch()
    data = open_data(tmp_path / "set", validation=0)
    assert data.classes == ("a", "b")
    counts = sum(split.counts() for split in data.splits.values())
    assert counts.tolist() == [3, 2]  # a link up would make every image one of b, too
    assert data.ignored["images outside class folders"] == 1
    assert data.ignored[".csv"] == 1 and data.ignored[".txt"] == 1 and data.ignored["without extension"] == 2


def test_files_that_cannot_be_images_are_listed_for_decoding_to_name(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "a/broken.jpg").symlink_to("nowhere")
    os.mkfifo(tmp_path / "b/pipe.png")
    assert sum(len(split) for split in open_data(tmp_path).splits.values()) == 12


def test_channels_come_from_the_headers(tmp_path: Path) -> None:
    fill(tmp_path / "grey", {"a": 5, "b": 5}, mode="L")
    (tmp_path / "grey/a/0.png").write_text("damaged")
    assert open_data(tmp_path / "grey").channels == 1
    Image.new("RGB", (4, 4)).save(tmp_path / "grey/b/4.png")
    data = open_data(tmp_path / "grey", validation=0)
    assert data.channels == (3 if tmp_path / "grey/b/4.png" in (data.splits["train"].paths or ()) else 1)


def test_refusals(tmp_path: Path) -> None:
    known = f"give digits or a folder, a CSV file or the address of shards; {LAYOUTS}"
    assert refusal(tmp_path / "no") == f"{tmp_path / 'no'} does not exist; {known}"
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file") == f"{tmp_path / 'file'} is a file of no known kind (.csv, .tsv, .tar); {known}"
    assert LAYOUTS == (
        "known layouts are train/CLASS/*.jpg with validation/ (or val/, valid/) and test/ beside it, CLASS/*.jpg "
        "alone, MNIST's files train-images-idx3-ubyte.gz and so on, CIFAR's python or binary batches, tar shards, a "
        "packed set, a folder that Hugging Face's datasets saved, and a CSV file of path and label"
    )
    (tmp_path / "bare").mkdir()
    Image.new("L", (2, 2)).save(tmp_path / "bare/x.png")
    assert refusal(tmp_path / "bare") == f"no class folders with images in {tmp_path / 'bare'}; {LAYOUTS}"
    fill(tmp_path / "empty", {"a": 0, "b": 0})
    assert refusal(tmp_path / "empty") == f"no class folders with images in {tmp_path / 'empty'}; {LAYOUTS}"
    fill(tmp_path / "half", {"a": 2, "b": 0})
    assert refusal(tmp_path / "half") == (
        f"class 'b' of {tmp_path / 'half'} has no image; add images or remove the folder"
    )
    fill(tmp_path / "one", {"only": 2})
    assert refusal(tmp_path / "one") == (
        f"{tmp_path / 'one'} has one class, 'only'; a classifier needs two or more class folders"
    )
    fill(tmp_path / "outer/inner", {"a": 2, "b": 2})
    assert refusal(tmp_path / "outer") == (
        f"{tmp_path / 'outer'} has one class, 'inner'; a classifier needs two or more class folders, "
        f"or did you mean {tmp_path / 'outer/inner'}?"
    )


def test_refusals_of_split_folders(tmp_path: Path) -> None:
    fill(tmp_path / "extra/train", {"a": 2, "b": 2})
    fill(tmp_path / "extra/test", {"a": 1, "c": 1})
    assert refusal(tmp_path / "extra") == (
        f"class 'c' of {tmp_path / 'extra/test'} is missing in {tmp_path / 'extra/train'}; labels are matched by name, "
        f"so rename or remove it"
    )
    fill(tmp_path / "both/train", {"a": 2, "b": 2})
    fill(tmp_path / "both/val", {"a": 1})
    fill(tmp_path / "both/valid", {"a": 1})
    assert refusal(tmp_path / "both") == f"{tmp_path / 'both'} holds both val and valid; keep one validation folder"
    fill(tmp_path / "none/train", {"a": 2, "b": 2})
    fill(tmp_path / "none/test", {"a": 0, "b": 0})
    assert (
        refusal(tmp_path / "none") == f"{tmp_path / 'none/test'} holds no image; add images or remove the test folder"
    )


def test_a_class_name_must_survive_a_text_file(tmp_path: Path) -> None:
    fill(tmp_path, {"good": 2})
    odd = tmp_path / os.fsdecode(b"bad\xff")
    odd.mkdir()
    Image.new("L", (2, 2)).save(odd / "x.png")
    assert refusal(tmp_path) == (
        f"the class folder {tmp_path}/bad\\udcff has a name that is no plain text (UTF-8); rename it"
    )
    odd.rename(tmp_path / "衬 衫 👕")
    assert open_data(tmp_path).classes == ("good", "衬 衫 👕")


def test_the_clothing_photos(shared_data: Path) -> None:
    data = open_data(shared_data / "clothing")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 1192, "validation": 225, "test": 245}
    assert len(data.classes) == 10 and data.channels == 3
    assert np.array_equal(np.unique(data.splits["train"].labels), np.arange(10))
