"""What the tests of measuring share: a result, and a run folder as a training leaves it."""

from pathlib import Path

import pytest

from convatlas import files, weights
from convatlas.classifier import Spec
from convatlas.data import Preprocess
from convatlas.record import to_json
from convatlas.result import Machine, Result, Timing


@pytest.fixture
def result() -> Result:
    """A made-up measurement, with the figures that a line of the archive has."""
    return Result(
        kind="measurement",
        network="lenet5_relu",
        input=(1, 32, 32),
        classes=10,
        params=61_706,
        macs=416_520,
        machine=Machine("Processor X", 2, 8 * 10**9, "Linux x86_64", "cpu", 2),
        versions={"torch": "2.14.1"},
        when="2026-11-24T10:00:00+00:00",
        command="convatlas measure lenet5_relu",
        method="by hand",
        weights_bytes=246_824,
        timings=(Timing(1, 2.0, 1.9, 2.2, 50), Timing(8, 10.0, 9.0, 12.0, 30)),
        source="lenet5_relu",
    )


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run folder as a training leaves it: two classes, at half the network's own size, its data gone."""
    folder = tmp_path / "resnet20_cifar"
    preprocess = Preprocess(3, 16, 16, "stretch", 1.0, (0.5,) * 3, (0.25,) * 3, "bilinear")
    spec = Spec("resnet20_cifar", ("a", "b"), preprocess)
    (folder / "checkpoints").mkdir(parents=True)
    files.write_folder(
        folder / "checkpoints" / "step-000000001", lambda step: weights.save(spec.build(), step / "model.safetensors")
    )
    (folder / "checkpoints" / "best").write_text("step-000000001\n")
    gone = tmp_path / "gone"
    (folder / "config.json").write_text(f'{{"spec": {to_json(spec)}, "data": {{"source": "{gone}"}}}}')
    return folder
