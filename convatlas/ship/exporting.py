"""From a run folder to a bundle; an exported file is kept only if it is proven to answer as the weights do.

The proof starts at image bytes, because preprocessing and class order are what exported files lose.
"""

import hashlib
import importlib.util
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from .. import engines
from ..classifier import Classifier, load
from ..data import Data, Split, open_data
from ..engines.with_onnxruntime import session_of
from ..errors import (
    BadCheckpoint,
    BadData,
    BadImage,
    ExportMismatch,
    MissingExtra,
    RunFailed,
    UnknownName,
    UsageError,
)
from ..paper import Recipe
from ..record import to_json
from ..result import Result, read_results
from ..version import __version__
from .bundle import (
    MOST_REPLAYED,
    TOLERANCE,
    Original,
    array_of,
    classes_text,
    differences,
    expected_logits,
    write,
)
from .card import Training, card

MOST_PROVED = 256  # held-out images that an exported file must answer
PROVED_ALONE = 16  # of them, how many also go through in batches of one
FORMATS = ("onnx",)
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class RunData:
    source: str
    name: str
    rule: str  # how the splits came about
    images: dict[str, int]  # by split


@dataclass(frozen=True)
class RunRecord:
    """What a run folder's config.json says about its data and training, as far as a bundle needs it."""

    data: RunData
    recipe: Recipe


@dataclass(frozen=True)
class HeldOut:
    """Images of the test split (else validation), decoded from bytes; `arrays` are ready to be normalised."""

    split: Split
    indices: tuple[int, ...]
    arrays: tuple[np.ndarray, ...]

    def name(self, i: int) -> str:
        return self.split.named(self.indices[i])


def export(run: str | Path, out: str | Path, *, to: Sequence[str] = FORMATS) -> Path:
    """Make a bundle at `out` from a run's best checkpoint, with exported files beside the weights.

    The data that the run was trained on must still be there: its held-out images are the proof. Raises UsageError when
    `out` exists, ExportMismatch when a file does not answer as the weights do; nothing is then left at `out`.
    """
    run, out = Path(run), Path(out)
    for name in to:
        if name not in FORMATS:
            raise UnknownName("export format", name, FORMATS)
    if "onnx" in to:
        missing = [p for p in ONNX_PACKAGES if importlib.util.find_spec(p) is None]
        if missing:
            raise MissingExtra(" and ".join(missing), "onnx", "export to ONNX")
    if not (run / "checkpoints").is_dir():
        raise UsageError(
            f"{run} is no run folder (it has no checkpoints/); `convatlas train ... --out {run}` makes one"
        )
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out} exists already and is not written over; choose another folder for the bundle")
    source = load(run)
    classes_text(source.spec.classes)
    record, results = _record(run), _results(run)
    data = open_data(record.data.source, validation=record.recipe.validation)
    if set(data.classes) != set(source.spec.classes):
        raise BadData(
            f"{record.data.source} has {len(data.classes)} classes, not the {len(source.spec.classes)} of {run}; "
            "export needs the data that the run was trained on"
        )
    held = held_out(data, source)
    about = Training(record.recipe, record.data.name, record.data.images, record.data.rule)
    extra: dict[str, str | bytes] = {"README.md": card(source.spec, about, results, to)}
    if "onnx" in to:
        content = to_onnx(source)
        prove("ONNX", onnx_runner(content), source, held)
        extra["model.onnx"] = content
    write(out, source, replay_originals(held), extra)
    return out


def held_out(data: Data, source: Classifier) -> HeldOut:
    """Up to 256 evenly spaced images of the split that was kept from training. Unreadable files are left out."""
    split = data.splits.get("test") or data.splits.get("validation")
    if split is None or not len(split):
        raise BadData(
            f"{data.source} has no test or validation images, but export proves its files on them; add a test/"
        )
    wanted = np.unique(np.linspace(0, len(split) - 1, min(MOST_PROVED, len(split))).round().astype(int))
    indices, arrays = [], []
    for index in map(int, wanted):
        try:
            array = array_of(original(split, index).content, source.spec.preprocess)
        except (BadImage, OSError):
            continue
        indices.append(index)
        arrays.append(array)
    if not indices:
        raise BadData(
            f"none of the {len(wanted)} {split.name} images of {data.source} can be read; run check-data on it"
        )
    return HeldOut(split, tuple(indices), tuple(arrays))


