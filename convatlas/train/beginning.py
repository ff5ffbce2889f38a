"""How a run begins: its data opened, its configuration settled and written, or read again and compared."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from .. import files
from ..classifier import Spec
from ..data import Data, Preprocess, augment, moments, open_data, statistics
from ..data.parallel import cores
from ..errors import BadData, BadRecipe
from ..layers import Whiten
from ..networks import NETWORKS, RECIPES, recipe_for
from ..paper import Recipe
from ..record import to_json
from . import run as folder
from . import start
from .checkpoint import Checkpoints
from .checks import check_recipe
from .evaluating.counting import refuse_view
from .progress import say


@dataclass(frozen=True)
class Wanted:
    """What a call of `train` asks for; None where a run that goes on says it."""

    network: str
    data: str | Path
    out: Path
    recipe: Recipe | None
    seed: int | None
    weights: str | Path | None
    fold: tuple[int, int] | None


@dataclass(frozen=True)
class Begun:
    """A run that can be trained: `net` is a new run's, with its starting weights; None is for a run that goes on."""

    config: folder.RunConfig
    data: Data
    net: nn.Module | None = None


def begin(wanted: Wanted, resume: bool) -> Begun:
    """Makes the run folder of a new run, or reads that of one which goes on, and refuses what does not fit it.

    Raises UsageError, BadRecipe and BadData before anything is written.
    """
    out = wanted.out
    folder.refuse_taken(out, resume)
    if folder.state_of(out) == "run":
        return _again(wanted, folder.read_config(out))
    if resume:
        say(f"nothing to resume in {out}; a new run starts")
    recipe = wanted.recipe or recipe_for(wanted.network)
    check_recipe(recipe)
    plan = augment.parse(recipe.augment)
    data = open_for(wanted.data, recipe, wanted.fold)
    begun = None if wanted.weights is None else start.read(wanted.network, wanted.weights)
    config = _new_config(wanted, data, recipe, begun and begun[0])
    if plan.needs_colours:
        config = replace(config, colours=moments.colours(data.splits["train"], config.spec.preprocess, workers=cores()))
    net = fresh(config, data)
    refuse_view(net, config.spec.preprocess, recipe.view)
    if begun is not None:
        start.fill(net, begun[1], config, begun[0])
    # config.json makes it a run, and with it alone the run can be trained from the start.
    Checkpoints(out).make()
    files.write(out / "config.json", to_json(config, indent=1) + "\n")
    return Begun(config, data, net)


def _again(wanted: Wanted, config: folder.RunConfig) -> Begun:
    out, recipe = wanted.out, wanted.recipe or config.recipe
    seed = config.seed if wanted.seed is None else wanted.seed
    folder.refuse_other_recipe(out, config, wanted.network, recipe, seed)
    folder.refuse_other_fold(out, config, wanted.fold)
    data = open_for(wanted.data, recipe, config.data.fold)
    folder.refuse_other_data(out, config, folder.describe(data, wanted.data), data.classes)
    start.refuse_other(out, config, wanted.weights)
    return Begun(config, data)


def follow(out: Path, source: str | Path) -> Begun:
    """The run that the first of several processes began."""
    config = folder.read_config(out)
    return Begun(config, open_for(source, config.recipe, config.data.fold))


def open_for(source: str | Path, recipe: Recipe, fold: tuple[int, int] | None) -> Data:
    """The data as a recipe divides it. Raises BadData, BadRecipe."""
    # The run's seed does not choose the splits: runs of several seeds must be tested on the same images.
    opened = open_data(source, validation=recipe.validation, fold=fold)
    if not len(opened.splits.get("train", ())):
        raise BadData(f"{opened.source} has no training images")
    if recipe.schedule == "plateau" and recipe.watch == "validation" and "validation" not in opened.splits:
        raise BadRecipe(
            "the recipe's schedule is plateau, which needs validation images, and there are none; "
            "use --set validation=0.1, --set watch=training or --set schedule=constant"
        )
    return opened


def _new_config(wanted: Wanted, data: Data, recipe: Recipe, origin: folder.Start | None) -> folder.RunConfig:
    network = wanted.network
    _, height, width = NETWORKS[network].input
    if recipe.size is not None:
        height = width = recipe.size
    preprocess = Preprocess(data.channels, height, width, recipe.fit, recipe.crop, whiten=recipe.whiten)
    if recipe.whiten == "none":
        mean, std = statistics(data.splits["train"], preprocess, workers=cores())
        preprocess = replace(preprocess, mean=mean, std=std)
    name = folder.name_recipe(recipe, RECIPES, NETWORKS[network].recipe)
    spec = Spec(network, data.classes, preprocess)
    stamp = folder.describe(data, wanted.data, wanted.fold)
    return folder.RunConfig(spec, recipe, name, stamp, wanted.seed or 0, origin)


def fresh(config: folder.RunConfig, data: Data) -> nn.Module:
    """The run's network as its seed draws it."""
    net = config.spec.build(config.seed)
    preprocess = config.spec.preprocess
    layer = getattr(net, "whiten", None)
    if preprocess.whiten == "zca" and isinstance(layer, Whiten):
        found = moments.whitening(data.splits["train"], preprocess, preprocess.whiten)
        layer.mean.copy_(torch.from_numpy(found.mean))
        layer.matrix.copy_(torch.from_numpy(found.matrix))
    return net
