"""README.md of a run folder: what was trained how, on what, with which result, and how to go on."""

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import layout, units
from ..data import Split
from ..paper import Recipe
from ..record import from_json
from ..result import Result
from . import run as folder
from .evaluating.answers import Answers, ClassCount, by_class, mistakes

LINES = 30  # epochs in the table at most
CLASSES = 100  # in the table by class; all are in confusion.csv
WORST = 10


@dataclass(frozen=True)
class Account:
    """All that is told of a run; `answers` are the centre view's."""

    run: Path
    config: folder.RunConfig
    results: tuple[Result, ...]
    answers: Answers | None
    split: Split | None


def readme(told: Account) -> str:
    """The page as Markdown."""
    config = told.config
    parts = [
        f"# {_plain(config.spec.network)} on {_plain(config.data.name)}",
        _outcome(told),
        _go_on(told),
        _recipe(config),
        _data(config),
        _starts(told.run),
        _epochs(told.run),
    ]
    if told.answers is not None and told.split is not None:
        parts += [_classes(told.answers, config.spec.classes), _worst(told.answers, told.split, config.spec.classes)]
    parts.append(_files(told))
    return "\n\n".join(part for part in parts if part) + "\n"


def _outcome(told: Account) -> str:
    config = told.config
    rows: list[Sequence[layout.Cell]] = []
    for result in reversed(told.results):
        accuracy = result.accuracy
        if accuracy is None or result.data is None:
            continue
        low, high = accuracy.interval
        five = units.of(accuracy.top5_correct, accuracy.images) if result.classes > 5 else ""
        interval = f"{100 * low:.1f} to {units.percent(high)}"
        rows.append(
            (
                result.data.split,
                accuracy.view,
                units.of(accuracy.correct, accuracy.images),
                interval,
                five,
                accuracy.unreadable,
            )
        )
    trained = told.results[-1]
    lines = []
    if rows:
        names = ("split", "view", "top-1", "95 % interval", "top-5", "not readable")
        lines += [layout.markdown([layout.Column(name, i > 1) for i, name in enumerate(names)], rows), ""]
    lines.append(f"How: {trained.method}. The interval is Wilson's.")
    if told.answers is not None:
        lines.append(f"Expected calibration error: {units.percent(told.answers.calibration_error)} (15 bins).")
    lines.append(
        f"{units.exact(trained.params)} parameters, {units.exact(trained.macs)} MACs an image of "
        f"{units.shape(config.spec.input)}, {units.size(trained.weights_bytes)} of weights; {trained.epochs:.4g} "
        f"epoch{'s' * (trained.epochs != 1)} in {units.seconds(trained.seconds)}; seed {config.seed}."
    )
    return "\n".join(lines)


def _go_on(told: Account) -> str:
    run = shlex.quote(str(told.run))
    config = told.config
    data = shlex.quote(config.data.source)
    commands = [
        f"convatlas train {config.spec.network} {data} --out {run} --resume",
        f"convatlas evaluate {run} {data}",
        f"convatlas measure {run}",
        f"convatlas report {run} --out report.html",
        f"convatlas export {run} --to onnx --out bundle",
    ]
    return "\n".join(("## To go on", "", "```", *commands, "```"))


def _recipe(config: folder.RunConfig) -> str:
    recipe = config.recipe
    defaults = Recipe()
    rows = []
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if field.name == "assumed" or (value == getattr(defaults, field.name) and field.name not in recipe.assumed):
            continue
        rows.append((field.name, _value(value), "assumed" if field.name in recipe.assumed else ""))
    rest = [f.name for f in dataclasses.fields(recipe) if f.name not in ("assumed", *(row[0] for row in rows))]
    standing = ", ".join(f"{name} {_value(getattr(recipe, name))}" for name in rest)
    table = layout.markdown([layout.Column("field"), layout.Column("value"), layout.Column("")], rows)
    begun = ""
    if config.start is not None:
        begun = f"\n\nThe weights started from {_plain(config.start.path)} (sha256 {config.start.sha256})."
    return (
        f"## Recipe {_plain(config.recipe_name)}\n\n{table}\n\n"
        f'"assumed" marks what the paper leaves open or what is ours. As usual: {_plain(standing)}.{begun}'
    )


def _data(config: folder.RunConfig) -> str:
    data, p = config.data, config.spec.preprocess
    rows = [(name, count, data.digests.get(name, "")) for name, count in data.images.items()]
    columns = [layout.Column("split"), layout.Column("images", True), layout.Column("sha256 of labels and content")]
    fold = f" Fold {data.fold[0]} of {data.fold[1]} is the validation split." if data.fold is not None else ""
    mean, std = (", ".join(f"{v:.4g}" for v in values) for values in (p.mean, p.std))
    names = [_plain(name) for name in config.spec.classes[:CLASSES]]
    more = f" and {len(config.spec.classes) - CLASSES:,} more" if len(config.spec.classes) > CLASSES else ""
    return (
        f"## Data\n\n{_plain(data.source)}: {_plain(data.rule)}.{fold}\n\n{layout.markdown(columns, rows)}\n\n"
        f"{len(config.spec.classes):,} classes: {', '.join(names)}{more}.\n\n"
        f"Input {units.shape(config.spec.input)}, fit {p.fit}, crop {p.crop:g}, mean {mean}, deviation {std}."
    )


