"""`train`: from a network's name and a data set to a run folder."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .. import weights
from ..classifier import pick_device
from ..data import Data
from ..data.loader import Feed
from ..errors import BadInput, UnknownName, UsageError
from ..memory.kept import kept_memory
from ..networks import NETWORKS
from ..paper import Recipe
from ..result import Result, this_machine, versions
from ..split import split
from . import boards, start
from . import run as folder
from .advice import advise
from .beginning import Begun, Wanted, begin, follow, fresh
from .checkpoint import Checkpoints, State
from .device import LAYOUT, name_of, private_random_state
from .evaluating.evaluation import loaders
from .finish import finish
from .loop import Training
from .processes import Processes, joined, own_device
from .progress import say
from .signals import StopWish
from .updating import optimisers
from .updating.averaging import Average
from .updating.groups import freeze
from .updating.schedule import length
from .updating.step import Stepper, settle


@dataclass(frozen=True)
class Options:
    """How a training runs. Only `device`, `compile` and `weights` change its result, the first two in the last bits."""

    device: str = "auto"  # or two, separated by a comma, for the two halves of `alexnet`
    workers: int | None = None  # loader processes; None: as many as pay for the data and the cores
    weights: str | Path | None = None  # start from these: a file, "torchvision" or "torchvision:NAME"
    progress: bool = True  # a bar on stderr, where that is a terminal
    save_seconds: float = 60.0  # at most this long between two checkpoints, a step's length apart
    compile: bool = False  # torch.compile
    gradients: bool = False  # write gradients.jsonl: the gradients' norms by layer, an epoch a line
    tensorboard: bool = False  # write the curves for TensorBoard too


def train(
    network: str,
    data: str | Path,
    out: Path,
    *,
    recipe: Recipe | None = None,
    seed: int | None = None,
    resume: bool = False,
    fold: tuple[int, int] | None = None,
    options: Options = Options(),
) -> Result:
    """Trains a network into the run folder `out` and evaluates its best checkpoint.

    `recipe` None is the network's own and `seed` None is 0; on a resume both are the run's. With `resume` a run that
    was stopped or killed goes on and ends with the same bits; a finished one gives its result; a missing one starts.
    `fold` (i, k) validates on the i-th of k parts of the training and validation images. Processes that torchrun
    started train together. Torch's global random state is put back. Raises UsageError, BadRecipe and BadData before
    anything is written; Stopped (after SIGTERM or SIGINT), NonFinite, SaveFailed and RunFailed leave a run that can be
    resumed.
    """
    out = Path(out)
    if network not in NETWORKS:
        raise UnknownName("network", network, NETWORKS, "`convatlas list` shows all")
    if not NETWORKS[network].classes:
        raise BadInput(f"{network} is a module and gives feature maps, not classes; train a network that is made of it")
    if options.workers is not None and options.workers < 0:
        raise UsageError(f"workers is {options.workers}; give 0 (load in this process) or more")
    if options.tensorboard:
        boards.require()
    devices = _devices(network, options.device)
    if len(devices) == 2 and recipe is not None:
        _refuse_on_two(recipe)
    wanted = Wanted(network, data, out, recipe, seed, options.weights, fold)
    with ExitStack() as stack:
        processes = stack.enter_context(joined(devices[-1]))
        stack.enter_context(private_random_state(*devices))
        stack.enter_context(kept_memory())
        wish = stack.enter_context(StopWish())
        begun, done = None, None
        if processes.first:
            begun = begin(wanted, resume)
            stack.enter_context(Checkpoints(out).lock())
            done = folder.training_result(out)
        done = processes.told(done)
        if done is not None:
            say(f"{out} is finished; its result of {done.when} stands")
            return done
        begun = begun or follow(out, data)
        training = _ready(out, begun, devices, processes, options, wish)
        training.go(options.progress)
        return finish(training)


def _devices(network: str, given: str) -> list[torch.device]:
    """One device, or the two on which alexnet's towers train."""
    devices = [own_device(pick_device(part.strip())) for part in given.split(",")]
    if len(devices) > 2 or (len(devices) == 2 and network != "alexnet"):
        raise UsageError(
            f"--device {given} names {len(devices)} devices; only alexnet trains on two, one a tower; "
            "torchrun trains any network on several"
        )
    return devices


def _refuse_on_two(recipe: Recipe) -> None:
    """What goes by the names of layers, which the two halves do not have."""
    if recipe.average or recipe.freeze or recipe.layer_lr:
        raise UsageError("on two devices alexnet trains without average, freeze and layer_lr; use one --device")


