"""Plain networks against residual ones, by depth: is a deeper one worse even on the images that it learned from?

After He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2015, arXiv 1512.03385), section 4.2 and
Figure 6, by their recipe for CIFAR-10 with its length cut.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import files, units
from ..catalogue import catalogue, table
from ..errors import BadCheckpoint, UsageError
from ..paper import Published, Recipe
from ..record import changed, from_json, to_json
from ..result import command
from .answers import Degradation, Errors, Family, Norms, Point, Trained

if TYPE_CHECKING:
    from ..result import Result
    from ..train import Epoch

DEPTHS = (20, 56)
FAMILIES: tuple[Family, ...] = ("plain", "resnet")
# Ours: by 1.1 ms an image and step for 20 layers and three times that for 56, the four networks take less than an hour
# on two cores.
ITERATIONS = 2_100
WEIGHTED = ("conv2d", "linear")
ANSWER = "degradation.json"


@dataclass(frozen=True)
class _Wanted:
    family: Family
    depth: int
    recipe: Recipe

    @property
    def network(self) -> str:
        return f"{self.family}{self.depth}_cifar"


def degradation(
    data: str,
    out: Path,
    *,
    depths: Sequence[int] = DEPTHS,
    epochs: float | None = None,
    settings: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
) -> Degradation:
    """Trains plain and residual networks of each depth, each into a run folder below `out`, and judges.

    What is there already is gone on with. `settings` are "field=value" texts for the recipe. Writes degradation.json
    beside the runs. Raises UsageError for depths without twins, and whatever `train` raises.
    """
    from ..train import Options, read_config, train
    from ..train.progress import say

    wanted = _wanted(depths, epochs, settings)
    known = _known(out / ANSWER)
    trained = []
    for number, one in enumerate(wanted, 1):
        run = out / one.network
        say(f"network {number} of {len(wanted)}: {one.network} into {run}")
        options = Options(device=device, gradients=True)
        result = train(one.network, data, run, recipe=one.recipe, seed=seed, resume=True, options=options)
        trained.append(_judged(one, data, run, result, known.get(one.network)))
    config = read_config(out / wanted[-1].network)
    answer = Degradation(
        data=config.data.name,
        source=config.data.source,
        images=config.data.images,
        seed=seed,
        paper=_whole(wanted[-1].network),
        trained=tuple(trained),
        printed=tuple(_printed(one.network for one in wanted)),
        machine=result.machine,
        versions=result.versions,
        command=command(),
    )
    answer = replace(answer, answer=(about_plain(answer), about_residual(answer)))
    files.write(out / ANSWER, to_json(answer, indent=1) + "\n")
    return answer


# ---- What is trained -------------------------------------------------------------------------------------------------


def twins() -> list[int]:
    """Depths of which the catalogue has a plain network and a residual one."""
    names = catalogue().networks
    every = (name.removeprefix("plain").removesuffix("_cifar") for name in names if name.startswith("plain"))
    return sorted(int(d) for d in every if d.isdigit() and all(f"{f}{d}_cifar" in names for f in FAMILIES))


def _wanted(depths: Sequence[int], epochs: float | None, settings: Sequence[str]) -> list[_Wanted]:
    known = twins()
    for depth in depths:
        if depth not in known:
            raise UsageError(
                f"there are no twins of {depth} layers; plain and residual networks for small images have "
                f"{', '.join(map(str, known[:-1]))} or {known[-1]}, like --depths 20,56"
            )
    if len(set(depths)) < 2:
        raise UsageError(f"--depths {','.join(map(str, depths))} leaves nothing to compare; give two or more")
    if epochs is not None and not epochs > 0:
        raise UsageError(f"--epochs {epochs:g} is no length; give more than 0")
    ordered = [(f, d) for f in FAMILIES for d in sorted(set(depths))]
    return [_Wanted(f, d, cut(_whole(f"{f}{d}_cifar"), epochs, settings)) for f, d in ordered]


def _whole(network: str) -> Recipe:
    """The paper's recipe for a network."""
    known = catalogue()
    return known.recipes[known.entry(network).recipe]


def cut(recipe: Recipe, epochs: float | None = None, settings: Sequence[str] = ()) -> Recipe:
    """A recipe of another length, with its rate dropped, and its warm-up ended, at the same shares of it.

    The length is `epochs`, else what `settings` say, else ITERATIONS. Raises UnknownName and BadRecipe for a setting.
    """
    given = {s.partition("=")[0].strip().replace("-", "_") for s in settings}
    before = recipe.iterations or recipe.epochs or 1
    short = replace(recipe, iterations=ITERATIONS if epochs is None else None, epochs=epochs)
    short = changed(short, settings, "recipe")
    if "epochs" in given and "iterations" not in given:
        short = replace(short, iterations=None)
    share = (short.iterations or short.epochs or 1) / before
    if "drops" not in given:
        short = replace(short, drops=tuple(round(d * share, 6) for d in recipe.drops))
    if "warm_up" not in given:
        short = replace(short, warm_up=round(recipe.warm_up * share, 6))
    return short


