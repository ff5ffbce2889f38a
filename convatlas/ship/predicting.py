"""Answers from a bundle, for image files and folders; a file that cannot be read is named and never ends the work."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import layout, units
from ..classifier import Classifier
from ..data import decode
from ..data.decoding import EXTENSIONS, printable
from ..errors import BadImage, UsageError
from .bundle import replay

BATCH = 32


@dataclass(frozen=True)
class Prediction:
    """The answer for one file, or why there is none."""

    file: str
    answer: str | None = None  # the most probable class
    probability: float | None = None
    top: tuple[tuple[str, float], ...] = ()  # classes with probabilities, the most probable first
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON form: {"file","class","probability","top":[{"class","probability"}...]}, or {"file","error"}."""
        if self.error is not None:
            return {"file": self.file, "error": self.error}
        top = [{"class": name, "probability": p} for name, p in self.top]
        return {"file": self.file, "class": self.answer, "probability": self.probability, "top": top}


def predict(bundle: str | Path, paths: Sequence[str | Path], *, top: int = 5, device: str = "cpu") -> list[Prediction]:
    """Name what is on each image, after the bundle has answered its own replay images.

    Folders are walked, in the order of their names. The answers come in the order of the paths; a file that is missing
    or no image has an `error` and no class. Raises BadBundle (exit 4), UsageError for a run folder or `top` below one.
    """
    if top < 1:
        raise UsageError(f"top {top} names no class; give 1 or more")
    source = replay(bundle, device)
    answers: list[Prediction] = []
    waiting: list[tuple[str, np.ndarray]] = []  # in order, until a batch is full
    places: list[int] = []

    def answer() -> None:
        rows = probabilities(source.logits([array for _, array in waiting]))
        for place, (name, _), row in zip(places, waiting, rows, strict=True):
            answers[place] = _prediction(name, row, source, top)
        waiting.clear()
        places.clear()

    for file in _walk(paths):
        name = shown(file)
        if file.is_dir():
            answers.append(Prediction(name, error=f"{name}: no image files in this folder"))
            continue
        try:
            picture = decode(file, source.spec.preprocess.channels)
            waiting.append((name, source.spec.preprocess.array(picture)))
            places.append(len(answers))
            answers.append(Prediction(name))
        except (BadImage, OSError) as error:
            answers.append(Prediction(name, error=shown(str(error))))
        if len(waiting) == BATCH:
            answer()
    if waiting:
        answer()
    return answers


def probabilities(logits: Tensor) -> Tensor:
    """Softmax in float64, so that the probabilities of an image sum to one. (n,classes) -> (n,classes)."""
    return torch.softmax(logits.double(), dim=1)


def summary(answers: Sequence[Prediction]) -> str:
    """A table for a terminal: file, class and probability, the next classes; unreadable files at the end, by name."""
    columns = (layout.Column("file"), layout.Column("class"), layout.Column("probability", True), layout.Column("then"))
    rows = []
    for a in answers:
        if a.error is None and a.probability is not None:
            then = ", ".join(f"{printable(name)} {units.percent(p)}" for name, p in a.top[1:])
            rows.append((printable(a.file), printable(a.answer or ""), units.percent(a.probability), then))
    parts = [layout.text(columns, rows)] if rows else []
    parts += [f"unreadable: {printable(a.error)}" for a in answers if a.error is not None]
    return "\n".join(parts)


def shown(file: Path | str) -> str:
    """A path as text that JSON can hold; bytes that are not UTF-8 stand as escapes."""
    return os.fsencode(file).decode("utf-8", "backslashreplace")


def _walk(paths: Sequence[str | Path]) -> Iterator[Path]:
    """Files as given; of a folder, those named like images, as in a data set; a folder without any as it is."""
    for given in map(Path, paths):
        inside = [p for p in given.rglob("*") if p.suffix.lower() in EXTENSIONS] if given.is_dir() else []
        yield from sorted(p for p in inside if "/." not in f"/{p.relative_to(given)}") or [given]


def _prediction(name: str, row: Tensor, source: Classifier, top: int) -> Prediction:
    # A stable sort, so that equal probabilities come in the order of the classes on every machine.
    order = torch.sort(row, descending=True, stable=True).indices[:top].tolist()
    best = tuple((source.spec.classes[i], float(row[i])) for i in order)
    return Prediction(name, best[0][0], best[0][1], best)
