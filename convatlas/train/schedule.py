"""How long a recipe trains and with which learning rate at each step; no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

from ..errors import BadRecipe
from ..paper import Recipe

SCHEDULES = ("constant", "steps", "plateau")
FITS = ("crop", "pad", "stretch")


def check_recipe(recipe: Recipe) -> None:
    """Raises BadRecipe for the first field that no training can have."""
    rules: tuple[tuple[str, Callable[[float], bool], str], ...] = (
        ("batch", lambda v: v >= 1, "a batch has at least 1 image"),
        ("lr", lambda v: v > 0 and isfinite(v), "a learning rate is above 0"),
        ("momentum", lambda v: 0 <= v < 1, "momentum lies from 0 to below 1"),
        ("weight_decay", lambda v: v >= 0 and isfinite(v), "weight decay is 0 or more"),
        ("epochs", lambda v: v is None or (v > 0 and isfinite(v)), "a training has more than 0 epochs"),
        ("iterations", lambda v: v is None or v >= 1, "a training has at least 1 iteration"),
        ("size", lambda v: v is None or v >= 1, "an input is at least 1 pixel wide"),
        ("crop", lambda v: 0 < v <= 1, "the centre crop keeps a share above 0 and at most 1"),
        ("validation", lambda v: 0 <= v < 1, "the validation images are a share from 0 to below 1"),
    )
    for field, holds, rule in rules:
        if not holds(getattr(recipe, field)):
            raise BadRecipe(f"recipe field {field} is {getattr(recipe, field)}; {rule}")
    for field, value, known in (("schedule", recipe.schedule, SCHEDULES), ("fit", recipe.fit, FITS)):
        if value not in known:
            raise BadRecipe(f"recipe field {field} is {value!r}; it can be {', '.join(known)}")
    _check_length(recipe)
    _check_schedule(recipe)


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
    if schedule != "constant" and not 0 < recipe.factor < 1:
        raise BadRecipe(f"recipe field factor is {recipe.factor}; the rate is multiplied by a factor between 0 and 1")
    if schedule == "plateau" and recipe.patience < 1:
        raise BadRecipe(f"recipe field patience is {recipe.patience}; it is at least 1 epoch")


@dataclass(frozen=True)
class Length:
    """A training's length. One step is one batch, which the papers call an iteration."""

    steps: int
    steps_per_epoch: int

    @property
    def epochs(self) -> float:
        return self.steps / self.steps_per_epoch

    def __str__(self) -> str:
        """ "1,200 iterations (10 epochs of 120)"."""
        epochs = f"{self.epochs:.4g} epoch{'s' * (self.epochs != 1)}"
        return f"{self.steps:,} iteration{'s' * (self.steps != 1)} ({epochs} of {self.steps_per_epoch:,})"


def length(recipe: Recipe, per_epoch: int) -> Length:
    """The length in both units, for this many batches an epoch. A fraction of an epoch ends at the nearest step."""
    if recipe.iterations is not None:
        return Length(recipe.iterations, per_epoch)
    return Length(max(1, round((recipe.epochs or 0) * per_epoch)), per_epoch)


@dataclass
class Plateau:
    """What the plateau schedule remembers; whole in every checkpoint, so that a resumed run drops when it should."""

    fewest: int | None = None  # validation errors, top-1, at the best epoch so far
    waited: int = 0  # epochs since then, or since the last drop
    drops: int = 0


class Schedule:
    """The learning rate at each step.

    steps: multiplied by `factor` from each of the recipe's `drops` on. plateau: multiplied by `factor` once `patience`
    epochs in a row brought no fewer validation errors, as AlexNet's and ResNet's authors did by hand (Krizhevsky et al.
    2012, section 5: "when the validation error rate stopped improving"; He et al. 2015, section 3.4: "when the error
    plateaus").
    """

    def __init__(self, recipe: Recipe, steps_per_epoch: int):
        self.recipe = recipe
        unit = 1 if recipe.iterations is not None else steps_per_epoch
        self.dropped_at = [round(d * unit) for d in recipe.drops]

    def rate(self, step: int, plateau: Plateau) -> float:
        """The rate of the update after `step` finished ones."""
        drops = plateau.drops + sum(step >= at for at in self.dropped_at)
        rate = self.recipe.lr
        for _ in range(drops):  # not a power: the product is what a rate multiplied drop by drop comes to
            rate *= self.recipe.factor
        return rate

    def after_validation(self, errors: int, plateau: Plateau) -> Plateau:
        """The memory after an epoch that ended with this many validation errors."""
        if self.recipe.schedule != "plateau":
            return plateau
        if plateau.fewest is None or errors < plateau.fewest:
            return Plateau(errors, 0, plateau.drops)
        if plateau.waited + 1 >= self.recipe.patience:
            return Plateau(plateau.fewest, 0, plateau.drops + 1)
        return Plateau(plateau.fewest, plateau.waited + 1, plateau.drops)
