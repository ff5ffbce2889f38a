"""Mean and deviation against numpy over all pixels, and MNIST's well-known figures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.data import Preprocess, open_data, statistics
from convatlas.data.sets import Split
from convatlas.data.stored import Paths
from convatlas.errors import BadData


@pytest.mark.parametrize("channels", [1, 3])
def test_equals_numpy_over_all_pixels(channels: int) -> None:
    split = open_data("digits").splits["train"]
    p = Preprocess(channels, 12, 12, "pad")
    mean, std = statistics(split, p)
    pixels = split.prepared(p) / 255
    assert np.allclose(mean, pixels.mean((0, 1, 2))) and np.allclose(std, pixels.std((0, 1, 2)))
    assert len(mean) == len(std) == channels


@pytest.mark.parametrize("workers", [0, 2])
def test_files_with_bad_ones_among_them(tmp_path: Path, workers: int) -> None:
    chance = np.random.default_rng(1)
    arrays = chance.integers(0, 256, (6, 10, 10, 3), np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(7)]
    for path, array in zip(paths, arrays, strict=False):
        Image.fromarray(array).save(path)
    paths[6].write_text("bad")
    split = Split("train", np.zeros(7, np.int64), stored=Paths(tuple(paths)), classes=("a", "b"))
    mean, std = statistics(split, Preprocess(3, 10, 10, crop=1), workers=workers)
    assert np.allclose(mean, arrays.mean((0, 1, 2)) / 255) and np.allclose(std, arrays.std((0, 1, 2)) / 255)


def test_no_image_can_be_decoded(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("bad")
    split = Split("train", np.zeros(1, np.int64), stored=Paths((tmp_path / "x.png",)), classes=("a", "b"))
    with pytest.raises(BadData) as caught:
        statistics(split, Preprocess(3, 10, 10))
    assert str(caught.value) == "no image of the train split can be decoded; `convatlas check-data` names each"


def test_a_constant_image_has_a_deviation_to_divide_by() -> None:
    split = Split("train", np.zeros(2, np.int64), np.full((2, 4, 4), 51, np.uint8), classes=("a", "b"))
    mean, std = statistics(split, Preprocess(1, 4, 4, crop=1))
    assert mean == pytest.approx((0.2,)) and std == (1 / 255,)


def test_mnist(shared_data: Path) -> None:
    split = open_data(shared_data / "mnist", validation=0).splits["train"]
    mean, std = statistics(split, Preprocess(1, 28, 28, "pad"))
    assert mean == pytest.approx((0.1307,), abs=0.00005) and std == pytest.approx((0.3081,), abs=0.00005)


def test_a_set_too_large_for_memory_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    from convatlas.data import sets

    split = open_data("digits").splits["train"]
    p = Preprocess(3, 12, 12, "pad")
    whole = statistics(split, p)
    monkeypatch.setattr(sets, "PREPARED", 1000)
    monkeypatch.setattr(Split, "prepared", None)
    assert np.allclose(statistics(split, p), whole)
