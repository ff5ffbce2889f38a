"""IDX files against torchvision's reader, and every way in which one can be wrong."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from convatlas.data import idx, open_data
from convatlas.errors import BadData


def idx_bytes(array: np.ndarray) -> bytes:
    head = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_set(folder: Path, train: int = 40, test: int = 20, gz: bool = True, classes: int = 4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(0)
    for prefix, n in (("train", train), ("t10k", test)):
        images = idx_bytes(chance.integers(0, 256, (n, 6, 5)))
        labels = idx_bytes(np.arange(n) % classes)
        for name, content in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            path = folder / (f"{name}.gz" if gz else name)
            path.write_bytes(gzip.compress(content) if gz else content)
    return folder


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize("inside", ["", "raw", "MNIST/raw"])
def test_layouts(tmp_path: Path, gz: bool, inside: str) -> None:
    write_set(tmp_path / "numbers" / inside, gz=gz)
    data = open_data(tmp_path / "numbers", validation=0.25)
    assert data.name == "numbers" and data.classes == ("0", "1", "2", "3") and data.channels == 1
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 28, "validation": 12, "test": 20}
    assert data.rule == "train and test as given; 25 % of each class of train held out for validation with seed 0"
    assert data.splits["validation"].counts().tolist() == [3, 3, 3, 3]  # 2.5 rounded up
    images = data.splits["train"].images
    assert images is not None and images.shape == (28, 6, 5) and images.dtype == np.uint8


def test_equals_torchvision_on_mnist(shared_data: Path, tmp_path: Path) -> None:
    from torchvision.datasets.mnist import read_image_file, read_label_file

    parts = idx.read(shared_data / "mnist")
    for name, ours, reader in (("images-idx3", parts["test"][0], read_image_file),
                               ("labels-idx1", parts["test"][1], read_label_file)):  # fmt: skip
        plain = tmp_path / name
        plain.write_bytes(gzip.decompress((shared_data / f"mnist/t10k-{name}-ubyte.gz").read_bytes()))
        assert np.array_equal(ours, reader(str(plain)).numpy())
    assert parts["train"][0].shape == (60000, 28, 28)
    assert np.bincount(parts["train"][1]).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_class_names_from_a_file(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / "classes.txt").write_text("shirt\ntrouser\nshoe\nbag\nhat\n")
    assert open_data(tmp_path).classes == ("shirt", "trouser", "shoe", "bag")
    (tmp_path / "classes.txt").write_text("shirt\ntrouser\n")
    with pytest.raises(BadData) as caught:
        open_data(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'classes.txt'} has 2 lines; labels go to 3, so give 4 different class names, one a line"
    )
    (tmp_path / "classes.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(BadData) as caught:
        open_data(tmp_path)
    assert str(caught.value) == f"{tmp_path / 'classes.txt'} is not UTF-8 text; give a class name a line"


def test_damage_is_named(tmp_path: Path) -> None:
    images = tmp_path / "train-images-idx3-ubyte"
    good = write_set(tmp_path, gz=False)
    content = images.read_bytes()

    def fault() -> str:
        with pytest.raises(BadData) as caught:
            open_data(good)
        return str(caught.value)

    images.write_bytes(content[:-7])
    assert fault() == f"{images}: its header says 40 x 6 x 5 bytes, but it holds only 1,193; fetch it again"
    images.write_bytes(content + b"x")
    assert fault() == f"{images}: its header says 40 x 6 x 5 bytes, but it holds more; fetch it again"
    images.write_bytes(b"<html>not found</html>")
    assert fault() == f"{images} is no IDX file of unsigned bytes with 3 dimensions; fetch it again"
    images.write_bytes(content[:4] + b"\xff" * 12 + content[16:])
    assert fault() == (
        f"{images}: its header says 4,294,967,295 x 4,294,967,295 x 4,294,967,295 bytes, more than the 4,000,000,000 "
        f"allowed"
    )
    images.write_bytes(idx_bytes(np.zeros((39, 6, 5))))
    assert fault() == (
        f"{tmp_path}: train-images-idx3-ubyte holds 39 images and train-labels-idx1-ubyte 40 labels; "
        f"the numbers must be equal"
    )
    images.write_bytes(content)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.full(20, 7)))
    assert fault() == f"label 7 of test in {tmp_path} is missing in train"
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert fault() == f"{tmp_path} lacks t10k-labels-idx1-ubyte (or t10k-labels-idx1-ubyte.gz)"


@pytest.mark.parametrize("cut", [0, 5, 60])
def test_damaged_gzip_is_named(tmp_path: Path, cut: int) -> None:
    write_set(tmp_path)
    images = tmp_path / "train-images-idx3-ubyte.gz"
    images.write_bytes(images.read_bytes()[:cut])
    with pytest.raises(BadData) as caught:
        open_data(tmp_path)
    assert str(caught.value) in (
        f"{images}: its gzip data are damaged; fetch it again",
        f"{images} is no IDX file of unsigned bytes with 3 dimensions; fetch it again",
    )


def test_several_sets_in_one_folder(tmp_path: Path) -> None:
    write_set(tmp_path / "KMNIST/raw")
    write_set(tmp_path / "MNIST/raw")
    with pytest.raises(BadData) as caught:
        open_data(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds several IDX sets; give one of {tmp_path / 'KMNIST'}, {tmp_path / 'MNIST'}"
    )


def test_one_class_is_none(tmp_path: Path) -> None:
    write_set(tmp_path, classes=1)
    with pytest.raises(BadData) as caught:
        open_data(tmp_path)
    assert str(caught.value) == f"{tmp_path} has one class, '0'; a classifier needs two or more"
