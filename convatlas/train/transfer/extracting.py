"""Features: what a layer of a trained network makes of images, for other tasks; extracted, saved and read again."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from ... import classifier, files, foreign, units, weights
from ...classifier import Classifier, Spec
from ...data import BadFile, Data, Preprocess, Split, open_data, statistics
from ...data.loader import eval_batches
from ...data.parallel import cores
from ...errors import BadCheckpoint, BadData, BadInput, RunFailed, UnknownName, UsageError
from ...layers import drop_heads
from ...networks import NETWORKS
from ...record import to_json
from ...result import this_machine
from .. import start
from ..device import out_of_memory
from ..evaluating.evaluation import loaders
from ..progress import say
from ..run import read_config
from ..updating.groups import unknown_layer

FORMAT = 1  # version of the JSON beside the features
INPUT = "input"  # the layer that is the network's input itself
RANDOM = "random"  # weights as the network's paper draws them: what a trained network has to beat


@dataclass(frozen=True, eq=False)
class Rows:
    """The features of a split's images that could be read. float32 (N,d), labels int64 (N,) of the data's classes."""

    split: str
    features: Tensor
    labels: Tensor
    names: tuple[str, ...]
    bad: tuple[BadFile, ...] = ()


@dataclass(frozen=True, eq=False)
class Features:
    """What one layer of one network made of a data set."""

    layer: str
    network: str
    source: str  # of the weights
    data: Data
    rows: dict[str, Rows]  # by split
    preprocess: Preprocess
    weights_digest: str
    flat: bool

    @property
    def dimensions(self) -> int:
        return next(iter(self.rows.values())).features.shape[1]

    def only(self, splits: Sequence[str]) -> "Features":
        return replace(self, rows={name: self.rows[name] for name in splits})


# ---- Extracting ------------------------------------------------------------------------------------------------------


def extract(
    source: str | Path,
    data: str | Path,
    layer: str,
    *,
    splits: Sequence[str] = (),
    given: str | Path | None = None,
    flat: bool = False,
    device: str = "auto",
) -> Features:
    """What a layer makes of the images of a data set, in evaluation mode, through the classifier's own preprocessing.

    `source` is a run folder, a bundle, or a network's name with weights `given`: a file, "torchvision[:NAME]", or
    "random". `layer` is a module by its path ("fc7", "conv4.2"), or "input" for the pixels as the network gets them.
    Maps are averaged over their positions, unless `flat`; the input never is. `splits` () are all that there are.
    Raises UnknownName for a layer, UsageError, BadInput for a layer without features, BadData, BadCheckpoint.
    """
    place = classifier.pick_device(device)
    opened = _open(source, data)
    wanted = tuple(splits) or tuple(opened.splits)
    for name in wanted:
        if name not in opened.splits:
            raise UsageError(f"{opened.source} has no {name} split; it has {', '.join(opened.splits)}")
    found = _classifier(str(source), given, opened)
    net, p = found.net.to(place).eval(), found.spec.preprocess
    _check_layer(net, layer, found.spec.input, place)
    rows = {name: _rows(net, layer, opened.splits[name], p, flat) for name in wanted}
    where = f"{given} weights" if given == RANDOM else str(found.source)
    digest = weights.digest(net.state_dict())
    return Features(layer, found.spec.network, where, opened, rows, p, digest, flat or layer == INPUT)


def _open(source: str | Path, data: str | Path) -> Data:
    """A run's own data is divided as its training had it."""
    if (Path(source) / "checkpoints").is_dir():
        config = read_config(Path(source))
        if config.data.source in (str(data), str(Path(data).resolve())):
            return open_data(data, validation=config.recipe.validation, fold=config.data.fold)
    return open_data(data)


