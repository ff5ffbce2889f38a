"""The bundle: a folder that carries weights, class names, preprocessing and images whose logits prove all three.

`config.json` has the fields that timm and transformers read (timm 1.0's hub layout), and ours under "convatlas".
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import classifier, files
from ..classifier import BUNDLE_FORMAT, Classifier, Spec
from ..data import Preprocess, decode
from ..errors import BadBundle, BadCheckpoint, BadData, BadImage, UsageError
from ..record import from_json, to_json
from ..result import versions

TOLERANCE = 1e-4  # of the largest logit of the image, or absolute where that is below one
MOST_REPLAYED = 16


@dataclass(frozen=True)
class Replayed:
    """One image of the replay: what the network answered when the bundle was made."""

    file: str  # path inside the bundle
    answer: str  # the class with the largest logit, by name
    logits: tuple[float, ...]


@dataclass(frozen=True)
class Replay:
    images: tuple[Replayed, ...]


@dataclass(frozen=True)
class Original:
    """An image file as it goes into the bundle: a photo's own bytes, or a PNG of an image that a data set holds."""

    suffix: str
    content: bytes


def write(out: Path, source: Classifier, originals: Sequence[Original], extra: dict[str, str | bytes]) -> None:
    """Write the bundle of a classifier to `out`, which appears whole or not at all.

    `originals` become the replay images; their logits are computed here from those very bytes. `extra` maps names of
    further files to their content. Raises SaveFailed.
    """
    arrays = [array_of(o.content, source.spec.preprocess) for o in originals]
    names = [f"replay/{i:02d}{o.suffix}" for i, o in enumerate(originals)]
    logits = expected_logits(source, arrays)
    record = Replay(tuple(replayed(n, row, source.spec) for n, row in zip(names, logits, strict=True)))

    def fill(folder: Path) -> None:
        (folder / "replay").mkdir()
        for name, original in zip(names, originals, strict=True):
            (folder / name).write_bytes(original.content)
        if source.heads:
            (folder / "model.safetensors").write_bytes(source.shipped())
        else:
            shutil.copyfile(source.weights_file, folder / "model.safetensors")
        (folder / "config.json").write_text(to_json(config(source.spec), indent=1) + "\n", encoding="utf-8")
        (folder / "classes.txt").write_text(classes_text(source.spec.classes), encoding="utf-8", newline="")
        (folder / "replay.json").write_text(to_json(record, indent=1) + "\n", encoding="utf-8")
        for name, content in extra.items():
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    files.write_folder(out, fill, sums=files.SUMS)


def classes_text(classes: Sequence[str]) -> str:
    """One name a line, in the order of the logits. Raises BadData for a name that a line of UTF-8 cannot hold."""
    for name in classes:
        if "\n" in name or "\r" in name or not name:
            raise BadData(
                f"class name {name!r} is no single line, but classes.txt holds one class a line; "
                "rename the class in the data and train again"
            )
        try:
            name.encode()
        except UnicodeEncodeError:
            raise BadData(
                f"class name {name!r} is not valid Unicode, but classes.txt is UTF-8; "
                "rename the class in the data and train again"
            ) from None
    return "".join(f"{name}\n" for name in classes)


def config(spec: Spec) -> dict[str, Any]:
    """What config.json says: timm's and transformers' fields first, then ours."""
    p = spec.preprocess
    labels = {str(i): name for i, name in enumerate(spec.classes)}
    # timm's nearest words for our three fits; the exact rule is Preprocess, below.
    crop_mode, crop = {"crop": ("center", p.crop), "pad": ("border", 1.0), "stretch": ("squash", 1.0)}[p.fit]
    return {
        "architecture": spec.network,
        "num_classes": len(spec.classes),
        "label_names": spec.classes,
        "id2label": labels,
        "label2id": {name: i for i, name in enumerate(spec.classes)},
        "pretrained_cfg": {
            "input_size": spec.input,
            "fixed_input_size": False,  # True would make timm pass img_size, which only its transformers take
            "interpolation": p.interpolation,
            "crop_pct": crop,
            "crop_mode": crop_mode,
            "mean": p.mean,
            "std": p.std,
            "num_classes": len(spec.classes),
        },
        "convatlas": {
            "format": BUNDLE_FORMAT,
            "network": spec.network,
            "classes": spec.classes,
            "preprocess": p,
            "versions": versions(),
        },
    }


