"""What goes wrong in a loader process reaches the user as it would without one."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from convatlas import errors
from convatlas.data import Preprocess, Split
from convatlas.data.loader import Feed, _Failed, eval_batches
from convatlas.errors import BadData, ConvAtlasError, SaveFailed, UnknownName

SMALL = Preprocess(3, 8, 8, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))


@dataclass(frozen=True)
class Vanishing:
    """Sixteen images of which the tenth cannot be had for a reason that is not its own."""

    error: ConvAtlasError

    def __len__(self) -> int:
        return 16

    def name(self, number: int) -> str:
        return f"image {number}"

    def key(self, number: int) -> bytes:
        return b""

    def read(self, number: int) -> Path | bytes | np.ndarray:
        if number == 9:
            raise self.error
        return np.zeros((8, 8, 3), np.uint8)

    def take(self, positions: np.ndarray) -> "Vanishing":
        raise NotImplementedError

    def order(self, stream: int) -> None:
        return None

    def digest(self) -> None:
        return None


GIVEN = [
    BadData("/set/train-3.tar has 10 bytes, expected 20; fetch or write it again"),
    SaveFailed("/cache/x cannot be written: no space left on device; make room or save elsewhere"),
    UnknownName("layer", "cnov1", ("conv1", "fc2")),
]


@pytest.mark.parametrize("error", GIVEN, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_error_of_ours_is_the_same_from_a_loader_process(error: ConvAtlasError, workers: int) -> None:
    split = Split("train", np.zeros(16, np.int64), stored=Vanishing(error), classes=("one",))
    for batches in (
        eval_batches(split, SMALL, batch=4, workers=workers),
        Feed(split, SMALL, (), batch=4, seed=0, workers=workers).batches(0),
    ):
        with pytest.raises(ConvAtlasError) as caught:
            list(batches)
        assert type(caught.value) is type(error) and str(caught.value) == str(error)
        assert caught.value.exit_code == error.exit_code


def test_every_error_of_ours_can_be_sent() -> None:
    """Those too that are made from something else than their text."""
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, ConvAtlasError)]
    assert len(kinds) > 10
    for kind in kinds:
        again = pickle.loads(pickle.dumps(_Failed(kind, "what, why and what to do"))).again()
        assert type(again) is kind and str(again) == "what, why and what to do"
