"""Evaluating what is trained: one classifier, or several that answer together."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from .app import DATA, Device, Json, app, say

if TYPE_CHECKING:
    from ..train.evaluating.evaluation import Examined


@app.command(sort_key=6)
def evaluate(
    *given: Annotated[str, Parameter(help=f"A run folder or a bundle, or several; then the data: {DATA}")],
    split: Annotated[str, Parameter(help="train, validation or test.")] = "test",
    view: Annotated[str, Parameter(help="center, ten-crop, dense, 'dense 384', 'multi-scale 224,256,384'.")] = "center",
    per_class: Annotated[bool, Parameter(negative=(), help="Count each class's images, too.")] = False,
    answers: Annotated[Path | None, Parameter(help="Write what each image was answered, as CSV.")] = None,
    device: Device = "auto",
    workers: Annotated[int | None, Parameter(help="Loader processes for photos; never changes the result.")] = None,
    json: Json = False,
) -> None:
    """Count the images of a split that a classifier gets right, as k of N with a 95 % interval.

    Several run folders or bundles answer together as well, by the mean of their probabilities, beside each alone.
    Processes that torchrun starts share the images.
    """
    from .. import files
    from ..errors import UsageError

    if len(given) < 2:
        what = f"only {given[0]!r} was given" if given else "nothing was given"
        raise UsageError(
            f"{what}; give a run folder or a bundle, or several, and then the data, like "
            "`convatlas evaluate runs/lenet digits`"
        )
    if workers is not None and workers < 0:
        raise UsageError(f"workers is {workers}; give 0 (load in this process) or more")
    from ..train.evaluating.answers import answers_csv
    from ..train.evaluating.evaluation import examine
    from ..train.processes import speaks

    done = examine(given[:-1], given[-1], split=split, device=device, workers=workers, view=view)
    if not speaks():
        return
    if answers is not None:
        files.write(answers, answers_csv(done.counts.answers, done.split, done.classes))
    say(_json(done, per_class) if json else _text(done, per_class))


def _json(done: "Examined", per_class: bool) -> str:
    from dataclasses import asdict

    from ..record import to_json
    from ..train.evaluating.answers import by_class
    from ..train.evaluating.ensemble import Ensemble

    found = done.found
    fields = ("correct", "images", "top1", "top5_correct", "top5", "interval", "unreadable", "view")
    answer: dict[str, object] = {f: getattr(found.accuracy, f) for f in fields} | {"data": found.data}
    if isinstance(found, Ensemble):
        answer["members"] = [
            {"source": source} | {f: getattr(member.accuracy, f) for f in fields}
            for source, member in zip(found.sources, found.members, strict=True)
        ]
        answer |= {"mean_top1": found.mean_top1, "gain": found.gain, "best": found.sources[found.best]}
        answer |= {"against_best": found.against_best, "paired": found.paired}
        answer |= {"calibration_errors": found.calibration_errors, "method": found.method}
    if per_class:
        answer["per_class"] = [asdict(c) for c in by_class(done.counts.answers, done.classes)]
    return to_json(answer)


def _text(done: "Examined", per_class: bool) -> str:
    from .. import layout
    from ..train import summary
    from ..train.evaluating.answers import by_class
    from ..train.evaluating.ensemble import Ensemble, text
    from ..train.readme import class_table

    told = text(done.found) if isinstance(done.found, Ensemble) else summary(done.found)
    if not per_class:
        return told
    return f"{told}\n\n{layout.text(*class_table(by_class(done.counts.answers, done.classes)))}"
