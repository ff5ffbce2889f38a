"""Which recipes can be trained: a line for every value and every combination that cannot; no torch."""

from collections.abc import Callable
from itertools import pairwise
from math import isfinite
from numbers import Real
from typing import get_args, get_type_hints

from ..errors import BadRecipe
from ..paper import Recipe

Rule = tuple[str, Callable[[float], bool], str]

# Fields with None mean "none given" by it, which is always allowed. A comparison with NaN is false, so NaN is refused.
NUMBERS: tuple[Rule, ...] = (
    ("epochs", lambda v: v > 0 and isfinite(v), "a training has more than 0 epochs"),
    ("iterations", lambda v: v >= 1, "a training has at least 1 iteration"),
    ("batch", lambda v: v >= 1, "a batch has at least 1 image"),
    ("parts", lambda v: v >= 1, "a batch is worked off in at least 1 part"),
    ("lr", lambda v: v > 0 and isfinite(v), "a learning rate is above 0"),
    ("momentum", lambda v: 0 <= v < 1, "momentum lies from 0 to below 1"),
    ("decay", lambda v: 0 <= v < 1, "the decay of the squared gradients' mean lies from 0 to below 1"),
    ("epsilon", lambda v: v > 0 and isfinite(v), "what is added to the root is above 0"),
    ("weight_decay", lambda v: v >= 0 and isfinite(v), "weight decay is 0 or more"),
    ("bias_lr", lambda v: v >= 0 and isfinite(v), "biases learn 0 or more times as fast"),
    ("clip", lambda v: v > 0 and isfinite(v), "the largest norm of a gradient is above 0"),
    ("factor", lambda v: v > 0 and isfinite(v), "the rate is multiplied by a factor above 0"),
    ("patience", lambda v: v >= 1, "it is at least 1 epoch"),
    ("every", lambda v: v > 0 and isfinite(v), "the rate falls each time more than 0 has passed"),
    ("power", lambda v: v > 0 and isfinite(v), "the power is above 0"),
    ("warm_up", lambda v: v >= 0 and isfinite(v), "a warm-up lasts 0 or more"),
    ("warm_up_lr", lambda v: v > 0 and isfinite(v), "a learning rate is above 0"),
    ("warm_up_error", lambda v: 0 < v <= 1, "the error that ends the warm-up is a share above 0 and at most 1"),
    ("dropout", lambda v: 0 <= v < 1, "dropout is a share from 0 to below 1"),
    ("label_smoothing", lambda v: 0 <= v < 1, "label smoothing is a share from 0 to below 1"),
    ("head_weight", lambda v: v >= 0 and isfinite(v), "an auxiliary head's weight is 0 or more"),
    ("average", lambda v: 0 <= v < 1, "the running average's decay lies from 0 to below 1"),
    ("statistics", lambda v: v >= 0, "batch norm's statistics are taken from 0 or more images"),
    ("size", lambda v: v >= 1, "an input is at least 1 pixel wide"),
    ("crop", lambda v: 0 < v <= 1, "the centre crop keeps a share above 0 and at most 1"),
    ("validation", lambda v: 0 <= v < 1, "the validation images are a share from 0 to below 1"),
)
WHOLE = ("iterations", "batch", "parts", "patience", "statistics", "size")
WORDS = ("optimiser", "decayed", "schedule", "watch", "balance", "precision", "fit", "whiten")


def check_recipe(recipe: Recipe) -> None:
    """Raises BadRecipe for the first field that no training can have.

    The names of augmentations, test views and layers are checked by those who know them.
    """
    kinds = get_type_hints(Recipe)
    for field in WORDS:
        value, known = getattr(recipe, field), get_args(kinds[field])
        if value not in known:
            raise BadRecipe(f"recipe field {field} is {value!r}; it can be {', '.join(known)}")
    for field, holds, rule in NUMBERS:
        value = getattr(recipe, field)
        if value is None and isinstance(None, kinds[field]):
            continue
        if not isinstance(value, Real) or isinstance(value, bool):
            raise BadRecipe(f"recipe field {field} is {value!r}; it is a number")
        if not holds(float(value)):
            raise BadRecipe(f"recipe field {field} is {value}; {rule}")
        if field in WHOLE and float(value) % 1:
            raise BadRecipe(f"recipe field {field} is {value}; it is a whole number")
    _check_length(recipe)
    _check_schedule(recipe)
    _check_warm_up(recipe)
    _check_together(recipe)


def _check_length(recipe: Recipe) -> None:
    if (recipe.epochs is None) == (recipe.iterations is None):
        given = "neither epochs nor iterations" if recipe.epochs is None else "both epochs and iterations"
        fix = "--set epochs=20" if recipe.epochs is None else "--set iterations=none"
        raise BadRecipe(f"the recipe gives {given}; give one of them, for example {fix}")


def _check_schedule(recipe: Recipe) -> None:
    drops, schedule = recipe.drops, recipe.schedule
    if schedule == "steps" and not drops:
        raise BadRecipe(
            "the recipe's schedule is steps, but drops is empty; say when the rate drops: --set drops=30,60"
        )
    if any(not (d > 0 and isfinite(d)) for d in drops) or any(a >= b for a, b in pairwise(drops)):
        listed = ",".join(f"{d:g}" for d in drops)
        raise BadRecipe(f"recipe field drops is {listed}; its places are above 0 and rise, for example 30,60")
    if schedule in ("steps", "plateau", "exponential") and recipe.factor >= 1:
        raise BadRecipe(
            f"recipe field factor is {recipe.factor}, and the rate would not fall; give one between 0 and 1"
        )


def _check_warm_up(recipe: Recipe) -> None:
    whole, unit = (recipe.epochs, "epochs") if recipe.iterations is None else (recipe.iterations, "iterations")
    for field in ("warm_up_lr", "warm_up_error"):
        if getattr(recipe, field) is not None and not recipe.warm_up:
            raise BadRecipe(
                f"recipe field {field} is {getattr(recipe, field)}, but warm_up is 0; "
                f"say how many {unit} the warm-up lasts at most, for example --set warm_up=5, or --set {field}=none"
            )
    # A warm-up that the training error ends may have no end of its own.
    if whole is not None and recipe.warm_up >= whole and recipe.warm_up_error is None:
        raise BadRecipe(
            f"the warm-up of {recipe.warm_up:g} {unit} is not shorter than the training of {whole:g}; "
            "use a shorter one, --set warm_up=0 for none"
        )


def _check_together(recipe: Recipe) -> None:
    """Fields that are fine alone and not together."""
    if recipe.parts > recipe.batch:
        raise BadRecipe(
            f"recipe field parts is {recipe.parts}, but a batch has only {recipe.batch} "
            f"image{'s' * (recipe.batch != 1)}; use at most as many parts"
        )
    if recipe.optimiser == "nesterov" and recipe.momentum == 0:
        raise BadRecipe("the optimiser is nesterov, which needs momentum, and momentum is 0; use --set optimiser=sgd")
