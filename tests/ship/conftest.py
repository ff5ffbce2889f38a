"""Run folders as training writes them, with random weights, so that shipping is tested without training."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from torch import nn

from convatlas import files, weights
from convatlas.classifier import Spec
from convatlas.data import Preprocess, open_data
from convatlas.paper import Recipe
from convatlas.record import to_json
from convatlas.result import Accuracy, DataStamp, Machine, Result, lines
from convatlas.ship import export
from convatlas.train.run import RunConfig, describe

Make = Callable[..., Path]


def unsettle(net: nn.Module, seed: int = 7) -> nn.Module:
    """Give every batch norm statistics as after training, so that leaving one out would show."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return net


def results(network: str, classes: int, data: str = "digits") -> list[Result]:
    return [
        Result(
            kind="training",
            network=network,
            input=(1, 32, 32),
            classes=classes,
            params=61_706,
            macs=416_520,
            machine=Machine("a processor", 2, 8_000_000_000, "Linux x86_64", threads=2),
            versions={"python": "3.11.2", "torch": "2.14.1"},
            when="2026-11-24T10:00:00+00:00",
            command="convatlas train",
            method="trained from scratch",
            recipe="paper",
            epochs=12,
            seconds=75,
            data=DataStamp(data, "test", 360, "ab" * 32),
            accuracy=Accuracy(354, 360, 360),
        )
    ]


def make_run(
    folder: Path,
    network: str = "lenet5_relu",
    data: str = "digits",
    *,
    size: int = 32,
    channels: int = 1,
    fit: str = "pad",
    classes: Iterable[str] | None = None,
) -> Path:
    """A run folder with weights from a seed; `classes` may rename the data's."""
    names = tuple(classes) if classes is not None else open_data(data).classes
    mean, std = ((0.3,), (0.4,)) if channels == 1 else ((0.5, 0.45, 0.4), (0.2, 0.25, 0.3))
    preprocess = Preprocess(channels, size, size, fit, 0.875, mean, std, "bilinear")
    spec = Spec(network, names, preprocess)
    net = unsettle(spec.build(seed=3))
    step = folder / "checkpoints" / "step-000000001"
    files.write_folder(step, lambda beside: weights.save(net, beside / "model.safetensors"))
    (folder / "checkpoints" / "best").write_text("step-000000001")
    record = RunConfig(spec, Recipe(where="ours", epochs=1), "ours", describe(open_data(data), data), seed=0)
    (folder / "config.json").write_text(to_json(record))
    (folder / "results.json").write_text(lines(results(network, len(names))))
    return folder


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run") / "digits")


@pytest.fixture(scope="session")
def digits_bundle(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle without exported files; tests that change it copy it first."""
    return export(digits_run, tmp_path_factory.mktemp("bundle") / "digits", to=())


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return lambda name="run", *args, **options: make_run(tmp_path / name, *args, **options)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small JPEG photos of two classes; each class has a bright half, some are turned by EXIF."""
    from PIL import Image

    root = tmp_path_factory.mktemp("photos")
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 6), ("test", 5)):
        for label, name in enumerate(("dress", "t-shirt <b>|é")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = torch.randint(0, 100, (40, 60, 3), generator=generator).byte()
                pixels[:, 30 * label : 30 * label + 30] += 120
                picture = Image.fromarray(pixels.numpy())
                exif = picture.getexif()
                exif[0x0112] = 6 if i % 2 else 1
                picture.save(folder / f"{i}.jpg", exif=exif, quality=95)
    return root


@pytest.fixture(scope="session")
def photo_run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run") / "photos", data=str(photos), channels=3, fit="crop")
