"""The model card: README.md with the front matter that the Hugging Face Hub reads (huggingface_hub 2.4, repocard)."""

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import units
from ..classifier import Spec
from ..paper import Recipe
from ..result import Result

NAMED = 50  # classes that the card lists; classes.txt has all
PAPERS_OWN = ("where", "dataset", "assumed")  # a recipe's fields that are about the paper's training, not this one


@dataclass(frozen=True)
class Training:
    """What a card tells of the training beside its results."""

    recipe: Recipe
    data: str
    images: dict[str, int]  # by split
    rule: str  # how the splits came about


def card(spec: Spec, training: Training, results: Sequence[Result] = (), formats: Sequence[str] = ()) -> str:
    """Markdown with front matter. Every name that a user chose stands as text, never as markup.

    Of several results the last one is shown, for accuracy the last on the test split where there is one.
    """
    trained = next((r for r in reversed(results) if r.kind == "training"), None)
    tested = [r for r in results if r.accuracy and r.data]
    result = next((r for r in reversed(tested) if r.data and r.data.split == "test"), tested[-1] if tested else None)
    parts = [
        f"---\n{_front(spec, result)}---",
        f"# {spec.network}: {len(spec.classes)} classes",
        _what(spec),
        f"## How well it answers\n\n{_accuracy(result)}",
        f"## How it was trained\n\n{_training(training, trained)}",
        f"## How to use it\n\n{_use(formats)}",
        f"## What it is for, and its limits\n\n{_limits(result)}",
    ]
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """A name as Markdown that shows exactly it, within a line: no HTML, no emphasis, no link, no table cell."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"[\\`*_\[\]|~:@]|(?<=www)\.", r"\\\g<0>", escaped, flags=re.IGNORECASE)


def _front(spec: Spec, result: Result | None) -> str:
    # JSON is YAML, so a quoted value needs no rules of its own; ASCII keeps YAML's special line breaks out.
    fields: dict[str, Any] = {
        "license": "unknown",  # only the owner of the data can choose one
        "library_name": "convatlas",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "convatlas", spec.network],
    }
    if result and result.data and result.accuracy:
        fields["datasets"] = [result.data.name]
        fields["metrics"] = ["accuracy"]
        data = {"type": result.data.name, "name": result.data.name, "split": result.data.split}
        metric = {"type": "accuracy", "name": "top-1 accuracy", "value": result.accuracy.top1}
        task = {"type": "image-classification"}
        results = [{"task": task, "dataset": data, "metrics": [metric]}]
        fields["model-index"] = [{"name": spec.network, "results": results}]
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items())


def _what(spec: Spec) -> str:
    p = spec.preprocess
    names = ", ".join(plain(name) for name in spec.classes[:NAMED])
    more = f" and {len(spec.classes) - NAMED} more (`classes.txt`)" if len(spec.classes) > NAMED else ""
    rule = {
        "crop": f"resized ({p.interpolation}) so that the centre, which is cut out, keeps {p.crop:g} of a side",
        "pad": "the whole image is fitted in, its shape kept, on black",
        "stretch": f"both sides are resized ({p.interpolation})",
    }[p.fit]
    return (
        f"Classes, in the order of the logits: {names}{more}.\n\n"
        f"Input: {p.channels} x {p.height} x {p.width}; {rule}; "
        f"mean {_numbers(p.mean)}, standard deviation {_numbers(p.std)} of values from 0 to 1."
    )


def _accuracy(result: Result | None) -> str:
    if result is None or result.accuracy is None or result.data is None:
        return "Not evaluated yet: `convatlas evaluate` on the run folder, then `convatlas export` again."
    a = result.accuracy
    low, high = a.interval
    lines = [
        f"- Top-1: {units.of(a.correct, a.images)} of the {plain(result.data.split)} split of "
        f"{plain(result.data.name)}; "
        f"95 % interval {units.percent(low)} to {units.percent(high)} (Wilson).",
        f"- Top-5: {units.of(a.top5_correct, a.images)}.",
        f"- Data digest: `{result.data.digest}`.",
    ]
    if a.unreadable:
        lines.append(f"- {units.exact(a.unreadable)} files could not be read; they are not counted above.")
    if result.method:
        lines.append(f"- Method: {plain(result.method)}")
    return "\n".join(lines)


def _training(training: Training, result: Result | None) -> str:
    counts = ", ".join(f"{units.exact(n)} {split}" for split, n in training.images.items())
    lines = [f"- Data: {plain(training.data)}, {plain(counts)} images; {plain(training.rule)}."]
    if result:
        name = f"recipe {plain(result.recipe)}, " if result.recipe else ""
        m = result.machine
        took = f", {units.seconds(result.seconds)}" if result.seconds else ""
        lines += [
            f"- {plain(result.network)}, {name}{result.epochs:g} epochs{took}; "
            f"{units.count(result.params)} parameters, {units.count(result.macs, 'MACs')} an image.",
            f"- Machine: {plain(m.processor)}, {m.cores} cores, {units.size(m.memory_bytes)}, {plain(m.system)}, "
            f"on {plain(m.device)}.",
            f"- Versions: {plain(', '.join(f'{k} {v}' for k, v in sorted(result.versions.items())))}.",
        ]
    fields = [
        f"{name} {', '.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in vars(training.recipe).items()
        if name not in PAPERS_OWN and value
    ]
    lines.append(f"- Recipe: {plain('; '.join(fields))}.")
    return "\n".join(lines)


def _use(formats: Sequence[str]) -> str:
    text = (
        "```\npip install convatlas\nconvatlas predict . photo.jpg\n```\n\n"
        "`predict` first checks SHA256SUMS and answers the images under `replay/`; it refuses when one answer differs."
    )
    if "onnx" in formats:
        text += (
            "\n\n`model.onnx` takes `images` (float32, n x channels x height x width, normalised as above) and gives "
            "`logits`. It was kept because it answered held-out images as the weights do. "
            "Its metadata carries class names and preprocessing."
        )
    return text


def _limits(result: Result | None) -> str:
    seen = f" The figures are about images like those of {plain(result.data.name)}." if result and result.data else ""
    return (
        "It names the one class, of those above, that an image looks most like. It has no answer for "
        f'"none of these", and its probabilities are not calibrated.{seen} Test it on your own images before you rely '
        "on it, and do not let it decide alone about people, health or safety."
    )


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{v:.4g}" for v in values)