def array_of(image: bytes | Path, preprocess: Preprocess) -> np.ndarray:
    """An image file as the uint8 (H,W,C) that the network's input is made from. Raises BadImage."""
    return preprocess.array(decode(image, preprocess.channels))


def logits_of(source: Classifier, arrays: Sequence[np.ndarray], batch: int = 32) -> np.ndarray:
    """Logits of prepared images, a batch at a time. n x uint8 (H,W,C) -> (n,classes) float32."""
    parts = [source.logits(arrays[i : i + batch]).numpy() for i in range(0, len(arrays), batch)]
    return np.concatenate(parts)


def expected_logits(source: Classifier, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """As `logits_of`, for a classifier that is about to be shipped. Raises BadCheckpoint for NaN and infinity."""
    logits = logits_of(source, arrays)
    if not np.isfinite(logits).all():
        raise BadCheckpoint(f"{source.weights_file} gives logits that are not finite; train again with a smaller lr")
    return logits


def replayed(name: str, logits: np.ndarray, spec: Spec) -> Replayed:
    return Replayed(name, spec.classes[int(logits.argmax())], tuple(float(x) for x in logits))


def differences(logits: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Largest difference of each image's logits, in units of its largest expected logit where that exceeds one.

    (n,classes) twice -> (n,). Infinite where a logit is not finite.
    """
    with np.errstate(all="ignore"):  # what is not finite is found below
        scale = np.maximum(1.0, np.abs(expected).max(1))
        found = np.abs(logits.astype(np.float64) - expected).max(1) / scale
    return np.where(np.isfinite(found), found, np.inf)


def replay(bundle: str | Path, device: str = "cpu") -> Classifier:
    """The classifier of a bundle, after it answered the bundle's own images as it did when the bundle was made.

    Every sum is checked first. Raises BadBundle (exit 4) that names the first image whose logits differ by more than
    TOLERANCE or whose class is another; UsageError where there is no bundle.
    """
    folder = Path(bundle)
    if (folder / "checkpoints").is_dir():
        raise UsageError(
            f"{folder} is a run folder, not a bundle; make one with `convatlas export {folder} --out BUNDLE`"
        )
    if not folder.exists():
        raise UsageError(f"no bundle at {folder}; make one with `convatlas export RUN --out {folder}`")
    source = classifier.load(folder, device)
    lines = _text(folder / "classes.txt").split("\n")
    if tuple(lines[:-1]) != source.spec.classes:
        raise _damaged(folder, "classes.txt and config.json name other classes or another order")
    expected = _expected(folder, len(source.spec.classes))
    arrays = []
    for image in expected.images:
        try:
            arrays.append(array_of(folder / image.file, source.spec.preprocess))
        except BadImage as error:
            raise _damaged(folder, f"a replay image cannot be read: {error}") from None
    logits = logits_of(source, arrays)
    apart = differences(logits, np.array([image.logits for image in expected.images]))
    for image, row, difference in zip(expected.images, logits, apart, strict=True):
        name = source.spec.classes[int(row.argmax())]
        if difference > TOLERANCE or name != image.answer:
            raise BadBundle(
                f"bundle {folder} does not answer as it did: {image.file} gives {name!r}, expected {image.answer!r}; "
                f"its logits differ by {difference:.3g}, allowed {TOLERANCE:g}; make it anew with `convatlas export`"
            )
    return source


def _expected(folder: Path, classes: int) -> Replay:
    text = _text(folder / "replay.json")
    try:
        record = from_json(Replay, text)
    except (ValueError, RecursionError) as error:
        raise _damaged(folder, f"replay.json cannot be read: {error}") from None
    if not 1 <= len(record.images) <= MOST_REPLAYED:
        raise _damaged(folder, f"replay.json names {len(record.images)} images, expected 1 to {MOST_REPLAYED}")
    root = (folder / "replay").resolve()
    for image in record.images:
        if "\0" in image.file or not (folder / image.file).resolve().is_relative_to(root):
            raise _damaged(folder, f"replay.json names {image.file!r}, which lies outside replay/")
        if len(image.logits) != classes:
            raise _damaged(folder, f"replay.json has {len(image.logits)} logits for {image.file}, expected {classes}")
    return record


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except FileNotFoundError:
        raise _damaged(file.parent, f"{file.name} is missing") from None
    except (OSError, UnicodeDecodeError):
        raise _damaged(file.parent, f"{file.name} cannot be read") from None


def _damaged(folder: Path, fault: str) -> BadBundle:
    return classifier.damaged(folder, fault)
