"""A classifier: a network with weights, class names and preprocessing, as a run folder and a bundle both hold it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from . import files, units, weights
from .data import Preprocess
from .errors import BadBundle, BadCheckpoint, BadRecipe, ConvAtlasError, UsageError
from .layers import Whiten, WithHeads, chain, drop_heads
from .networks import build

BUNDLE_FORMAT = 1  # version of the bundle's own form
SMALL = 32 * 2**20  # bytes; a sums file or config.json beyond it is not ours, and is not read
MOST_CLASSES, MOST_SIDE = 100_000, 4096  # beyond any classifier; a hostile config.json could ask for all the memory


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
        net = build(self.network, classes=len(self.classes), channels=channels, input=(height, width), seed=seed)
        return net if self.preprocess.whiten == "none" else self._whitened(net)

    def _whitened(self, net: nn.Module) -> nn.Module:
        """The network behind a layer that whitens, whose numbers travel with the weights. Raises BadRecipe."""
        if not isinstance(net, nn.Sequential):
            raise BadRecipe(
                f"whiten={self.preprocess.whiten} needs a network that is one chain of layers, and {self.network} is "
                "none; use --set whiten=none"
            )
        first = Whiten(self.preprocess.whiten, self.input)
        return chain(whiten=first, **dict(net.named_children()))


@dataclass(frozen=True)
class Classifier:
    net: nn.Module
    spec: Spec
    source: Path
    weights_file: Path
    heads: bool = False  # whether that file holds auxiliary heads, which the network here does not have

    @property
    def weights_bytes(self) -> int:
        """Size of the weights as a bundle has them, without auxiliary heads."""
        return len(self.shipped()) if self.heads else self.weights_file.stat().st_size

    def shipped(self) -> bytes:
        """The safetensors file of a bundle: the weights without auxiliary heads."""
        return weights.content(self.net) if self.heads else self.weights_file.read_bytes()

    def logits(self, images: Sequence[np.ndarray]) -> Tensor:
        """Logits of uint8 arrays that `spec.preprocess.array` gave. n x (H,W,C) -> (n,classes) float32 on the CPU."""
        batch = torch.from_numpy(self.spec.preprocess.normalise(np.stack(images)))
        device = next(self.net.parameters()).device
        # TensorFloat-32, cuDNN's default, is wrong from the fourth digit on; a replay and a proof need five.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self.net(batch.to(device)).float().cpu()


def load(source: str | Path, device: str = "cpu") -> Classifier:
    """The classifier of a run folder (its best checkpoint) or of a bundle, in evaluation mode, without auxiliary heads.

    Every file's sha256 is checked first. Raises UsageError where there is neither, BadCheckpoint and BadBundle (exit 4)
    where one is damaged. A bundle's replay is `ship.replay`'s work.
    """
    folder = Path(source)
    kind: type[ConvAtlasError] = BadCheckpoint
    if (folder / "checkpoints").is_dir():
        spec, file = _of_run(folder)
    elif (folder / files.SUMS).is_file() or (folder / "model.safetensors").is_file():
        spec, file = _of_bundle(folder)
        kind = BadBundle
    elif not folder.exists():
        raise UsageError(
            f"no run folder or bundle at {folder}; `convatlas train ... --out {folder}` makes a run folder"
        )
    else:
        raise UsageError(f"{folder} is neither a run folder (no checkpoints/) nor a bundle (no model.safetensors)")
    try:
        found = restore(spec, file, folder)
    except BadCheckpoint as error:
        raise kind(str(error)) from None
    except UsageError as error:
        raise kind(f"{folder / 'config.json'} asks for what cannot be built: {error}") from None
    found.net.to(pick_device(device))
    return found


def restore(spec: Spec, file: Path, source: Path) -> Classifier:
    """The classifier of a weights file, on the CPU, in evaluation mode, without the auxiliary heads that it may hold.

    Raises BadCheckpoint, and UsageError for a spec that cannot be built.
    """
    state = weights.load(file)
    with torch.device("meta"):  # other shapes are found before memory is taken for what config.json asks
        net = spec.build()
        heads = isinstance(net, WithHeads) and any(n.partition(".")[0] in net.heads for n in state)
        if not heads:
            drop_heads(net)
        weights.fill(net, state, str(file))
    net = spec.build()
    drop_heads(net)
    own = net.state_dict()
    weights.fill(net, {n: t for n, t in state.items() if n in own}, str(file))
    return Classifier(net.eval(), spec, source, file, heads)


def pick_device(wanted: str) -> torch.device:
    """The device of that name; "auto" is the accelerator if there is one, else the CPU. Raises UsageError."""
    if wanted == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device).cpu()  # "meta" has no values to give back
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(f"device {wanted!r} cannot be used: {reason}; use --device cpu or auto") from None
    return device


def _of_run(folder: Path) -> tuple[Spec, Path]:
    spec = _spec(folder / "config.json", "spec", BadCheckpoint)
    step = pointed(folder, "best") or pointed(folder, "last")
    if step is None:
        raise BadCheckpoint(
            f"{folder} holds no whole checkpoint; `convatlas train ... --out {folder} --resume` goes on"
        )
    return spec, step / "model.safetensors"


def pointed(run: Path, pointer: str) -> Path | None:
    """The checkpoint that the file "best" or "last" names; None without such a file.

    Raises BadCheckpoint where it is damaged: other weights must not answer in its place unnoticed.
    """
    file = run / "checkpoints" / pointer
    try:
        name = file.read_text().strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BadCheckpoint(f"{file} cannot be read: {error}") from None
    inside = name.startswith("step-") and "/" not in name
    fault = files.damage(run / "checkpoints" / name) if inside else "it names no checkpoint"
    if fault:
        raise BadCheckpoint(
            f"the {pointer} checkpoint {name!r} of {run} is damaged: {fault}; train again to get it back"
        )
    return run / "checkpoints" / name


def _of_bundle(folder: Path) -> tuple[Spec, Path]:
    try:
        sums = [line.split("  ", 1) for line in _small(folder / files.SUMS).decode().splitlines()]
        covered = {name for _, name in sums}
        fault = files.first_fault(folder, [(name, None, digest) for digest, name in sums])
    except (OSError, ValueError):
        raise damaged(folder, f"{files.SUMS} is missing or cannot be read") from None
    here = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    # Names with a dot in front are left by file browsers and version control, and nothing reads them.
    extra = {name for name in here - covered - {files.SUMS} if "/." not in f"/{name}"}
    if fault is None and {"model.safetensors", "config.json"} - covered:
        fault = f"{files.SUMS} does not cover model.safetensors and config.json"
    if fault is None and extra:
        fault = f"{min(extra)!r} is not in {files.SUMS}"
    if fault:
        raise damaged(folder, fault)
    return _spec(folder / "config.json", "convatlas", BadBundle), folder / "model.safetensors"


def damaged(folder: Path, fault: str) -> BadBundle:
    return BadBundle(f"bundle {folder} is damaged: {fault}; make it anew with `convatlas export`")


def _spec(file: Path, key: str, kind: type[ConvAtlasError]) -> Spec:
    try:
        record = msgspec.json.decode(_small(file), type=dict[str, Any])[key]
        if not isinstance(record, dict):
            raise TypeError(f"{key} is no object of fields")
        if key == "convatlas" and record["format"] != BUNDLE_FORMAT:
            raise ValueError(f"it has format {record['format']!r}, this version reads {BUNDLE_FORMAT}")
        spec = msgspec.convert(record, Spec)
        if not 1 <= len(set(spec.classes)) == len(spec.classes) <= MOST_CLASSES:
            raise ValueError(f"it names {len(spec.classes)} classes, expected 1 to {MOST_CLASSES}, each once")
        if max(spec.input) > MOST_SIDE:
            raise ValueError(f"its input is {units.shape(spec.input)}, expected at most {MOST_SIDE} pixels a side")
        return spec
    except FileNotFoundError:
        raise kind(f"{file} is missing; the folder is not whole") from None
    except KeyError as error:
        raise kind(f"{file} cannot be read: {error} is missing") from None
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise kind(f"{file} cannot be read: {error}") from None


def _small(file: Path) -> bytes:
    if file.stat().st_size > SMALL:
        raise ValueError(f"it has {file.stat().st_size} bytes, expected at most {SMALL}")
    return file.read_bytes()