def original(split: Split, index: int) -> Original:
    """The image's own file, or a PNG of it where the data set holds arrays."""
    given = split.given(index)
    if isinstance(given, Path):
        return Original(given.suffix.lower(), given.read_bytes())
    if isinstance(given, bytes):
        return Original("", given)
    png = io.BytesIO()
    Image.fromarray(given).save(png, "PNG")
    return Original(".png", png.getvalue())


def replay_originals(held: HeldOut) -> list[Original]:
    """Up to 16 of the held-out images: one of each class in turn, of evenly spaced classes where they are more."""
    labels = held.split.labels[list(held.indices)]
    kinds = np.unique(labels)
    kinds = kinds[np.unique(np.linspace(0, len(kinds) - 1, min(MOST_REPLAYED, len(kinds))).round().astype(int))]
    queues = [np.flatnonzero(labels == kind) for kind in kinds]
    turns = (queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue))
    chosen = [i for i, _ in zip(turns, range(MOST_REPLAYED), strict=False)]
    return [original(held.split, held.indices[i]) for i in sorted(chosen)]


def to_onnx(source: Classifier) -> bytes:
    """The classifier as one ONNX file: `images` (float32, n x C x H x W, normalised) to `logits`; n is free.

    Its metadata holds what the file alone would lose: classes, preprocessing, network, version, the weights' sha256.
    """
    facts = {
        "classes": to_json(source.spec.classes),
        "preprocess": to_json(source.spec.preprocess),
        "network": source.spec.network,
        "convatlas": __version__,
        "weights_sha256": hashlib.sha256(source.shipped()).hexdigest(),
    }
    return engines.to_onnx(source.net, source.spec.input, facts)


def onnx_runner(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """A function that runs an ONNX file on the CPU. (n,C,H,W) float32 -> (n,classes) float32."""
    try:
        session = session_of(content)
    except RunFailed as error:
        reason = str(error.__cause__).strip().splitlines()[0]
        raise ExportMismatch(f"ONNX Runtime cannot run the file, so nothing was written: {reason}") from error
    return lambda images: session.run(["logits"], {"images": images})[0]


def prove(kind: str, run: Callable[[np.ndarray], np.ndarray], source: Classifier, held: HeldOut) -> None:
    """Hold an exported file against the network, on held-out images, alone and in batches of 32.

    Logits must agree to TOLERANCE of the image's largest logit (absolute where that is below one), and the class with
    the largest logit must be the same on every image. Raises ExportMismatch otherwise.
    """
    expected = expected_logits(source, held.arrays)
    normalise = source.spec.preprocess.normalise
    for size, count in ((1, PROVED_ALONE), (32, MOST_PROVED)):
        arrays, wanted = held.arrays[:count], expected[:count]
        batches = [np.stack(arrays[i : i + size]) for i in range(0, len(arrays), size)]
        found = np.concatenate([run(normalise(batch)) for batch in batches])
        apart = differences(found, wanted)
        other = found.argmax(1) != wanted.argmax(1)
        wrong = other | (apart > TOLERANCE)
        if wrong.any():
            first = int(wrong.argmax())
            raise ExportMismatch(
                f"the {kind} file does not answer like {source.weights_file}, so nothing was written: "
                f"logits differ by up to {apart.max():.3g} (allowed {TOLERANCE:g}), {int(other.sum())} of {len(other)} "
                f"held-out images get another class, the first wrong one is {held.name(first)} at batch size {size}; "
                f"please report it, and export without {kind} until then"
            )


def _record(run: Path) -> RunRecord:
    try:
        return msgspec.json.decode((run / "config.json").read_bytes(), type=RunRecord)
    except (OSError, ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{run / 'config.json'} cannot be read: {error}; train the run again") from None


def _results(run: Path) -> list[Result]:
    try:
        return read_results(run / "results.json")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise BadCheckpoint(
            f"the results of {run} cannot be read: {error}; `convatlas evaluate` writes them again"
        ) from None
