"""Images read by their place: takes, names, sums, copies in other processes, and shards that go bad."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from convatlas.data import Data, shards
from convatlas.data.shards import stored
from convatlas.errors import BadData, BadImage


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "set"))


def test_a_take_gives_those_images(folder: Path) -> None:
    split = shards.read(folder).splits["train"]
    picked = split.take("part", np.array([30, 2, 17]))
    assert [picked.given(i) for i in range(3)] == [split.given(i) for i in (30, 2, 17)]
    assert picked.labels.tolist() == split.labels[[30, 2, 17]].tolist()
    assert sorted(picked.stored.order(3).part(0, 3).tolist()) == [0, 1, 2]
    assert [picked.named(i) for i in range(3)] == [split.named(i) for i in (30, 2, 17)]


def test_names_tell_shard_and_file(data: Data, folder: Path) -> None:
    split = shards.read(folder).splits["test"]
    assert split.named(0).startswith(f"{folder}/test-000000.tar: 000000000_")
    stems = {p.parent.name + "_" + p.stem for p in data.splits["test"].paths}
    assert {split.named(i).split("_", 1)[1].rpartition(".")[0] for i in range(len(split))} == stems


def test_a_copy_in_another_process_opens_its_own(folder: Path) -> None:
    one = shards.read(folder).splits["train"].stored
    assert one.read(5)
    other = pickle.loads(pickle.dumps(one))
    assert not other._handles._open and other.read(5) == one.read(5)


def test_few_shards_are_open_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "OPEN", 2)
    one = shards.read(folder).splits["train"].stored
    expected = [one.read(i) for i in range(len(one))]
    assert len(one.shards) > 2 and len(one._handles._open) == 2
    assert [one.read(i) for i in reversed(range(len(one)))] == expected[::-1]


def test_a_changed_byte_is_a_bad_image_with_a_name(copied: Path) -> None:
    one = shards.read(copied).splits["train"].stored
    path = copied / one.shards[0].name
    content = bytearray(path.read_bytes())
    content[int(one.block[1]) * 512 + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadImage) as caught:
        one.read(1)
    assert str(caught.value) == f"{one.name(1)}: its bytes differ from the manifest's sum; its shard was damaged"
    assert one.read(0) and one.read(2)


def test_a_shard_that_is_gone_or_cut_off_is_no_matter_of_one_image(copied: Path) -> None:
    split = shards.read(copied).splits["train"]
    path = copied / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:1024])
    with pytest.raises(BadData) as caught:
        split.given(0)
    assert str(caught.value) == f"{path} has 1,024 bytes, expected 20,480; fetch or write it again"
    assert not isinstance(caught.value, BadImage)
    path.unlink()
    with pytest.raises(BadData) as caught:
        split.given(0)
    assert str(caught.value) == f"{path} cannot be read: no such file or directory"
    assert split.named(0) == f"{path}: the image at byte 512"


def test_a_shard_cut_off_while_it_is_open(copied: Path) -> None:
    one = shards.read(copied).splits["train"].stored
    name = one.name(one.shards[0].images - 1)
    with (copied / "train-000000.tar").open("r+b") as file:
        file.truncate(2048)
    with pytest.raises(BadImage) as caught:
        one.read(one.shards[0].images - 1)
    assert str(caught.value).endswith(": its shard was cut off after it was opened") and name.startswith(str(copied))


def test_the_digest_follows_from_the_sums_alone(folder: Path, copied: Path) -> None:
    one, other = shards.read(folder).splits["train"].stored, shards.read(copied).splits["train"].stored
    assert one.digest() == other.digest() and len(one.digest()) == 64
    assert one.take(np.arange(5)).digest() != one.digest() != shards.read(folder).splits["test"].stored.digest()
    for name in ("manifest.json", "SHA256SUMS"):
        (copied / name).unlink()
    assert shards.read(copied).splits["train"].stored.digest() is None