def _classifier(source: str, given: str | Path | None, data: Data) -> Classifier:
    if Path(source).exists():
        if given is not None:
            raise UsageError(f"{source} has weights of its own; --weights goes with a network's name")
        return classifier.load(source)
    if source not in NETWORKS or not NETWORKS[source].classes:
        known = [name for name, network in NETWORKS.items() if network.classes]
        raise UnknownName("run folder, bundle or network", source, known, "`convatlas list` shows the networks")
    if given is None:
        raise UsageError(
            f"{source} is a network's name and has no weights; add --weights FILE, torchvision or random, "
            "or give a run folder or a bundle"
        )
    network = NETWORKS[source]
    if given == RANDOM:
        spec = Spec(source, data.classes, _measured(source, data))
        net, where = spec.build(), RANDOM
    else:
        begun, state = start.read(source, given)
        known_rule = _published(source, begun.path)
        spec = Spec(source, data.classes, known_rule or _measured(source, data))
        net, where = spec.build(), begun.path
        say(f"weights: {foreign.take(net, state, where, classes=len(data.classes), foreign=network.foreign)}")
    drop_heads(net)
    return Classifier(net.eval(), spec, Path(where), Path(where))


def _measured(network: str, data: Data) -> Preprocess:
    """As a training from these weights has it: the network's size, mean and deviation of the training images."""
    channels, height, width = NETWORKS[network].input
    bare = Preprocess(channels, height, width)
    found = statistics(data.split("train"), bare, workers=cores())
    return Preprocess(channels, height, width, mean=found[0], std=found[1])


def _published(network: str, path: str) -> Preprocess | None:
    """The preprocessing with which torchvision's weights were trained; None for weights from a file."""
    library, _, name = path.partition(":")
    if library != start.TORCHVISION or Path(path).is_file():
        return None
    rule = foreign.torchvision_entry(NETWORKS[network].foreign, network, name, ()).transforms()
    channels, height, width = NETWORKS[network].input
    crop = rule.crop_size[0] / rule.resize_size[0]
    return Preprocess(channels, height, width, crop=crop, mean=tuple(rule.mean), std=tuple(rule.std))


class _Reached(Exception):
    """No error: it ends a forward pass whose rest nobody needs."""


def _check_layer(net: nn.Module, layer: str, shape: tuple[int, ...], device: torch.device) -> None:
    """Raises UnknownName, and BadInput for a layer that is not run once or gives no tensor with a row an image."""
    if layer == INPUT:
        return
    if layer not in dict(net.named_modules()) or not layer:
        raise unknown_layer(net, layer)
    seen: list[Any] = []
    handle = net.get_submodule(layer).register_forward_hook(lambda module, given, output: seen.append(output))
    try:
        with torch.inference_mode():
            net(torch.zeros(2, *shape, device=device))
    finally:
        handle.remove()
    if len(seen) != 1:
        times = "not at all" if not seen else f"{len(seen)} times"
        raise BadInput(f"{layer} is run {times} for an image; choose a layer that is run once")
    if not isinstance(seen[0], Tensor) or seen[0].dim() < 2 or len(seen[0]) != 2:
        raise BadInput(f"{layer} gives no row of numbers for each image; choose another layer")


def _rows(net: nn.Module, layer: str, split: Split, preprocess: Preprocess, flat: bool, batch: int = 64) -> Rows:
    features: Tensor | None = None
    labels: list[Tensor] = []
    bad: list[BadFile] = []
    filled = 0
    device = next(net.parameters()).device
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        out_of_memory(device, f"extracting features with batch {batch}"),
    ):
        for one in eval_batches(split, preprocess, batch=batch, workers=loaders(split, None)):
            bad += one.bad
            if not len(one.labels):
                continue
            given = _vectors(_output(net, layer, one.images.to(device)), flat or layer == INPUT)
            if features is None:
                features = _room(len(split), given.shape[1], layer)
            features[filled : filled + len(given)] = given.cpu()
            filled += len(given)
            labels.append(one.labels)
    if features is None:
        first = f"; the first: {bad[0].path}: {bad[0].reason}" if bad else ""
        raise BadData(f"none of the {len(split)} images of the {split.name} split can be read{first}")
    spoiled_names = {b.path for b in bad}
    names = tuple(n for n in map(split.named, range(len(split))) if n not in spoiled_names)
    if bad:
        say(f"{len(bad)} of the {split.name} images cannot be read and have no features; the first: {bad[0].path}")
    return Rows(split.name, features[:filled], torch.cat(labels), names, tuple(bad))


