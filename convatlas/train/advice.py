"""What is likely to go wrong with a training, said before its first step; nothing here stops one.

Each sentence says what was found, why it matters, with figures, and what to do. No paper's own recipe, with its network
at its own size and batch, gets any.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from torch import nn

from ..classifier import Spec
from ..layers import WithHeads
from ..networks import NETWORKS, RECIPES
from ..paper import Recipe
from .updating.averaging import NORMS as BATCH_NORMS
from .updating.groups import NORMS
from .updating.schedule import Length

SETS = {"ImageNet": 1_281_167, "CIFAR-10": 50_000, "SVHN": 604_388, "MNIST": 60_000}  # training images
HIGH = 3  # ours: times the paper's rate at which a network without normalisation mostly ends in NaN
MOST_ADAMW = 0.01  # ours: ten times the rate of 0.001 that Adam's authors suggest
LARGE_BATCH = 1024  # Goyal et al. (2017, arXiv:1706.02677) found that larger ones need a warm-up of 5 epochs
MOST_EPOCHS = 1000  # ours: twice the longest training of a paper here
UNEVEN = 10  # ours: times as many images of one class as of another
DIGITS = frozenset("0123456789")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # torchvision's weights expect these
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # from -1 to 1, as TensorFlow's Inception
FROM_TENSORFLOW = ("googlenet", "inception_v3")  # torchvision's, whose weights came from there


@dataclass(frozen=True)
class _Case:
    """One training, and the recipe that its own was made from."""

    net: nn.Module
    recipe: Recipe
    length: Length
    counts: Sequence[int]
    spec: Spec
    start: str | None

    @property
    def origin(self) -> Recipe | None:
        """The network's own recipe where this one was made from it, else the first of its source, or None."""
        own = RECIPES.get(NETWORKS[self.spec.network].recipe)
        made = (self.recipe.where, self.recipe.dataset)
        candidates = ([] if own is None else [own]) + list(RECIPES.values())
        return next((r for r in candidates if (r.where, r.dataset) == made), None)

    @property
    def gradient_descent(self) -> bool:
        return self.recipe.optimiser in ("sgd", "nesterov")

    @property
    def whole(self) -> float:
        """The length in the recipe's unit."""
        return self.length.steps if self.recipe.iterations is not None else self.length.epochs

    @property
    def unit(self) -> str:
        return "epochs" if self.recipe.iterations is None else "iterations"

    def has(self, kinds: type | tuple[type, ...]) -> bool:
        return any(isinstance(module, kinds) for module in self.net.modules())


