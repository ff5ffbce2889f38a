"""RandAugment: torchvision's own for each image, whatever happened to the generator before."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from convatlas.data import draws
from convatlas.data.augment import automatic
from convatlas.data.augment.automatic import RandAugment
from convatlas.errors import MissingExtra


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_torchvisions(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 20, 17, channels), np.uint8)
    index = np.arange(50, 62)
    state = torch.get_rng_state()
    out = RandAugment(2, 9).apply(images.copy(), 3, 1, index)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng():
        for i, number in enumerate(index.tolist()):
            torch.manual_seed(draws.key(3, 1, draws.RANDAUGMENT, number) >> 1)
            picture = Image.fromarray(images[i, :, :, 0] if channels == 1 else images[i])
            theirs = v2.RandAugment(num_ops=2, magnitude=9)(picture)
            assert np.array_equal(np.asarray(theirs).reshape(out[i].shape), out[i])
    assert sum(not np.array_equal(a, b) for a, b in zip(images, out, strict=True)) > 6


def test_an_image_is_changed_the_same_in_any_batch() -> None:
    images, index = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8), np.arange(20)
    change = RandAugment(2, 15)
    whole = change.apply(images.copy(), 5, 2, index)
    assert np.array_equal(change.apply(images[7:9].copy(), 5, 2, index[7:9]), whole[7:9])
    assert not np.array_equal(change.apply(images.copy(), 5, 3, index), whole)


def test_without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    automatic._transform.cache_clear()
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    with pytest.raises(MissingExtra) as caught:
        RandAugment(3, 3)
    assert str(caught.value) == (
        "augmentation 'randaugment' needs torchvision, which is not installed; pip install 'convatlas[torchvision]'"
    )
