"""Plain values against pickle itself, and pickles that want to run something."""

import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.data import pickles
from convatlas.data.pickles import Refused

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(min_size=1),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=12,
)


@given(PLAIN, st.integers(0, 5))
def test_plain_values_are_what_pickle_reads(value: Any, protocol: int) -> None:
    assert pickles.load(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_bytes(protocol: int, order: Any) -> None:
    array = np.asarray(np.random.default_rng(0).integers(0, 256, (5, 7)), np.uint8, order=order)
    read = pickles.load(pickle.dumps({"data": array, b"n": 5}, protocol))
    assert np.array_equal(read["data"], array) and read["data"].dtype == np.uint8 and read[b"n"] == 5
    assert np.array_equal(pickles.load(pickle.dumps(array, protocol)), array)


def test_other_arrays_are_refused() -> None:
    for array in (np.zeros(3), np.array([{}], object)):
        with pytest.raises(Refused) as caught:
            pickles.load(pickle.dumps({"data": array}, 2))
        assert str(caught.value) == "an array in it does not hold unsigned bytes"


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_is_run(tmp_path: Path, protocol: int) -> None:
    canary = tmp_path / "canary"
    hostile = pickle.dumps({"data": Runs(canary)}, protocol)
    with pytest.raises(Refused, match=r"^it would run [\w.]+, which no data need$"):
        pickles.load(hostile)
    assert not canary.exists()
    pickle.loads(hostile)
    assert canary.exists()  # pickle itself would have run it


@pytest.mark.parametrize(
    "content, said",
    [
        (b"cos\nsystem\n(S'true'\ntR.", "it would run os.system, which no data need"),
        (b"(S'true'\nios\nsystem\n.", "it has the instruction INST, which no data need"),
        (b"(cnumpy\nndarray\nK\x01o.", "it has the instruction OBJ, which no data need"),
        (b"\x80\x02cnumpy\nndarray\nK\x01\x85\x81.", "it has the instruction NEWOBJ, which no data need"),
        (b"\x80\x02\x82\x01.", "it has the instruction EXT1, which no data need"),
        (b"Ppersistent\n.", "it has the instruction PERSID, which no data need"),
        (b"cnumpy\nndarray\n(K\x01tR.", "it would call an object, which no data need"),
        (b"K\x01(K\x01tR.", "it would call an object, which no data need"),
        (b"]}b.", "it would set up an object, which no data need"),
        (b"\x8c\x02a\x1b\x8c\x01b\x93.", "it would run 'a\\x1b.b', which no data need"),
        (b"", "its pickle is damaged"),
        (b"\x80\x02K\x01", "its pickle is damaged"),
        (b".", "its pickle is damaged"),
        (b"t.", "its pickle is damaged"),
        (b"h\x05.", "its pickle is damaged"),
        (b"}(K\x01u.", "its pickle is damaged"),
        (b"}(]K\x01u.", "its pickle is damaged"),
        (b"<html>", "its pickle is damaged"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fab.", "its pickle is damaged"),
    ],
)
def test_refusals(content: bytes, said: str) -> None:
    with pytest.raises(Refused) as caught:
        pickles.load(content)
    assert str(caught.value) == said


def test_a_pickle_cannot_take_memory_or_depth() -> None:
    assert pickles.load(b"K\x01r\xff\xff\xff\xff.") == 1  # a memo of 4,294,967,295 places in pickle's own reader
    nested = pickles.load(b"]" + b"]" * 200_000 + b"a" * 200_000 + b".")
    assert len(nested) == 1


@given(st.binary(max_size=60) | st.lists(st.sampled_from([c.code for c in pickletools.opcodes])).map(
    lambda codes: "".join(codes).encode("latin1")))  # fmt: skip
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        pickles.load(content)
    except Refused as error:
        assert str(error).isprintable()
