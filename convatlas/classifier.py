"""A classifier: a network with its weights, class names and preprocessing, as a run folder and a bundle both hold it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from . import files, weights
from .data import Preprocess
from .errors import BadBundle, BadCheckpoint, ConvAtlasError, UsageError
from .networks import build


@dataclass(frozen=True)
class Spec:
    """What must travel with the weights so that they mean the same everywhere; part of every config.json."""

    network: str
    classes: tuple[str, ...]  # in the order of the logits
    preprocess: Preprocess

    @property
    def input(self) -> tuple[int, int, int]:
        p = self.preprocess
        return p.channels, p.height, p.width

    def build(self, seed: int = 0) -> nn.Module:
        channels, height, width = self.input
        return build(self.network, classes=len(self.classes), channels=channels, input=(height, width), seed=seed)


@dataclass(frozen=True)
class Classifier:
    net: nn.Module
    spec: Spec
    source: Path
    weights_file: Path

    def logits(self, images: Sequence[np.ndarray]) -> Tensor:
        """Logits of uint8 arrays that `spec.preprocess.array` gave. n x (H,W,C) -> (n,classes) float32 on the CPU."""
        batch = torch.from_numpy(self.spec.preprocess.normalise(np.stack(images)))
        device = next(self.net.parameters()).device
        with torch.inference_mode():
            return self.net(batch.to(device)).float().cpu()


def load(source: str | Path, device: str = "cpu") -> Classifier:
    """The classifier of a run folder (its best checkpoint) or of a bundle, in evaluation mode.

    Every file's sha256 is checked first. Raises UsageError where there is neither, BadCheckpoint and BadBundle (exit 4)
    where one is damaged. A bundle's replay is `ship.replay`'s work.
    """
    folder = Path(source)
    if (folder / "checkpoints").is_dir():
        spec, file = _of_run(folder)
    elif (folder / "SHA256SUMS").is_file() or (folder / "model.safetensors").is_file():
        spec, file = _of_bundle(folder)
    elif not folder.exists():
        raise UsageError(f"no run folder or bundle at {folder}; `convatlas train ... --out {folder}` makes a run folder")
    else:
        raise UsageError(f"{folder} is neither a run folder (no checkpoints/) nor a bundle (no model.safetensors)")
    net = spec.build()
    weights.fill(net, weights.load(file), str(file))
    return Classifier(net.eval().to(device), spec, folder, file)


def _of_run(folder: Path) -> tuple[Spec, Path]:
    spec = _spec(folder / "config.json", "spec", BadCheckpoint)
    step = pointed(folder, "best") or pointed(folder, "last")
    if step is None:
        raise BadCheckpoint(f"{folder} holds no whole checkpoint; `convatlas train ... --out {folder} --resume` goes on")
    return spec, step / "model.safetensors"


def pointed(run: Path, pointer: str) -> Path | None:
    """The checkpoint that "best" or "last" names, when it is there and its manifest verifies."""
    try:
        name = (run / "checkpoints" / pointer).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    step = run / "checkpoints" / name
    if not name.startswith("step-") or "/" in name or files.damage(step):
        return None
    return step


def _of_bundle(folder: Path) -> tuple[Spec, Path]:
    try:
        sums = [line.split("  ", 1) for line in (folder / "SHA256SUMS").read_text().splitlines()]
        fault = files.first_fault(folder, [(name, None, digest) for digest, name in sums])
    except (OSError, ValueError):
        fault = "SHA256SUMS is missing or cannot be read"
    if fault is None and {"model.safetensors", "config.json"} - {name for _, name in sums}:
        fault = "SHA256SUMS does not cover model.safetensors and config.json"
    if fault:
        raise BadBundle(f"bundle {folder} is damaged: {fault}; make it anew with `convatlas export`")
    return _spec(folder / "config.json", "convatlas", BadBundle), folder / "model.safetensors"


def _spec(file: Path, key: str, kind: type[ConvAtlasError]) -> Spec:
    try:
        return msgspec.convert(msgspec.json.decode(file.read_bytes())[key], Spec)
    except FileNotFoundError:
        raise kind(f"{file} is missing; the folder is not whole") from None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise kind(f"{file} cannot be read: {str(error) or key + ' is missing'}") from None
