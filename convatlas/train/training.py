"""`train`: from a network's name and a data set to a run folder."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .. import files, weights
from ..classifier import Spec, pick_device
from ..data import Data, Preprocess, augment, open_data, statistics
from ..data.parallel import cores
from ..errors import BadData, BadInput, BadRecipe, UnknownName, UsageError
from ..networks import NETWORKS, RECIPES, recipe_for
from ..paper import Recipe
from ..record import to_json
from ..result import Result, this_machine, versions
from . import run as folder
from . import start
from .checkpoint import Checkpoints, State, restore_optimiser
from .device import LAYOUT, name_of, private_random_state
from .evaluation import loaders
from .finish import finish
from .loop import Training
from .progress import say
from .schedule import check_recipe
from .signals import StopWish


@dataclass(frozen=True)
class Options:
    """How a training runs; nothing here changes its result but `device` and `weights`."""

    device: str = "auto"
    workers: int | None = None  # loader processes; None: as many as pay for the data and the cores
    weights: str | Path | None = None  # start from these: a file, "torchvision" or "torchvision:NAME"
    progress: bool = True  # a bar on stderr, where that is a terminal
    save_seconds: float = 60.0  # at most this long between two checkpoints, a step's length apart


def train(
    network: str,
    data: str | Path,
    out: Path,
    *,
    recipe: Recipe | None = None,
    seed: int | None = None,
    resume: bool = False,
    options: Options = Options(),
) -> Result:
    """Trains a network into the run folder `out` and evaluates its best checkpoint.

    `recipe` None is the network's own and `seed` None is 0; on a resume both are the run's. With `resume` a run that
    was stopped or killed goes on and ends with the same bits; a finished one gives its result; a missing one starts.
    Torch's global random state is put back. Raises UsageError, BadRecipe and BadData before anything is written;
    Stopped (after SIGTERM or SIGINT), NonFinite, SaveFailed and RunFailed leave a run that can be resumed.
    """
    out = Path(out)
    if network not in NETWORKS:
        raise UnknownName("network", network, NETWORKS, "`convatlas list` shows all")
    if not NETWORKS[network].classes:
        raise BadInput(f"{network} is a module and gives feature maps, not classes; train a network that is made of it")
    if options.workers is not None and options.workers < 0:
        raise UsageError(f"workers is {options.workers}; give 0 (load in this process) or more")
    device = pick_device(options.device)
    folder.refuse_taken(out, resume)
    known = folder.read_config(out) if folder.state_of(out) == "run" else None
    if known is not None:
        settled = recipe or known.recipe
        seed = known.seed if seed is None else seed
        folder.refuse_other_recipe(out, known, network, settled, seed)
    else:
        settled = recipe or recipe_for(network)
        seed = seed or 0
        check_recipe(settled)
    opened = _open(data, settled)
    with private_random_state(device):
        if known is None:
            if resume:
                say(f"nothing to resume in {out}; a new run starts")
            augment.parse(settled.augment)
            begun = None if options.weights is None else start.read(network, options.weights)
            known = _new_config(network, opened, data, settled, seed, begun and begun[0])
            net: nn.Module | None = known.spec.build(seed)
            if begun is not None and net is not None:
                start.fill(net, begun[1], known, begun[0])
            _create(out, known)
        else:
            folder.refuse_other_data(out, known, folder.describe(opened, data), opened.classes)
            start.refuse_other(out, known, options.weights)
            net = None
        with Checkpoints(out).lock(), StopWish() as wish:
            done = folder.training_result(out)
            if done is not None:
                say(f"{out} is finished; its result of {done.when} stands")
                return done
            training = _ready(out, known, opened, net, device, options, wish)
            training.go(options.progress)
            return finish(training)


def _open(data: str | Path, recipe: Recipe) -> Data:
    # The run's seed does not choose the splits: runs of several seeds must be tested on the same images.
    opened = open_data(data, validation=recipe.validation)
    if not len(opened.splits.get("train", ())):
        raise BadData(f"{opened.source} has no training images")
    if recipe.schedule == "plateau" and "validation" not in opened.splits:
        raise BadRecipe(
            "the recipe's schedule is plateau, which needs validation images, and there are none; "
            "use --set validation=0.1 or --set schedule=constant"
        )
    return opened


def _new_config(
    network: str, data: Data, source: str | Path, recipe: Recipe, seed: int, origin: folder.Start | None
) -> folder.RunConfig:
    _, height, width = NETWORKS[network].input
    if recipe.size is not None:
        height = width = recipe.size
    bare = Preprocess(data.channels, height, width, fit=recipe.fit, crop=recipe.crop)
    mean, std = statistics(data.splits["train"], bare, workers=cores())
    preprocess = Preprocess(data.channels, height, width, fit=recipe.fit, crop=recipe.crop, mean=mean, std=std)
    name = folder.name_recipe(recipe, RECIPES, NETWORKS[network].recipe)
    spec = Spec(network, data.classes, preprocess)
    return folder.RunConfig(spec, recipe, name, folder.describe(data, source), seed, origin)


def _create(out: Path, config: folder.RunConfig) -> None:
    """Makes the folder; config.json makes it a run, and with it alone the run can be trained from the start."""
    Checkpoints(out).make()
    files.write(out / "config.json", to_json(config, indent=1) + "\n")


def _ready(
    out: Path,
    config: folder.RunConfig,
    data: Data,
    net: nn.Module | None,
    device: torch.device,
    options: Options,
    wish: StopWish,
) -> Training:
    """The training as its newest checkpoint, or its very start, has it; the log is cut back to that.

    `net` is a new run's, with its starting weights; None is for a run that goes on.
    """
    checkpoints = Checkpoints(out)
    checkpoints.clean()
    found = checkpoints.newest()
    fresh, net = net is not None, net or config.spec.build(config.seed)
    if found is not None:
        file = found[0] / "model.safetensors"
        weights.fill(net, weights.load(file), str(file))
    elif config.start is not None and not fresh:
        start.fill(net, start.read_again(out, config, config.start), config, config.start)
    net = net.to(device).to(memory_format=LAYOUT)
    recipe = config.recipe
    optimiser = torch.optim.SGD(net.parameters(), recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    state = State()
    if found is not None:
        state = found[1]
        file = found[0] / "optimiser.safetensors"
        restore_optimiser(net, optimiser, weights.load(file), str(file))
        checkpoints.point(state)
    _note_environment(out, device)
    folder.cut_back(out / "log.jsonl", state.log_bytes)
    workers = loaders(data.splits["train"], options.workers)
    training = Training(
        out, config, data, net, optimiser, state, checkpoints, device, workers, options.save_seconds, wish
    )
    _announce(config, training)
    return training


def _note_environment(out: Path, device: torch.device) -> None:
    machine = this_machine(name_of(device), torch.get_num_threads())
    here = folder.environment(machine, versions(), str(LAYOUT).removeprefix("torch."))
    first = folder.add_environment(out, here)
    different = first.differences(here) if first else ""
    if different:
        say(f"the last bits may differ from an undisturbed run's: {different}")


def _announce(config: folder.RunConfig, training: Training) -> None:
    sizes = ", ".join(f"{n:,} {name}" for name, n in config.data.images.items())
    say(f"{config.spec.network} on {config.data.name} ({sizes} images), recipe {config.recipe_name}, {training.length}")
    if training.state.step:
        say(f"goes on after step {training.state.step:,}")
