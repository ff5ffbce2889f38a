"""From a run to answers: export, predict; and demo, which does the whole job."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..errors import UsageError
from .app import Device, Json, app, next_step, say


@app.command(sort_key=11)
def export(
    run: Annotated[Path, Parameter(help="A run folder.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="The bundle folder to make.")],
    to: Annotated[tuple[str, ...], Parameter(help="File formats beside the bundle's own: onnx.", negative=())] = (),
) -> None:
    """Make a bundle to ship: weights, class names, preprocessing, replay images, model card, and exported files.

    A file is kept only if it answers like the bundle on held-out images, from image bytes.
    """
    from ..ship import export as work

    formats = tuple(part for item in to for part in item.split(",") if part)
    say(str(work(run, out, to=formats)))
    next_step(f"convatlas predict {out} photo.jpg")


@app.command(sort_key=12)
def predict(
    bundle: Annotated[Path, Parameter(help="A bundle folder.")],
    /,
    *images: Annotated[Path, Parameter(help="Image files or folders.")],
    top: Annotated[int, Parameter(help="How many classes to name.")] = 5,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Name what is on images, with probabilities. Exit 3 when a file could not be read; the others are answered."""
    from ..errors import BadData
    from ..record import to_json
    from ..ship import predict as work
    from ..ship import summary

    if not images:
        raise UsageError(f"no image given; write `convatlas predict {bundle} photo.jpg`")
    if top < 1:
        raise UsageError(f"--top {top} names no class; give 1 or more")
    answers = work(bundle, images, top=top, device=device)
    say(to_json([a.as_dict() for a in answers]) if json else summary(answers))
    bad = [a for a in answers if a.error]
    if bad:
        raise BadData(f"{len(bad)} of {len(answers)} files could not be read; the first: {bad[0].error}")


@app.command(sort_key=13)
def demo(*, out: Annotated[Path, Parameter(help="Where its runs, bundle and report go.")] = Path("demo")) -> None:
    """Run the main job on the embedded digits, from training three networks to a bundle and a report."""
    from ..demo import demo as work
    from . import main

    work(out, main)
