"""The loader: the same batches whatever the workers, start and batch size; exact lists of bad files."""

import hashlib
import os
import pickle
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convatlas.data import Preprocess, Split, decode, draws, open_data
from convatlas.data.augment import parse
from convatlas.data.augment.parsing import NAMES
from convatlas.data.loader import Batch, Feed, _Item, _Pictures, eval_batches, steps
from convatlas.data.moments import Colours
from convatlas.data.stored import Paths
from convatlas.errors import BadData, BadRecipe, RunFailed

SMALL = Preprocess(3, 24, 20, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
GREY = Preprocess(1, 12, 12, "pad", mean=(0.13,), std=(0.31,))
PHOTO = ("area 0.2-1", "flip")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("photos")
    chance = np.random.default_rng(0)
    for i in range(26):
        place = folder / "ab"[i % 2] / f"{i:02d}.{'png' if i % 5 == 0 else 'jpg'}"
        place.parent.mkdir(exist_ok=True)
        coarse = Image.fromarray(chance.integers(0, 256, (6, 5, 3), np.uint8))
        coarse.resize((70 + i, 90 - i), Image.Resampling.BICUBIC).save(place)
    (folder / "a/bad.jpg").write_text("no image")
    (folder / "b/cut.jpg").write_bytes((folder / "b/01.jpg").read_bytes()[:300])
    paths = tuple(sorted(folder.rglob("*.*")))
    labels = np.array([int(p.parent.name == "b") for p in paths])
    return Split("train", labels, stored=Paths(paths, folder), classes=("a", "b"))


@pytest.fixture(scope="module")
def digits() -> Split:
    return open_data("digits").splits["train"]


def same(one: Iterable[Batch], other: Iterable[Batch]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(
        torch.equal(a.images, b.images)
        and torch.equal(a.labels, b.labels)
        and (a.bad, a.position, a.whole) == (b.bad, b.position, b.whole)
        for a, b in pairs
    )


EVERY = [
    *(("flip",), ("pad-crop 2",), ("reflect-crop 2",), ("area 0.2-1",), ("side 256-300",), ("colour 0.4",)),
    *(("pca-colour 0.1",), ("affine 15 0.15 10 2",), ("elastic 20 3",), ("randaugment 2 9",)),
    ("area 0.2-1", "flip", "colour 0.4", "pca-colour 0.1", "affine 15 0.15 10 2", "elastic 20 3", "randaugment 1 5"),
]
COLOURS = Colours(((0.6, 0.64, 0.48), (0.8, -0.48, -0.36), (0.0, 0.6, -0.8)), (60.0, 20.0, 5.0))


@pytest.mark.parametrize("names", EVERY, ids=" ".join)
def test_every_augmentation_is_the_same_for_any_number_of_workers(photos: Split, names: tuple[str, ...]) -> None:
    feeds = [Feed(photos, SMALL, names, batch=7, seed=1, workers=n, colours=COLOURS) for n in (0, 1, 2, 4)]
    runs = [list(feed.batches(3)) for feed in feeds]
    assert all(same(runs[0], run) for run in runs[1:])
    plain = list(Feed(photos, SMALL, (), batch=7, seed=1).batches(3))
    assert not torch.equal(plain[0].images, runs[0][0].images)


def test_every_name_is_tried() -> None:
    of_batches = {"mixup", "cutmix"}  # a function of the finished batch
    assert {name.split()[0] for names in EVERY for name in names} == set(NAMES) - of_batches


@pytest.mark.parametrize("of", [1, 2, 3, 5])
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_shares_together_are_the_whole_batch(photos: Split, of: int, balanced: bool, workers: int) -> None:
    options = {"batch": 9, "seed": 4, "balanced": balanced}
    whole = list(Feed(photos, SMALL, PHOTO, **options).batches(1))
    shares = [list(Feed(photos, SMALL, PHOTO, share=(i, of), workers=workers, **options).batches(1)) for i in range(of)]
    assert {len(share) for share in shares} == {len(whole)} == {Feed(photos, SMALL, PHOTO, **options).steps}
    for batch, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert torch.equal(torch.cat([p.images for p in parts]), batch.images)
        assert torch.equal(torch.cat([p.labels for p in parts]), batch.labels)
        assert sorted(b.path for p in parts for b in p.bad) == sorted(b.path for b in batch.bad)
        assert {p.position for p in parts} == {batch.position} and {p.whole for p in parts} == {batch.whole}
        meant = [len(p.labels) + len(p.bad) for p in parts]
        assert max(meant) - min(meant) <= 1 and sum(meant) == batch.whole
    assert sum(batch.whole for batch in whole) == len(photos)


def test_a_share_without_a_good_image_has_an_empty_batch(photos: Split) -> None:
    assert photos.paths is not None
    bad = [i for i, p in enumerate(photos.paths) if p.name in ("bad.jpg", "cut.jpg")]
    only = photos.take("train", np.array(bad))
    batches = list(Feed(only, SMALL, PHOTO, batch=2, seed=0, share=(0, 2)).batches(0))
    assert [(tuple(b.images.shape), len(b.labels), len(b.bad), b.whole) for b in batches] == [((0, 3, 24, 20), 0, 1, 2)]
    assert [tuple(b.images.shape) for b in eval_batches(only, SMALL, batch=2, share=(1, 2))] == [(0, 3, 24, 20)]
    small = photos.take("train", np.arange(2))
    assert [len(b.labels) for b in Feed(small, SMALL, (), batch=2, seed=0, share=(2, 3)).batches(0)] == [0]


@pytest.mark.parametrize("of", [1, 2, 3, 40])
def test_an_evaluation_takes_every_of_th_image(photos: Split, digits: Split, of: int) -> None:
    marked = Split("test", np.arange(50), digits.images[:50] if digits.images is not None else None, None, ("a",))
    for rank in range(of):
        batches = list(eval_batches(marked, GREY, batch=4, share=(rank, of)))
        assert torch.cat([b.labels for b in batches]).tolist() == list(range(rank, 50, of))
        assert all(len(b.labels) == 4 for b in batches[:-1])
    assert sum(len(b.labels) for r in range(of) for b in eval_batches(photos, SMALL, batch=4, share=(r, of))) == 26


def test_balanced_draws_every_class_equally_often() -> None:
    labels = np.array([0] * 950 + [1] * 40 + [3] * 10)  # none of class 2
    split = Split("train", labels, np.arange(1000, dtype=np.uint8).reshape(-1, 1, 1), classes=("a", "b", "c", "d"))
    feed = Feed(split, Preprocess(1, 1, 1), (), batch=100, seed=0, balanced=True)
    epochs = [torch.cat([b.labels for b in feed.batches(e)]) for e in range(3)]
    assert [len(e) for e in epochs] == [1000] * 3 and not torch.equal(epochs[0], epochs[1])
    counts = torch.bincount(torch.cat(epochs), minlength=4).tolist()
    assert counts[2] == 0 and all(abs(n - 1000) < 5 * np.sqrt(1000 * 2 / 3) for n in (counts[0], counts[1], counts[3]))
    again = torch.cat([b.labels for b in feed.batches(1, start=4)])
    assert torch.equal(again, epochs[1][400:])


def test_an_image_drawn_twice_is_augmented_in_two_ways() -> None:
    image = np.arange(400, dtype=np.uint8).reshape(1, 20, 20)
    split = Split("train", np.array([0] * 99 + [1]), np.repeat(image, 100, 0), classes=("a", "b"))
    feed = Feed(split, Preprocess(1, 20, 20, crop=1), ("affine 15 0.15 10 2",), batch=100, seed=0, balanced=True)
    batch = next(feed.batches(0))
    drawn = batch.images[batch.labels == 1]
    assert len(drawn) > 25 and len(torch.unique(drawn, dim=0)) == len(drawn)


def test_an_order_of_a_thousand_million_images_takes_no_memory() -> None:
    class Endless:
        """A split of 10^9 images of which a batch holds a few."""

        name, labels, classes, stored = "train", np.broadcast_to(np.int64(0), 10**9), ("a",), None
        images = np.broadcast_to(np.uint8(7), (10**9, 1, 1))
        fits = staticmethod(lambda _: True)
        prepared = staticmethod(lambda _: np.broadcast_to(np.uint8(7), (10**9, 1, 1, 1)))
        __len__ = lambda self: 10**9  # noqa: E731
        order = staticmethod(lambda stream: draws.Permutation(stream, 10**9))

    feed = Feed(Endless(), Preprocess(1, 1, 1), (), batch=256, seed=0)  # type: ignore[arg-type]
    assert feed.steps == -(-(10**9) // 256)
    tracemalloc.start()
    try:
        begin = time.perf_counter()
        first = [next(feed.batches(0)), next(feed.batches(0, start=3_000_000))]
        assert time.perf_counter() - begin < 5
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()
    assert [(len(b.labels), b.position) for b in first] == [(256, 0), (256, 3_000_000)]


def files_state(split: Split) -> list[object]:
    return [(p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).digest()) for p in split.paths or ()]


def test_any_number_of_workers_gives_the_same_and_changes_no_file(photos: Split) -> None:
    before = files_state(photos)
    random_state = torch.get_rng_state()
    runs = [list(Feed(photos, SMALL, PHOTO, batch=5, seed=1, workers=workers).batches(2)) for workers in (0, 1, 2, 4)]
    assert all(same(runs[0], run) for run in runs[1:])
    evals = [list(eval_batches(photos, SMALL, batch=5, workers=workers)) for workers in (0, 2)]
    assert same(*evals)
    assert torch.equal(torch.get_rng_state(), random_state)  # DataLoader would draw from it
    assert files_state(photos) == before


@pytest.mark.parametrize("names", [PHOTO, ("pad-crop 3", "flip"), ("side 256-480",), ()])
@pytest.mark.parametrize("start", [1, 3, 5, 6, 99])
def test_a_start_gives_the_tail(photos: Split, names: tuple[str, ...], start: int) -> None:
    whole = list(Feed(photos, SMALL, names, batch=5, seed=1).batches(0))
    assert same(whole[start:], list(Feed(photos, SMALL, names, batch=5, seed=1).batches(0, start=start)))


def test_skipped_batches_are_not_decoded(photos: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    from convatlas.data import sets

    opened = []
    original = sets.decode_crop
    monkeypatch.setattr(sets, "decode_crop", lambda path, *rest: opened.append(path) or original(path, *rest))
    list(Feed(photos, SMALL, PHOTO, batch=5, seed=1).batches(0, start=4))
    assert len(opened) == 28 - 20


def by_number(
    split: Split, batch: int, names: tuple[str, ...], p: Preprocess, epoch: int = 0
) -> dict[bytes, torch.Tensor]:
    """Images keyed by a label that is unique to each."""
    marked = Split("train", np.arange(len(split)), split.images, split.stored, split.classes)
    found = {}
    for b in Feed(marked, p, names, batch=batch, seed=7).batches(epoch):
        found |= {int(label): image for image, label in zip(b.images, b.labels, strict=True)}
    return found


def test_the_batch_size_changes_no_image(photos: Split, digits: Split) -> None:
    for split, names, p in ((photos, PHOTO, SMALL), (digits, ("pad-crop 2", "flip"), GREY), (digits, PHOTO, GREY)):
        some = split if split is photos else split.take("train", np.arange(50))
        one, other = by_number(some, 4, names, p), by_number(some, 9, names, p)
        assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
        later = by_number(some, 9, names, p, epoch=1)
        assert sum(not torch.equal(one[k], later[k]) for k in one) > len(one) / 2


def test_an_epoch_holds_every_image_once_in_an_order_of_its_own(digits: Split) -> None:
    marked = Split("train", np.arange(len(digits)), digits.images, classes=digits.classes)
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        batches = list(Feed(marked, GREY, (), batch=64, seed=seed).batches(epoch))
        orders.append(torch.cat([b.labels for b in batches]).tolist())
        assert sorted(orders[-1]) == list(range(len(digits)))
        assert [b.position for b in batches] == list(range(len(batches)))
    assert orders[0] != orders[1] and orders[0] != orders[2] and orders[0] != sorted(orders[0])


@given(st.integers(0, 300), st.integers(1, 70))
def test_no_batch_is_a_single_left_over_image(images: int, batch: int) -> None:
    split = Split("train", np.zeros(images, np.int64), np.zeros((images, 1, 1), np.uint8), classes=("a",))
    sizes = [len(b.labels) for b in Feed(split, Preprocess(1, 1, 1), (), batch=batch, seed=0).batches(0)]
    assert sum(sizes) == images and len(sizes) == steps(images, batch)
    assert sizes[:-1] == [batch] * (len(sizes) - 1)
    if batch > 1 and images > 1:
        assert 2 <= sizes[-1] <= batch + 1


def test_evaluation_is_in_order_through_array_and_whole(photos: Split, digits: Split) -> None:
    assert photos.paths is not None and digits.images is not None
    batches = list(eval_batches(photos, SMALL, batch=9))
    good = [i for i, p in enumerate(photos.paths) if p.name not in ("bad.jpg", "cut.jpg")]
    arrays = np.stack([SMALL.array(decode(photos.paths[i], 3)) for i in good])
    images = torch.cat([b.images for b in batches])
    assert images.numpy().tobytes() == SMALL.normalise(arrays).tobytes()  # the same bits as without torch
    assert torch.cat([b.labels for b in batches]).tolist() == photos.labels[good].tolist()
    grey = torch.cat([b.images for b in eval_batches(digits, GREY, batch=100)])
    arrays = np.stack([GREY.array(Image.fromarray(image)) for image in digits.images])
    assert grey.numpy().tobytes() == GREY.normalise(arrays).tobytes()
    single = list(eval_batches(digits.take("test", np.arange(5)), GREY, batch=4))
    assert [len(b.labels) for b in single] == [4, 1]


def test_types_and_layout(photos: Split, digits: Split) -> None:
    colour = next(iter(Feed(photos, SMALL, PHOTO, batch=4, seed=0).batches(0)))
    assert colour.images.dtype == torch.float32 and colour.images.shape[1:] == (3, 24, 20)
    assert colour.images.is_contiguous(memory_format=torch.channels_last) and colour.labels.dtype == torch.int64
    grey = next(iter(Feed(digits, GREY, ("flip",), batch=4, seed=0).batches(0)))
    assert grey.images.shape == (4, 1, 12, 12) and grey.images.is_contiguous()


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_files_are_left_out_and_listed_once(photos: Split, workers: int) -> None:
    for batch in (1, 3, 28):  # of one image: whole batches are bad
        batches = list(Feed(photos, SMALL, PHOTO, batch=batch, seed=3, workers=workers).batches(0))
        bad = [b for item in batches for b in item.bad]
        assert sorted(Path(b.path).name for b in bad) == ["bad.jpg", "cut.jpg"]
        assert {b.reason for b in bad if b.path.endswith("bad.jpg")} == {
            "no image of a known format (JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF)"
        }
        assert sum(len(b.labels) for b in batches) == 26
        assert all(len(b.labels) == len(b.images) > 0 for b in batches)
    assert [b.position for b in batches] == [0]


def test_bad_files_at_the_end_of_an_evaluation_are_listed(photos: Split) -> None:
    assert photos.paths is not None
    order = [i for i, p in enumerate(photos.paths) if p.name not in ("bad.jpg", "cut.jpg")]
    order = order[:3] + [i for i in range(28) if i not in order]
    batches = list(eval_batches(photos.take("test", np.array(order)), SMALL, batch=1))
    assert [len(b.bad) for b in batches] == [0, 0, 2]


def test_nothing_can_be_decoded(photos: Split) -> None:
    assert photos.paths is not None
    only = photos.take("test", np.array([i for i, p in enumerate(photos.paths) if p.name == "bad.jpg"]))
    with pytest.raises(BadData) as caught:
        list(eval_batches(only, SMALL, batch=4))
    assert only.paths is not None
    assert str(caught.value) == (
        f"none of the 1 images of the test split that were asked for can be decoded; first {only.paths[0]}: "
        f"no image of a known format (JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF)"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch is 0; give a whole number from 1 on"),
        ({"workers": -1}, "workers is -1; give 0 or a whole number above"),
        ({"start": -2}, "start is -2; give 0 or a whole number above"),
        ({"augment": ("flip 1",)}, "augmentation 'flip 1' needs no number, for example 'flip'"),
        ({"share": (2, 2)}, "share is (2, 2); give (rank, of) with 0 <= rank < of"),
        (
            {"augment": ("pca-colour 0.1",)},
            "pca-colour adds the training pixels' principal components; give colours=colours(...)",
        ),
    ],
)
def test_wrong_options_are_refused_at_once(digits: Split, options: dict[str, object], message: str) -> None:
    with pytest.raises(BadRecipe) as caught:
        start = options.pop("start", 0)
        Feed(digits, GREY, **{"augment": (), "batch": 4, "seed": 0} | options).batches(0, start)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_the_work_of_a_worker_survives_pickling(photos: Split) -> None:
    pictures = _Pictures(photos, SMALL, parse(PHOTO), 0, 0)  # as a spawned worker receives it
    copy = pickle.loads(pickle.dumps(pictures))
    item = _Item(0, np.arange(6), np.arange(6), 6)
    assert torch.equal(pictures[item].images, copy[item].images)


def children() -> list[int]:
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(pid) for pid in text.split()]


def test_signals_to_the_group_leave_workers_alone_and_the_end_of_the_iterator_ends_them(photos: Split) -> None:
    before = set(children())
    batches = Feed(photos, SMALL, PHOTO, batch=2, seed=0, workers=2).batches(0)
    got = [next(batches)]
    workers = set(children()) - before
    assert len(workers) >= 2
    for pid in workers:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    got += list(batches)
    assert same(got, Feed(photos, SMALL, PHOTO, batch=2, seed=0).batches(0))
    batches = Feed(photos, SMALL, PHOTO, batch=2, seed=0, workers=2).batches(0)
    next(batches)
    start = time.monotonic()
    batches.close()  # type: ignore[attr-defined]
    assert set(children()) <= before | workers and time.monotonic() - start < 4


def test_a_killed_worker_ends_with_a_message(photos: Split) -> None:
    before = set(children())
    batches = Feed(photos, SMALL, PHOTO, batch=1, seed=0, workers=1).batches(0)
    next(batches)
    for pid in set(children()) - before:
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)  # torch's own handler would raise here
    with pytest.raises(RunFailed) as caught:
        list(batches)
    assert str(caught.value).startswith("a loading process ended unexpectedly (DataLoader worker (pid(s)")
    assert str(caught.value).endswith("); try fewer workers, or 0")


SPAWNED = """
import multiprocessing, pickle, sys
import torch
from convatlas.data import Preprocess, open_data
from convatlas.data.loader import Feed

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[2])
    split = open_data(sys.argv[1], validation=0).splits["train"]
    options = dict(batch=5, seed=1)
    p, names = Preprocess(3, 24, 20), ("area 0.2-1", "flip")
    one, other = (list(Feed(split, p, names, workers=n, **options).batches(2)) for n in (0, 2))
    print(all(torch.equal(a.images, b.images) for a, b in zip(one, other, strict=True)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_ways_of_starting_workers(photos: Split, tmp_path: Path, method: str) -> None:
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    assert photos.paths is not None
    command = [sys.executable, str(script), str(photos.paths[0].parents[1]), method]
    child = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert child.stdout.strip() == "True", child.stderr[-2000:]
