"""What a trained network serves beside its own task: features."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..errors import UsageError
from .app import DATA, Device, Json, app, busy, say


@Parameter(name="*")
@dataclass(frozen=True)
class Taken:
    """Which features are taken, and where they go."""

    layer: Annotated[str, Parameter(help="A layer by its name, as in `convatlas table`; input gives the pixels.")]
    out: Annotated[Path | None, Parameter(help="The .safetensors file to make, with a .json beside it.")] = None
    split: Annotated[str | None, Parameter(help="Which splits, as in train,test; default all.")] = None
    weights: Annotated[str | None, Parameter(help="Of a network by name: a file, torchvision[:NAME], or random.")] = (
        None
    )
    flat: Annotated[bool, Parameter(negative=(), help="All positions of a map, not their average.")] = False


@app.command(sort_key=7)
def features(
    source: Annotated[str, Parameter(help="A run folder, a bundle, or a network's name with --weights.")],
    data: Annotated[str, Parameter(help=DATA)],
    /,
    *,
    taken: Taken,
    probe: Annotated[bool, Parameter(negative=(), help="Fit a linear classifier on them, and count.")] = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Save what a layer makes of images, for other tasks; --probe says how far a linear classifier gets on them.

    Layers have the names that `convatlas table` shows; maps are averaged over their positions.

        convatlas features runs/alexnet photos/ --layer fc7 --out features.safetensors
        convatlas features runs/alexnet photos/ --layer fc7 --probe
        convatlas features resnet18 photos/ --weights torchvision --layer pool5 --probe
    """
    if taken.out is None and not probe:
        raise UsageError("nothing to do with the features; add --out features.safetensors, --probe or both")
    from ..record import to_json
    from ..train.transfer import extracting, probing

    if taken.out is not None:
        extracting.refuse_taken(taken.out)
    asked = tuple(dict.fromkeys(part.strip() for part in (taken.split or "").split(",") if part.strip()))
    needed = (*asked, *(p for p in probing.PARTS if probe and asked and p not in asked))
    with busy(f"{taken.layer} of {source}"):
        found = extracting.extract(
            source, data, taken.layer, splits=needed, given=taken.weights, flat=taken.flat, device=device
        )
        saved = found.only(asked or tuple(found.rows))
        if taken.out is not None:
            extracting.save(saved, taken.out)
        fitted = probing.probe(found) if probe else None
    images = {name: len(rows.labels) for name, rows in saved.rows.items()}
    if json:
        say(
            to_json(
                ({"file": str(taken.out), "dimensions": found.dimensions, "images": images} if taken.out else {})
                | ({"probe": fitted.as_dict()} if fitted else {})
            )
        )
        return
    if taken.out is not None:
        counts = ", ".join(f"{n:,} {name}" for name, n in images.items())
        say(f"{taken.out}: {found.dimensions:,} features of {taken.layer} for each image ({counts})")
    if fitted is not None:
        say(fitted.as_text())