def _output(net: nn.Module, layer: str, images: Tensor) -> Tensor:
    """What a module gives; nothing after it is run."""
    if layer == INPUT:
        return images
    kept: list[Tensor] = []

    def keep(module: nn.Module, given: Any, output: Tensor) -> None:
        kept.append(output)
        raise _Reached

    handle = net.get_submodule(layer).register_forward_hook(keep)
    try:
        net(images)
    except _Reached:
        pass
    finally:
        handle.remove()
    return kept[0]


def _vectors(output: Tensor, flat: bool) -> Tensor:
    """(N,C,H,W) -> (N,C), the mean over positions, or with `flat` (N,CHW); (N,C) stays."""
    if flat or output.dim() == 2:
        return output.float().flatten(1)
    return output.float().flatten(2).mean(dim=2)


def _room(images: int, dimensions: int, layer: str) -> Tensor:
    needed, there = 4 * images * dimensions, this_machine().memory_bytes
    if there and needed > there:
        raise RunFailed(
            f"the features of {layer} take {units.size(needed)} for {images:,} images, this machine has "
            f"{units.size(there)}; leave --flat out, or choose a later layer"
        )
    return torch.empty(images, dimensions)


# ---- Files -----------------------------------------------------------------------------------------------------------


def save(found: Features, out: Path) -> None:
    """Writes OUT.safetensors ("train.features", "train.labels", ...) and, beside it, OUT.json that tells what they are.

    The JSON comes last and has the other's sha256, so that a pair belongs together. Raises UsageError for a name that
    is taken or does not end in .safetensors, SaveFailed.
    """
    refuse_taken(out)
    tensors = {f"{name}.{part}": getattr(r, part) for name, r in found.rows.items() for part in ("features", "labels")}
    weights.save(tensors, out)
    about = {
        "format": FORMAT,
        "layer": found.layer,
        "dimensions": found.dimensions,
        "averaged": not found.flat,
        "network": found.network,
        "source": found.source,
        "weights_sha256": found.weights_digest,
        "preprocess": asdict(found.preprocess),
        "data": {"name": found.data.name, "source": found.data.source, "rule": found.data.rule},
        "classes": found.data.classes,
        "sha256": files.sha256(out),
        "splits": {
            name: {
                "images": len(r.labels),
                "digest": found.data.splits[name].digest(),
                "names": r.names,
                "unreadable": [asdict(b) for b in r.bad],
            }
            for name, r in found.rows.items()
        },
    }
    files.write(out.with_suffix(".json"), to_json(about, indent=1) + "\n")


def refuse_taken(out: Path) -> None:
    """Raises UsageError for a name that `save` cannot write to."""
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out} does not end in .safetensors; write for example --out features.safetensors")
    for file in (out, out.with_suffix(".json")):
        if file.exists():
            raise UsageError(f"{file} exists and is kept; choose another --out")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent} for {out.name}; make it, or choose another --out")


def read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the JSON that `save` wrote. Raises BadCheckpoint where they are damaged or no pair."""
    beside = file.with_suffix(".json")
    try:
        about = json.loads(beside.read_bytes())
        if about["format"] != FORMAT:
            raise ValueError(f"it has format {about['format']!r}, this version reads {FORMAT}")
        fault = None if files.sha256(file) == about["sha256"] else f"its sha256 is not the one in {beside.name}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadCheckpoint(f"{beside} cannot be read: {error}; make the features anew") from None
    if fault:
        raise BadCheckpoint(f"{file} is damaged or another's: {fault}; make the features anew")
    return safetensors.torch.load_file(file), about
