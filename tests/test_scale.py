"""What must hold when data, results and accounts are a thousand times more: bounded memory and time, by simulation."""

import gc
import resource
import subprocess
import sys
import time
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from convatlas.account import account
from convatlas.data import Preprocess, Split
from convatlas.data.loader import Batch, Feed
from convatlas.data.shards.order import WINDOW, Order
from convatlas.networks import build
from convatlas.result import Accuracy, DataStamp, Machine, Result, Timing, lines

BILLION = 10**9
SMALL = Preprocess(3, 4, 4, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))

# ---- Data ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MadeUp:
    """So many images, each of one colour that tells its number."""

    images: int

    def __len__(self) -> int:
        return self.images

    def name(self, number: int) -> str:
        return f"made up {number}"

    def key(self, number: int) -> bytes:
        return str(number).encode()

    def read(self, number: int) -> np.ndarray:
        colour = [number >> 16 & 255, number >> 8 & 255, number & 255]
        return np.broadcast_to(np.array(colour, np.uint8), (4, 4, 3)).copy()

    def take(self, positions: np.ndarray) -> "MadeUp":
        raise NotImplementedError

    def order(self, stream: int) -> None:
        return None

    def digest(self) -> None:
        return None


def made_up(images: int) -> Split:
    return Split("train", np.broadcast_to(np.int64(0), images), stored=MadeUp(images), classes=("one",))


def first(feed: Feed, epoch: int, start: int, batches: int) -> list[Batch]:
    found = feed.batches(epoch, start)
    return [next(found) for _ in range(batches)]


def equal(one: list[Batch], other: list[Batch]) -> bool:
    return [b.position for b in one] == [b.position for b in other] and all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_feed_of_a_billion_images_in_constant_memory(workers: int) -> None:
    feed = Feed(made_up(BILLION), SMALL, ("flip",), batch=64, seed=3, workers=workers)
    assert feed.steps == BILLION // 64
    first(feed, 0, 0, 1)  # what is imported and kept once
    tracemalloc.start()
    begin = time.monotonic()
    whole = first(feed, 1, 0, 8)
    late = feed.steps - 3
    end = first(feed, 1, late, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000  # a list of the order would be 8 GB, a list of the batches 0.1 GB
    assert time.monotonic() - begin < 5
    assert equal(first(feed, 1, 5, 3), whole[5:])  # resumed at batch 5
    assert [b.position for b in end] == [late, late + 1, late + 2]
    assert not equal(first(feed, 2, 0, 8), whole)


def test_shares_of_a_billion_are_parts_of_the_same_batches() -> None:
    whole = first(Feed(made_up(BILLION), SMALL, (), batch=64, seed=3), 0, 7, 2)
    shares = [first(Feed(made_up(BILLION), SMALL, (), batch=64, seed=3, share=(rank, 3)), 0, 7, 2) for rank in range(3)]
    for number, batch in enumerate(whole):
        assert torch.equal(torch.cat([share[number].images for share in shares]), batch.images)


def test_an_epoch_over_shards_is_mixed_once_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten million images in a thousand shards: the batches of a window do not each draw it anew."""
    shard = np.repeat(np.arange(1000, dtype=np.uint16), 10_000)
    order = Order(shard, 5)
    drawn = []
    draw = Order._draw
    monkeypatch.setattr(Order, "_draw", lambda self, number: (drawn.append(number), draw(self, number))[1])
    window = WINDOW * 10_000
    parts = [order.part(start, start + 256) for start in range(0, window + 256, 256)]
    assert drawn == [0, 1]
    assert len(np.unique(np.concatenate(parts)[:window])) == window


# ---- Results ---------------------------------------------------------------------------------------------------------

RESULT = Result(
    kind="training",
    network="resnet18",
    input=(3, 224, 224),
    classes=1000,
    params=11_689_512,
    macs=1_814_073_344,
    machine=Machine("a processor with a long name of its own", 64, 2**38, "Linux x86_64", "cuda, a GPU", 16),
    versions=dict.fromkeys(("python", "convatlas", "torch", "torchvision", "numpy", "Pillow"), "2.14.1"),
    when="2026-11-24T10:00:00+00:00",
    command="convatlas train resnet18 photos --recipe small --out runs/resnet18",
    method="the best of 90 epochs by validation (epoch 88), each image of the test split once, one centre view",
    weights_bytes=46_800_000,
    recipe="small",
    epochs=90,
    seconds=12_345.6,
    data=DataStamp("photos", "test", 50_000, "a" * 64),
    accuracy=Accuracy(35_000, 45_000, 50_000),
    timings=tuple(Timing(batch, 3.1, 3.0, 3.2, 30) for batch in (1, 8, 64)),
)
READ = """
import re, resource, sys, time
from pathlib import Path
from convatlas.result import read_results
found = read_results(Path(sys.argv[1]))
seconds = time.process_time()
assert [r.macs for r in found] == list(range(len(found)))
status = Path("/proc/self/status")  # rusage counts what the process was forked from as well
peak = re.search(r"VmHWM:\\s*(\\d+)", status.read_text())[1] if status.exists() else resource.getrusage(0).ru_maxrss
print(len(found), seconds, int(peak) * 1024)
"""


def test_a_hundred_thousand_results_are_read_in_ten_seconds_and_a_gigabyte(tmp_path: Path) -> None:
    line = lines([RESULT])
    before, after = line.split(f'"macs":{RESULT.macs}')
    file = tmp_path / "results.json"
    with file.open("w") as out:
        out.writelines(f'{before}"macs":{number}{after}' for number in range(10**5))
    done = subprocess.run([sys.executable, "-c", READ, str(file)], capture_output=True, text=True, check=True)
    found, seconds, peak = map(float, done.stdout.split())
    assert found == 10**5 and seconds < 10 and peak < 10**9


def test_results_are_cut_at_line_feeds_only(tmp_path: Path) -> None:
    """U+2028 and U+0085 may stand in a JSON text, and Python's splitlines cuts there."""
    from convatlas.result import read_results

    named = replace(RESULT, command="convatlas train resnet18 'my\u2028photos\u0085'")
    (tmp_path / "results.json").write_text(lines([named, RESULT]), encoding="utf-8")
    assert read_results(tmp_path / "results.json") == [named, RESULT]


# ---- Accounts --------------------------------------------------------------------------------------------------------


def resident() -> int:
    """Bytes of memory that this process holds now, or the most it ever held where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def accounts_in_a_loop(accounts: int) -> None:
    def once(classes: int) -> None:
        with torch.device("meta"):
            net = build("lenet5", classes=classes)
        assert account(net, (1, 32, 32)).totals.params > 0

    def held() -> tuple[int, int]:
        gc.collect()
        return len(gc.get_objects()), resident()

    for number in range(100):  # caches fill, the allocator finds its size
        once(number % 97 + 2)
    objects, memory = held()
    for number in range(accounts):  # candidates of a search differ
        once(number % 97 + 2)
    objects_now, memory_now = held()
    assert objects_now - objects < 200  # less than one a network, which has hundreds
    assert memory_now - memory < 20_000_000


def test_accounts_in_a_loop_do_not_grow() -> None:
    accounts_in_a_loop(300)


@pytest.mark.slow
def test_ten_thousand_accounts_do_not_grow() -> None:
    accounts_in_a_loop(10_000)