def _starts(run: Path) -> str:
    """Each start with its machine and versions; "" where environment.json cannot be read."""
    try:
        starts = from_json(list[folder.Environment], (run / "environment.json").read_bytes())
    except (OSError, ValueError):
        return ""
    rows: list[Sequence[layout.Cell]] = []
    for start in starts:
        machine = start.machine
        where = f"{machine.processor}, {machine.cores} cores, {units.size(machine.memory_bytes)}, {machine.system}"
        packages = ", ".join(f"{name} {version}" for name, version in start.versions.items())
        rows.append((start.when, where, f"{machine.device}, {machine.threads} threads", packages))
    columns = [layout.Column(name) for name in ("start (UTC)", "machine", "device", "versions")]
    commands = "\n".join(start.command for start in starts)
    return f"## Starts\n\n{layout.markdown(columns, rows)}\n\n```\n{commands}\n```"


def _epochs(run: Path) -> str:
    """The log, thinned evenly to `LINES`; the first, the last and the best epoch stay."""
    epochs = folder.read_log(run)
    if not epochs:
        return ""
    spaced = set(np.linspace(0, len(epochs) - 1, min(len(epochs), LINES)).round().astype(int).tolist())
    checked = [(e.validation.correct, -e.validation.loss, -i) for i, e in enumerate(epochs) if e.validation is not None]
    best = -max(checked)[2] if checked else None
    if best is not None:
        spaced.add(best)
    rows: list[Sequence[layout.Cell]] = []
    for i in sorted(spaced):
        e, v = epochs[i], epochs[i].validation
        validation = ("", "") if v is None else (f"{v.loss:.4f}", units.of(v.correct, v.images))
        train = units.of(e.train_correct, e.train_images)
        rows.append((f"{e.epoch}{' (best)' * (i == best)}", f"{e.lr:.3g}", f"{e.train_loss:.4f}", train, *validation))
    names = ("epoch", "lr", "training loss", "training right", "validation loss", "validation right")
    table = layout.markdown([layout.Column(name, True) for name in names], rows)
    thinned = f"\n\n{len(rows)} of {len(epochs):,} epochs; log.jsonl has all." if len(rows) < len(epochs) else ""
    return (
        f"## Epochs\n\n![The curves, where `convatlas train` has drawn them](curves.svg)\n\n{table}{thinned}\n\n"
        "Training figures are of changed images while the weights were changing, the loss as it was optimised."
    )


def _classes(answers: Answers, classes: Sequence[str]) -> str:
    counts = by_class(answers, classes)
    more = f"\n\n{len(counts) - CLASSES:,} more are in confusion.csv." if len(counts) > CLASSES else ""
    return f"## By class\n\n{layout.markdown(*class_table(counts[:CLASSES]))}{more}"


def class_table(counts: Sequence[ClassCount]) -> tuple[list[layout.Column], list[Sequence[layout.Cell]]]:
    """How many of each class were right, and what the others were mostly taken for."""
    columns = [layout.Column("class"), layout.Column("right", True), layout.Column("mostly taken for")]
    rows: list[Sequence[layout.Cell]] = [
        (c.name, units.of(c.correct, c.images), f"{c.taken_for} ({c.taken:,})" if c.taken else "") for c in counts
    ]
    return columns, rows


def _worst(answers: Answers, split: Split, classes: Sequence[str]) -> str:
    found = mistakes(answers, split, classes, WORST)
    if not found:
        return "## Worst mistakes\n\nNone: every image was answered right."
    columns = [layout.Column("image"), layout.Column("label"), layout.Column("answer")]
    columns += [layout.Column("of the answer", True), layout.Column("of the label", True)]
    rows = [
        (m.image, m.label, m.answer, units.percent(m.probability), units.percent(m.label_probability)) for m in found
    ]
    return f"## Worst mistakes\n\nThe most confident ones, with the probabilities.\n\n{layout.markdown(columns, rows)}"


def _files(told: Account) -> str:
    files = [
        ("config.json", "network, classes, preprocessing, recipe, data and seed: the training follows from it"),
        ("log.jsonl, clock.jsonl", "each epoch's figures; its times"),
        ("results.json", "each result with its machine, versions and method"),
        ("environment.json", "each start"),
        ("checkpoints/", "weights (safetensors) of the best and the last steps"),
    ]
    if told.answers is not None:
        files += [
            ("answers.csv", "what each image was answered; answers-VIEW.csv in another view"),
            ("confusion.csv", "images by label (row) and answer (column)"),
            ("worst.json", "the most confident mistakes"),
        ]
    return "## Files\n\n" + layout.markdown([layout.Column("file"), layout.Column("what it holds")], files)


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value)) or "none"
    return f"{value:.12g}" if isinstance(value, float) else "none" if value is None or value == "" else str(value)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{c}" if c in "\\`*_<>[]#|" else c for c in text)
