"""Mean and deviation against numpy over all pixels, and MNIST's well-known figures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convatlas.data import Preprocess, open_data, statistics
from convatlas.data.moments import Colours, colours, whitening
from convatlas.data.sets import Split
from convatlas.data.stored import Paths
from convatlas.errors import BadData, BadRecipe
from convatlas.layers import Whiten
from convatlas.record import from_json, to_json


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


def coloured(n: int, side: int, seed: int = 0) -> np.ndarray:
    """Smooth images whose colours hang together."""
    chance = np.random.default_rng(seed)
    small = chance.normal(0, 1, (n, side // 2, side // 2, 3)) @ np.array([[50, 40, 30], [0, 25, -10], [0, 0, 8]])
    return np.clip(np.repeat(np.repeat(small, 2, 1), 2, 2) + 120, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_colours_are_the_principal_components_of_all_pixels(tmp_path: Path, in_memory: bool, channels: int) -> None:
    images = coloured(30, 8)
    paths = tuple(tmp_path / f"{i:02d}.png" for i in range(31))
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(image).save(path)
    paths[30].write_text("bad")
    stored = Split("train", np.zeros(31, np.int64), stored=Paths(paths), classes=("a", "b"))
    split = Split("train", np.zeros(30, np.int64), images, classes=("a", "b")) if in_memory else stored
    p = Preprocess(channels, 8, 8, crop=1)
    found = colours(split, p)
    pixels = np.concatenate([p.array(Image.fromarray(i)).reshape(-1, channels) for i in images]).astype(float)
    covariance = np.atleast_2d(np.cov(pixels.T, bias=True))
    vectors, deviations = np.array(found.vectors), np.array(found.deviations)
    assert np.allclose(vectors.T @ np.diag(deviations**2) @ vectors, covariance)
    assert np.allclose(vectors @ vectors.T, np.eye(channels)) and (np.diff(deviations) <= 0).all()
    _, singular, _ = np.linalg.svd(pixels - pixels.mean(0), full_matrices=False)
    assert np.allclose(deviations, singular / np.sqrt(len(pixels)))
    assert from_json(Colours, to_json(found)) == found


def whitened(train: np.ndarray, some: np.ndarray) -> np.ndarray:
    """GCN and ZCA by singular values, pixels from 0 to 255. (N,H,W,C) -> (N,C*H*W)"""

    def contrast(images: np.ndarray) -> np.ndarray:
        rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1).astype(float)
        rows = rows - rows.mean(1, keepdims=True)
        return 55 * rows / np.linalg.norm(rows, axis=1, keepdims=True)

    rows = contrast(train)
    mean = rows.mean(0)
    _, singular, directions = np.linalg.svd(rows - mean, full_matrices=True)
    values = np.zeros(len(directions))
    values[: len(singular)] = singular**2 / len(rows)
    return (contrast(some) - mean) @ directions.T @ np.diag(1 / np.sqrt(values + 0.1)) @ directions


@pytest.mark.parametrize("n", [400, 50])  # more and fewer images than numbers in each
def test_whitening_is_maxouts(n: int) -> None:
    train, some = coloured(n, 8), coloured(20, 8, seed=1)
    p = Preprocess(3, 8, 8, crop=1)
    found = whitening(Split("train", np.zeros(n, np.int64), train, classes=("a", "b")), p, "zca")
    layer = Whiten("zca", (3, 8, 8))
    layer.load_state_dict({"mean": torch.from_numpy(found.mean), "matrix": torch.from_numpy(found.matrix)})
    ours = layer(torch.from_numpy(p.normalise(some)))
    assert ours.shape == (20, 3, 8, 8) and found.mean.dtype == found.matrix.dtype == np.float32
    expected = whitened(train, some)
    assert np.abs(ours.flatten(1).numpy() - expected).max() < 2e-4 * np.abs(expected).max()
    if n == 400:
        rows = layer(torch.from_numpy(p.normalise(train))).flatten(1).numpy()
        spread = np.linalg.eigvalsh(np.cov(rows.T, bias=True))
        assert spread.max() < 1.001 and rows.mean(0) == pytest.approx(np.zeros(192), abs=1e-3)


def test_contrast_alone_needs_nothing_from_the_images() -> None:
    split = Split("train", np.zeros(4, np.int64), coloured(4, 8), classes=("a", "b"))
    p = Preprocess(3, 8, 8, crop=1)
    found = whitening(split, p, "gcn")
    assert found.mean.size == found.matrix.size == 0
    images = np.concatenate(
        [
            coloured(4, 8),
            np.full((1, 8, 8, 3), 77, np.uint8),
            np.eye(8, dtype=np.uint8)[:1, :, None, None].repeat(8, 2).repeat(3, 3),
        ]
    )
    rows = Whiten("gcn", (3, 8, 8))(torch.from_numpy(p.normalise(images))).flatten(1)
    assert rows.mean(1).abs().max() < 1e-5
    assert rows.norm(dim=1)[[0, 1, 2, 3, 5]].tolist() == pytest.approx([55] * 5, rel=1e-5)
    assert rows[4].abs().max() < 1e-5  # of one value: nothing to divide by


def test_whitening_that_would_not_fit() -> None:
    split = Split("train", np.zeros(4, np.int64), coloured(4, 8), classes=("a", "b"))
    with pytest.raises(BadRecipe) as caught:
        whitening(split, Preprocess(3, 224, 224), "zca")
    assert str(caught.value) == (
        "whiten zca at 224x224 needs a matrix of 150,528 x 150,528; at most 12,288 numbers an image can be whitened, "
        "so give a smaller size, or whiten gcn"
    )