def layers(network: str) -> tuple[str, ...]:
    """Names of the weights of a network's convolutions and linear layers, from the input on."""
    return tuple(f"{row.path}.weight" for row in table(network).rows if row.op in WEIGHTED)


# ---- What came out ---------------------------------------------------------------------------------------------------


def _judged(one: _Wanted, data: str, run: Path, result: "Result", before: Trained | None) -> Trained:
    """The figures of a finished run; the errors on its training images are counted unless `before` has them."""
    from ..train import evaluate
    from ..train.progress import say

    if result.accuracy is None or result.data is None:
        raise UsageError(
            f"{data} has neither a test nor a validation split, so there is no second error to show; "
            "use --set validation=0.1"
        )
    if before is not None and before.when == result.when:
        training = before.training
    else:
        say(f"{one.network}: counts the errors on its training images")
        found = evaluate(run, data, split="train", device=result.machine.device.partition(",")[0]).accuracy
        assert found is not None
        training = Errors(found.images - found.correct, found.images)
    return Trained(
        network=one.network,
        family=one.family,
        depth=one.depth,
        params=result.params,
        run=str(run),
        recipe=one.recipe,
        curve=_curve(run),
        training=training,
        tested=Errors(result.accuracy.images - result.accuracy.correct, result.accuracy.images),
        split=result.data.split,
        norms=read_norms(run, layers(one.network)),
        epochs=result.epochs,
        seconds=result.seconds,
        when=result.when,
    )


def _known(file: Path) -> dict[str, Trained]:
    """What an earlier call found, by network; nothing where there is no such file that can be read."""
    try:
        return {t.network: t for t in from_json(Degradation, file.read_bytes()).trained}
    except (OSError, ValueError):
        return {}


def _curve(run: Path) -> tuple[Point, ...]:
    from ..train import read_log

    def point(e: "Epoch") -> Point:
        v = e.validation
        held_out = None if v is None else Errors(v.images - v.correct, v.images)
        return Point(e.epoch, Errors(e.train_images - e.train_correct, e.train_images), held_out)

    return tuple(point(e) for e in read_log(run))


def read_norms(run: Path, names: Sequence[str]) -> tuple[Norms, ...]:
    """Gradient norms of these weights by epoch, from a run's gradients.jsonl; none where it has no such file.

    Raises BadCheckpoint that names the line at fault.
    """
    file = run / "gradients.jsonl"
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"{file} cannot be read: {error}") from None
    found: dict[int, Norms] = {}
    for number, line in enumerate(lines, 1):
        try:
            read = json.loads(line)
            epoch = int(read["epoch"])
            found[epoch] = Norms(epoch, tuple(float(read["norms"][name]) for name in names))
        except (ValueError, KeyError, TypeError) as error:
            raise BadCheckpoint(f"{file}, line {number}: {type(error).__name__} {error}") from None
    return tuple(found[epoch] for epoch in sorted(found))


def _printed(networks: Iterable[str]) -> Iterable[Published]:
    """The paper's own errors on CIFAR-10, and sentences that were printed about these networks."""
    known = catalogue()
    for name in networks:
        for p in known.printed(name):
            own = p.metric == "top1_error" and p in known.published["resnet"] and p.source.startswith("Table")
            if own or p.metric == "statement":
                yield p


# ---- The answer ------------------------------------------------------------------------------------------------------

WITHIN = ", a difference within the 95 % intervals"


def about_plain(found: Degradation) -> str:
    """Whether the deepest plain network is worse on the images that it learned from."""
    shallow, deep = found.pair("plain")
    a, b = (units.percent(t.training.share) for t in (shallow, deep))
    verdict = deep.training.against(shallow.training)
    if verdict == "worse":
        return (
            f"Plain-{deep.depth} errs more than {shallow.name} on the very images that both learned from, "
            f"{b} against {a}: this is not overfitting, the deeper plain network is harder to train."
        )
    how = WITHIN if verdict == "equal" else ", the deeper one less"
    return (
        f"The degradation did not come out here: of its training images {deep.name} errs in {b}, "
        f"{shallow.name} in {a}{how}."
    )


def about_residual(found: Degradation) -> str:
    """Whether the deepest residual network is."""
    shallow, deep = found.pair("resnet")
    a, b = (units.percent(t.training.share) for t in (shallow, deep))
    verdict = deep.training.against(shallow.training)
    if verdict == "worse":
        gap, plain = (100 * (d.training.share - s.training.share) for s, d in ((shallow, deep), found.pair("plain")))
        return (
            f"{deep.name} is worse than {shallow.name} too, {b} against {a}, which is not what the paper found: "
            f"it is {gap:.1f} points behind, the plain pair's deeper one {plain:.1f}."
        )
    how = WITHIN if verdict == "equal" else ""
    return f"With shortcuts depth does no harm: {deep.name} errs in {b} of them, {shallow.name} in {a}{how}."
