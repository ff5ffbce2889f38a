"""A tiny network, a folder of tiny photos with a bad file, and trainings in processes that may be killed."""

import importlib.util
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import convatlas
from convatlas import files
from convatlas.networks import NETWORKS
from convatlas.paper import Recipe
from convatlas.result import Result
from convatlas.train import Options, train

WARM = Path(__file__).with_name("warm.py")
CLASSES = ("apple", "pear", "plum", "quince")


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("warm", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


warm = _load(WARM)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Bits depend on the number of threads, and the processes that are killed use one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network `tiny`: convolution, batch norm, dropout."""
    monkeypatch.setitem(NETWORKS, "tiny", warm.TINY)


@pytest.fixture
def recipe() -> Recipe:
    """For `tiny`: plateau schedule, 4.5 epochs."""
    return warm.RECIPE


def make_photos(folder: Path, each: int = 15, classes: tuple[str, ...] = CLASSES, seed: int = 0) -> Path:
    """Noisy 20x18 PNGs whose mean colour tells the class."""
    generator = np.random.default_rng(seed)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            pixels = generator.integers(0, 120, (20, 18, 3)) + 40 * np.eye(4, 3)[number].astype(int)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 photos of four classes; one of the training ones is cut short."""
    folder = make_photos(tmp_path_factory.mktemp("data") / "fruit")
    from convatlas.data import open_data

    paths = open_data(folder).splits["train"].paths
    assert paths is not None
    paths[7].write_bytes(paths[7].read_bytes()[:60])
    return folder


Quick = Callable[..., Result]


@pytest.fixture
def quick(photos: Path, recipe: Recipe) -> Quick:
    """Trains `tiny` on the photos in this process: quick(run, seed=1, workers=2, ...)."""

    def go(run: Path, **changes: Any) -> Result:
        arguments = {"network": "tiny", "data": photos, "recipe": recipe, "out": run} | changes
        options = {
            k: arguments.pop(k) for k in ("workers", "weights", "save_seconds", "progress", "device") if k in arguments
        }
        return train(**arguments, options=Options(**({"device": "cpu", "workers": 0} | options)))

    return go


def sums(run: Path) -> dict[str, str]:
    """What must be equal between two runs: sha256 of weights, momentum and logs, and the best step."""
    last = run / "checkpoints" / (run / "checkpoints" / "last").read_text().strip()
    found = {path.name: files.sha256(path) for path in sorted(last.glob("*.safetensors"))}
    if (run / "gradients.jsonl").exists():
        found["gradients"] = (run / "gradients.jsonl").read_text()
    state = json.loads((last / "state.json").read_text())
    state.pop("seconds")
    return found | {
        "log": (run / "log.jsonl").read_text(),
        "best": (run / "checkpoints" / "best").read_text(),
        "state": json.dumps(state),
    }


@pytest.fixture
def sums_of() -> Callable[[Path], dict[str, str]]:
    return sums


class Trainings:
    """Trainings of `tiny` in forked processes, with real signals."""

    def __init__(self) -> None:
        path = os.pathsep.join(filter(None, (str(Path(convatlas.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
        self.server = subprocess.Popen(
            [sys.executable, str(WARM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "PYTHONPATH": path},
        )

    def start(self, run: Path, data: Path, **request: Any) -> int:
        """Starts or resumes; gives the process's number. What it says is added to stderr beside the run folder."""
        assert self.server.stdin is not None
        line = {"run": str(run), "data": str(data), "stderr": str(self.stderr(run)), **request}
        print(json.dumps(line), file=self.server.stdin, flush=True)
        return self.read()["pid"]

    def wait(self) -> int:
        """The exit code, negative after a signal."""
        return self.read()["status"]

    def stderr(self, run: Path) -> Path:
        return run.with_name(f"{run.name}.stderr")

    def read(self) -> dict[str, int]:
        assert self.server.stdout is not None
        line = self.server.stdout.readline()
        assert line, "the server of trainings died"
        return json.loads(line)

    def close(self) -> None:
        assert self.server.stdin is not None and self.server.stdout is not None
        print(file=self.server.stdin, flush=True)  # forks of this process may hold the pipe open
        self.server.stdin.close()
        self.server.wait(timeout=30)
        self.server.stdout.close()


@pytest.fixture(scope="session")
def trainings() -> Iterator[Trainings]:
    found = Trainings()
    try:
        assert found.read() == {"ready": 1}
        yield found
    finally:
        found.close()


@pytest.fixture
def dice() -> random.Random:
    return random.Random(20261124)