def advise(
    net: nn.Module,
    recipe: Recipe,
    length: Length,
    counts: Sequence[int],
    spec: Spec,
    start: str | None,
    data_warnings: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Sentences to be said before the first step, the data's first.

    `counts` are training images of each class of `spec`, `start` is where the weights come from (None: fresh ones).
    """
    case = _Case(net, recipe, length, counts, spec, start)
    return (*data_warnings, *chain.from_iterable(check(case) for check in CHECKS))


def _rate(case: _Case) -> Iterator[str]:
    """A rate that a network without normalisation cannot stand, that AdamW cannot, or that undoes given weights."""
    recipe, name = case.recipe, case.spec.network
    own = RECIPES.get(NETWORKS[name].recipe)
    if recipe.optimiser == "adamw" and recipe.lr > MOST_ADAMW:
        yield (
            f"a rate of {recipe.lr:g} is far above what adamw is used with (0.001), since its steps do not shrink with "
            "the gradient; use --set lr=0.001"
        )
    if own is None or not case.gradient_descent:
        return
    fitting = own.lr * max(1.0, recipe.batch / own.batch)
    if recipe.lr > HIGH * fitting and not case.has(NORMS):
        yield (
            f"{name} has no normalisation layers, and the rate of {recipe.lr:g} is {recipe.lr / own.lr:.3g} times its "
            f"paper's {own.lr:g} for a batch of {own.batch}: it is likely to end in NaN or to learn nothing; "
            f"use --set lr={fitting:g}"
        )
    origin = case.origin
    if case.start is not None and origin is not None and recipe.lr >= origin.lr and origin.where != "ours":
        yield (
            f"the rate of {recipe.lr:g} was chosen for fresh weights and soon undoes those from {case.start}; "
            f"a tenth is usual, --set lr={recipe.lr / 10:g}"
        )


def _batch(case: _Case) -> Iterator[str]:
    """A batch that the rate was not chosen for, one that needs a warm-up, or one too small for batch norm."""
    recipe, origin = case.recipe, case.origin
    ratio = 1.0 if origin is None else recipe.batch / origin.batch
    same = origin is not None and (recipe.lr, recipe.optimiser) == (origin.lr, origin.optimiser)
    if origin is not None and same and case.start is None and not 0.5 < ratio < 2:
        yield (
            f"the rate of {recipe.lr:g} was chosen for batches of {origin.batch}, and these have {recipe.batch}; "
            f"in proportion (Goyal et al. 2017) it would be --set lr={origin.lr * ratio:.3g}"
        )
    if recipe.batch > LARGE_BATCH and not recipe.warm_up and case.gradient_descent:
        warm = 5 if recipe.iterations is None else 5 * case.length.steps_per_epoch
        if warm < case.whole:
            yield (
                f"a batch of {recipe.batch:,} has no warm-up, without which batches above {LARGE_BATCH:,} learn worse "
                f"(Goyal et al. 2017 rise over 5 epochs); use --set warm_up={warm}"
            )
    part = recipe.batch // recipe.parts
    if part == 1 and case.has(BATCH_NORMS):
        given = "a batch" if recipe.batch == 1 else "a part of a batch"
        fix = "--set batch=16" if recipe.batch == 1 else f"--set parts={max(1, recipe.batch // 8)}"
        yield (
            f"{given} is 1 image, from which batch norm takes its mean and variance, so that training and "
            f"evaluation see different networks; use {fix}"
        )


def _schedule(case: _Case) -> Iterator[str]:
    """A rate that was to fall, and does not within the training."""
    recipe, whole, unit = case.recipe, case.whole, case.unit
    if recipe.schedule == "steps":
        late = [d for d in recipe.drops if d >= whole]
        if late:
            some = f"{len(late)} of {len(recipe.drops)} falls of the rate never come"
            what = "the rate never falls" if len(late) == len(recipe.drops) else some
            yield (
                f"{what}: the training ends after {whole:,.10g} {unit}, before the drops at {_listed(late)}; "
                f"use --set drops={_listed(_moved(case))}"
            )
    if recipe.schedule == "exponential" and recipe.every >= whole:
        yield (
            f"the rate never falls: it would each {recipe.every:,.10g} {unit}, and the training has {whole:,.10g}; "
            f"use --set every={whole / 20:.3g}, or --set schedule=cosine"
        )
    if recipe.schedule == "plateau" and recipe.patience >= case.length.epochs:
        yield (
            f"the rate never falls: it would after {recipe.patience} epochs without a better error, and the training "
            f"has {case.length.epochs:.3g}; use --set patience={max(1, int(case.length.epochs / 4))}, "
            "or --set schedule=cosine"
        )


def _moved(case: _Case) -> list[float]:
    """The drops in the same proportion of this training as of the recipe that they were made for."""
    origin, recipe = case.origin, case.recipe
    length = None if origin is None else (origin.epochs if recipe.iterations is None else origin.iterations)
    if origin is None or length is None or origin.drops != recipe.drops:
        shares: list[float] = [0.5, 0.75]
    else:
        shares = [d / length for d in origin.drops]
    whole = [round(s * case.whole) for s in shares]
    fits = all(0 < a < b < case.whole for a, b in zip(whole, [*whole[1:], case.whole - 0.5], strict=True))
    return list(whole) if fits else [round(s * case.whole, 3) for s in shares]


def _long(case: _Case) -> Iterator[str]:
    """Iterations of a large set on a small one, and epochs that do not end."""
    recipe, epochs = case.recipe, case.length.epochs
    images = sum(case.counts)
    if recipe.iterations is not None and epochs > MOST_EPOCHS:
        made = "each is seen so often that it is learnt by heart"
        fix = "--set iterations=none --set epochs=90"
        if recipe.dataset in SETS:
            made = f"the recipe was made for {recipe.dataset}'s {SETS[recipe.dataset]:,}"
            fix = " ".join(f"--set {field}={value}" for field, value in _in_epochs(recipe))
        yield (
            f"{recipe.iterations:,} iterations are {epochs:,.0f} epochs of these {images:,} images; {made}; use {fix}"
        )
    if epochs < 1:
        seen = min(images, case.length.steps * recipe.batch)
        least = "epochs=1" if recipe.iterations is None else f"iterations={case.length.steps_per_epoch}"
        yield (
            f"the training ends after {epochs:.2g} epochs: {images - seen:,} of {images:,} images are never seen; "
            f"use --set {least} or more"
        )


def _in_epochs(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """What a recipe's iterations are in epochs of the set that it was made for."""
    per_epoch = SETS[recipe.dataset] * (1 - recipe.validation * (recipe.dataset != "ImageNet")) / recipe.batch
    yield "iterations", "none"
    yield "epochs", f"{(recipe.iterations or 0) / per_epoch:.3g}"
    if recipe.schedule == "steps":
        yield "drops", ",".join(f"{d / per_epoch:.3g}" for d in recipe.drops)
    if recipe.schedule == "exponential":
        yield "every", f"{recipe.every / per_epoch:.3g}"
    if recipe.warm_up:
        yield "warm_up", f"{recipe.warm_up / per_epoch:.3g}"


def _pixels(case: _Case) -> Iterator[str]:
    """Input that is not normalised, or otherwise than given weights expect."""
    mean, std = case.spec.preprocess.mean, case.spec.preprocess.std
    if set(mean) == {0.0} and set(std) == {1.0} and case.recipe.whiten == "none":
        yield (
            "the images are not normalised (mean 0, deviation 1): all pixels are from 0 to 1, which slows the first "
            "layer's learning; use the training images' mean and deviation, as `convatlas train` does"
        )
    if case.start is None or not case.start.startswith("torchvision") or len(mean) != 3:
        return
    foreign = NETWORKS[case.spec.network].foreign
    expected = HALVES if foreign is not None and foreign.name in FROM_TENSORFLOW else IMAGENET
    moved = max(abs(m - e) / d for m, e, d in zip(mean, expected[0], expected[1], strict=True))
    scaled = max(max(s / d, d / s) for s, d in zip(std, expected[1], strict=True))
    if moved > 0.5 or scaled > 1.5:
        yield (
            f"{case.start} expects pixels with mean {_row(expected[0])} and deviation {_row(expected[1])}, and these "
            f"have {_row(mean)} and {_row(std)}: its first layers must learn again; do not freeze them, and give it a "
            "few more epochs"
        )


def _size(case: _Case) -> Iterator[str]:
    """Images far from the size that the network was made for."""
    own, name = NETWORKS[case.spec.network].input[1:], case.spec.network
    here = (case.spec.preprocess.height, case.spec.preprocess.width)
    given = f"{here[0]}x{here[1]}" if here[0] != here[1] else f"{here[0]}"
    if min(own) >= 128 and min(here) * 4 <= min(own):
        yield (
            f"{name} was made for images of {own[0]} and gets {given}: its layers make them up to 32 times smaller, so "
            "that little is left before the classifier; use a larger --set size= or a network whose name ends in _cifar"
        )
    if max(own) <= 64 and max(here) >= 4 * max(own):
        times = here[0] * here[1] / (own[0] * own[1])
        yield (
            f"{name} was made for images of {own[0]} and gets {given}: a step costs about {times:.0f} times as much, "
            f"and its field sees less of each; use --set size={own[0]} or a network for large images"
        )


def _classes(case: _Case) -> Iterator[str]:
    """Mirrored digits, and uneven classes."""
    names = case.spec.classes
    if "flip" in (a.strip() for a in case.recipe.augment) and len(names) > 1 and DIGITS.issuperset(names):
        yield (
            f"the classes are {', '.join(sorted(names))}, and flip mirrors half of the images; a mirrored 2 or 7 is no "
            "digit: if these are digits, take flip out of --set augment="
        )
    known = [(n, name) for n, name in zip(case.counts, names, strict=False) if n]
    if case.recipe.balance != "none" or not known:
        return
    (fewest, rare), (most, common) = min(known), max(known)
    if most > UNEVEN * fewest:
        yield (
            f"the classes are uneven: {common} has {most:,} training images and {rare} {fewest:,}, so that an error on "
            f"{rare} counts {most / fewest:.0f} times less; use --set balance=weights or --set balance=sampler"
        )


def _idle(case: _Case) -> Iterator[str]:
    """Fields that do nothing for this network, or work against each other."""
    recipe, name = case.recipe, case.spec.network
    heads = [m for m in case.net.modules() if isinstance(m, WithHeads) and m.heads]
    rows: tuple[tuple[str, bool, str, str], ...] = (
        ("dropout", case.has((nn.Dropout, nn.Dropout2d)), "dropout layers", "none"),
        ("head_weight", bool(heads), "auxiliary heads", "none"),
        ("statistics", case.has(BATCH_NORMS), "batch norm", "0"),
    )
    for field, useful, missing, off in rows:
        if getattr(recipe, field) and not useful:
            yield (
                f"{field} is {getattr(recipe, field):g} and does nothing, since {name} has no {missing}; "
                f"--set {field}={off} says so"
            )
    if heads and recipe.head_weight == 0:
        yield (
            f"head_weight is 0, so that the auxiliary heads of {name} ({', '.join(heads[0].heads)}) are computed and "
            "help nothing; use --set head_weight=none for the network's own weight"
        )
    mixing = [a for a in recipe.augment if a.split()[0] in ("mixup", "cutmix")]
    if mixing and recipe.label_smoothing:
        yield (
            f"{mixing[0]} and label_smoothing {recipe.label_smoothing:g} both soften the labels, together often too "
            "much; use --set label_smoothing=0"
        )


CHECKS: tuple[Callable[[_Case], Iterator[str]], ...] = (
    _rate,
    _batch,
    _schedule,
    _long,
    _pixels,
    _size,
    _classes,
    _idle,
)


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{v:.10g}" for v in values)


def _row(values: Sequence[float]) -> str:
    return ", ".join(f"{v:.3f}" for v in values)
