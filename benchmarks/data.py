"""Images a second of our loaders against torchvision's, both sides in turns in one process, on one thread.

    CONVATLAS_DATA=... python benchmarks/data.py [--rounds 15] [--images 128] [--only photos|mnist|distortions]

Photos: torchvision's ImageFolder through a DataLoader without workers, random resized crop, flip, normalisation, with
v1 transforms on Pillow images and with v2 on tensors, against the photos and against their packed cache. MNIST:
torchvision's way, one image at a time, against batches in memory, padded crop and flip, normalised, no network. The
distortions of digits: affine maps and elastic fields against torchvision's v2, image by image. Prints medians,
quartiles and ratios.
"""

import argparse
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from harness import in_turns, machine_line, ratio, spread
from torch.utils.data import DataLoader, Dataset, Subset

from convatlas.data import Preprocess, Split, open_data, packed
from convatlas.data.loader import Feed

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 64


def compare(sides: dict[str, Callable[[], Iterable[object]]], rounds: int, images: int) -> None:
    """Prints images a second of each side and how many times as fast ours is, turn by turn."""

    def run(make: Callable[[], Iterable[object]]) -> Callable[[], object]:
        return lambda: deque(make(), maxlen=0)

    times = in_turns({name: run(make) for name, make in sides.items()}, rounds)
    for name, taken in times.items():
        rate = 1000 * images / spread(taken).median
        print(f"  {name:28} {rate:9,.0f} images/s; convatlas is {ratio(taken, times['convatlas'])} times as fast")


def first(split: Split, images: int) -> Split:
    every = max(len(split) // images, 1)
    return split.take("train", torch.arange(0, len(split), every)[:images].numpy())


def photos(folder: Path, size: int, rounds: int, images: int) -> None:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import transforms as v1
    from torchvision.transforms import v2

    split = open_data(folder).splits["train"]
    part = first(split, images)
    preprocess = Preprocess(3, size, size, mean=MEAN, std=STD)
    old = v1.Compose(
        [v1.RandomResizedCrop(size), v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize(MEAN, STD)],
    )
    new = v2.Compose(
        [
            v2.PILToTensor(),
            v2.RandomResizedCrop(size, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    positions = range(0, len(split), max(len(split) // images, 1))[:images]

    def theirs(transform: Callable[[object], object]) -> Callable[[], Iterable[object]]:
        chosen = Subset(ImageFolder(folder / "train", transform), list(positions))
        return lambda: DataLoader(chosen, BATCH, shuffle=True)

    def ours(images: Split) -> Callable[[], Iterator[object]]:
        return lambda: Feed(images, preprocess, ("area 0.08-1", "flip"), batch=BATCH, seed=0).batches(0)

    with tempfile.TemporaryDirectory() as place:
        cache = Path(place) / "packed"
        packed.pack(open_data(folder), cache, round(size / 0.875))
        from_cache = first(open_data(cache).splits["train"], images)
        print(f"photos to {size}x{size}, {len(part)} images, batch {BATCH}:")
        sides = {"torchvision v1 on Pillow": theirs(old), "torchvision v2 on tensors": theirs(new)}
        compare({"convatlas": ours(part)} | sides, rounds, len(part))
        print(f"the same photos packed, shorter side {round(size / 0.875)}:")
        compare({"convatlas": ours(from_cache)} | sides, rounds, len(part))


class OneByOne(Dataset[tuple[object, int]]):
    """The way of torchvision's MNIST class: a Pillow image from the array, then the transform."""

    def __init__(self, split: Split, transform: Callable[[object], object]):
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, i: int) -> tuple[object, int]:
        from PIL import Image

        assert self.split.images is not None
        return self.transform(Image.fromarray(self.split.images[i])), int(self.split.labels[i])


def mnist(folder: Path, rounds: int) -> None:
    from torchvision.transforms import transforms as v1

    split = open_data(folder, validation=0).splits["train"]
    preprocess = Preprocess(1, 28, 28, fit="pad", mean=(0.1307,), std=(0.3081,))
    transform = v1.Compose(
        [v1.RandomCrop(28, 2), v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize((0.1307,), (0.3081,))]
    )
    start = time.perf_counter()
    split.prepared(preprocess)
    print(f"MNIST, {len(split)} images, batch 128; ours made ready once in {time.perf_counter() - start:.2f} s:")
    sides: dict[str, Callable[[], Iterable[object]]] = {
        "convatlas": lambda: Feed(split, preprocess, ("pad-crop 2", "flip"), batch=128, seed=0).batches(0),
        "one image at a time": lambda: DataLoader(OneByOne(split, transform), 128, shuffle=True),
    }
    compare(sides, rounds, len(split))


def distortions(folder: Path, rounds: int) -> None:
    """The rate of all 60,000 digits; torchvision does a part of them."""
    from torchvision.transforms import v2

    split, few = open_data(folder, validation=0).splits["train"], 1000
    preprocess = Preprocess(1, 28, 28, fit="pad", mean=(0.1307,), std=(0.3081,))
    split.prepared(preprocess)
    assert split.images is not None
    images = torch.from_numpy(split.images[:few])[:, None]
    affine = v2.RandomAffine(10, (2 / 28, 2 / 28), (0.9, 1.1), 5, interpolation=v2.InterpolationMode.BILINEAR)
    theirs = {
        "affine": affine,
        "affine and elastic": v2.Compose([affine, v2.ElasticTransform(34.0, 4.0)]),
    }
    for name, transform in theirs.items():
        names = ("affine 10 0.1 5 2", "elastic 34 4")[: len(name.split(" and "))]
        feed = Feed(split, preprocess, names, batch=128, seed=0)
        part = Feed(split.take("train", torch.arange(few).numpy()), preprocess, names, batch=128, seed=0)
        begin = time.perf_counter()
        deque(feed.batches(0), maxlen=0)
        seconds = time.perf_counter() - begin
        print(f"MNIST, {name}: {len(split)} images in {seconds:.2f} s; {few} images, both sides:")
        sides: dict[str, Callable[[], Iterable[object]]] = {
            "convatlas": lambda part=part: part.batches(0),  # type: ignore[misc]
            "torchvision v2, one by one": lambda transform=transform: (transform(i) for i in images),  # type: ignore[misc]
        }
        compare(sides, rounds, few)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--only", choices=("photos", "mnist", "distortions"))
    given = parser.parse_args()
    folder = Path(os.environ["CONVATLAS_DATA"])
    torch.set_num_threads(1)
    print(machine_line("Pillow", "numpy"), "1 thread", sep="; ")
    if given.only in (None, "photos"):
        for size in (112, 224):
            photos(folder / "clothing", size, given.rounds, given.images)
    if given.only in (None, "mnist"):
        mnist(folder / "mnist", min(given.rounds, 2))
    if given.only in (None, "distortions"):
        distortions(folder / "mnist", given.rounds)


if __name__ == "__main__":
    main()