def _ready(
    out: Path,
    begun: Begun,
    devices: list[torch.device],
    processes: Processes,
    options: Options,
    wish: StopWish,
) -> Training:
    """The training as its newest checkpoint, or its very start, has it; the log is cut back to that."""
    config, data, recipe = begun.config, begun.data, begun.config.recipe
    checkpoints = Checkpoints(out)
    found = None
    if processes.first:
        checkpoints.clean()
        found = checkpoints.newest()
    found = processes.told(found)
    step, state = found if found is not None else (None, State(parts=recipe.parts))
    net = _network(out, begun, step, devices)
    settle(net, recipe)
    freeze(net, recipe)
    feed = _feed(config, data, options, processes)
    stepper = Stepper(
        net, optimisers.make(net, recipe), recipe, feed.plan, devices[-1], processes, config.seed,
        len(config.spec.classes), _class_weights(config, data, devices[-1]), options.compile, state.parts
    )  # fmt: skip
    average = Average(net, recipe.average) if recipe.average else None
    if step is not None:
        file = step / "optimiser.safetensors"
        optimisers.restore(net, stepper.optimiser, weights.load(file), str(file))
        if average is not None:
            average = Average(net, recipe.average, weights.load(step / "model.safetensors"))
        if stepper.scaler is not None and state.scale is not None:
            known = stepper.scaler.state_dict()
            stepper.scaler.load_state_dict(known | {"scale": state.scale[0], "_growth_tracker": state.scale[1]})
    if processes.first:
        if step is not None:
            checkpoints.point(state)
        _note_environment(out, devices, options.compile, processes)
        folder.cut_back(out / "log.jsonl", state.log_bytes)
        folder.cut_back(out / "gradients.jsonl", state.gradient_bytes)
    board = boards.Board(out, state.step) if options.tensorboard and processes.first else None
    training = Training(
        out, config, data, feed, length(recipe, feed.steps), stepper, state, checkpoints, wish, average,
        options.save_seconds, options.gradients, board
    )  # fmt: skip
    _announce(config, training)
    return training


def _network(out: Path, begun: Begun, step: Path | None, devices: list[torch.device]) -> nn.Module:
    """The network with the weights of a checkpoint, or those that the run starts from, where it is to be trained."""
    config = begun.config
    net = begun.net or fresh(config, begun.data)
    if step is not None:
        file = step / "training.safetensors"
        file = file if file.exists() else step / "model.safetensors"
        weights.fill(net, weights.load(file), str(file))
    elif begun.net is None and config.start is not None:
        start.fill(net, start.read_again(out, config, config.start), config, config.start)
    if len(devices) == 2:
        _refuse_on_two(config.recipe)
        return split(net, (devices[0], devices[1])).to(memory_format=LAYOUT)
    return net.to(devices[0]).to(memory_format=LAYOUT)


def _feed(config: folder.RunConfig, data: Data, options: Options, processes: Processes) -> Feed:
    recipe, train = config.recipe, data.splits["train"]
    return Feed(
        train,
        config.spec.preprocess,
        recipe.augment,
        batch=recipe.batch,
        seed=config.seed,
        workers=loaders(train, options.workers),
        colours=config.colours,
        balanced=recipe.balance == "sampler",
        share=processes.share,
    )


def _class_weights(config: folder.RunConfig, data: Data, device: torch.device) -> torch.Tensor | None:
    """Each class's weight in the loss: the inverse of its share, 1 on average over the training images."""
    if config.recipe.balance != "weights":
        return None
    counts = torch.from_numpy(data.splits["train"].counts()).float()
    shares = counts.sum() / ((counts > 0).sum() * counts)
    return shares.where(counts > 0, torch.zeros(())).to(device)


def _note_environment(out: Path, devices: list[torch.device], compiled: bool, processes: Processes) -> None:
    machine = this_machine(" and ".join(map(name_of, devices)), torch.get_num_threads())
    layout = str(LAYOUT).removeprefix("torch.")
    here = folder.Environment.now(machine, versions(), layout, compiled, processes.of)
    first = folder.add_environment(out, here)
    different = first.differences(here) if first else ""
    if different:
        say(f"the last bits may differ from an undisturbed run's: {different}")


def _announce(config: folder.RunConfig, training: Training) -> None:
    sizes = ", ".join(f"{n:,} {name}" for name, n in config.data.images.items())
    say(f"{config.spec.network} on {config.data.name} ({sizes} images), recipe {config.recipe_name}, {training.length}")
    if training.state.step:
        say(f"goes on after step {training.state.step:,}")
        return
    for sentence in advise(
        training.net,
        config.recipe,
        training.length,
        training.data.splits["train"].counts().tolist(),
        config.spec,
        None if config.start is None else config.start.path,
        training.data.warnings,
    ):
        say(sentence)
