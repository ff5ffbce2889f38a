"""How long a recipe trains and with which learning rate at each step; no torch."""

from dataclasses import dataclass, replace
from math import cos, pi

from ...paper import Recipe

SURE = 1000  # ours: images after which a running epoch's share of errors is trusted; it is then 1.3 % off (one sigma)


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
    """What the rate depends on beside the step; whole in every checkpoint, so that a resumed run has the same rates."""

    fewest: int | None = None  # errors that are watched, top-1, at the best epoch so far
    waited: int = 0  # epochs since then, or since the last drop
    drops: int = 0
    warmed: int | None = None  # finished steps when the training error ended the warm-up


class Schedule:
    """The learning rate at each step.

    steps: multiplied by `factor` from each of the recipe's `drops` on. plateau: multiplied by `factor` once `patience`
    epochs in a row brought no fewer errors, as AlexNet's and ResNet's authors did by hand (Krizhevsky et al. 2012,
    section 5: "when the validation error rate stopped improving"; He et al. 2015, section 3.4: "when the error
    plateaus"). polynomial: times (1 - step / steps)^power, Caffe's poly. exponential: multiplied by `factor` each
    `every`, a staircase, as in TF-slim. cosine: half a period down to 0 (Loshchilov and Hutter 2017, equation 5,
    without restarts).

    A warm-up only covers the first steps of that: the schedule counts from step 0 beneath it.
    """

    def __init__(self, recipe: Recipe, length: Length):
        self.recipe = recipe
        self.length = length
        unit = 1 if recipe.iterations is not None else length.steps_per_epoch
        self.dropped_at = [round(d * unit) for d in recipe.drops]
        self.every = max(1, round(recipe.every * unit))
        self.warm_up = round(recipe.warm_up * unit)

    def rate(self, step: int, plateau: Plateau) -> float:
        """The rate of the update after `step` finished ones."""
        if not self.warming(step, plateau):
            return self._scheduled(step, plateau)
        if self.recipe.warm_up_lr is not None:
            return self.recipe.warm_up_lr
        # From nothing before the first step, so that no step is wasted on a rate of 0.
        return self._scheduled(step, plateau) * (step + 1) / (self.warm_up + 1)

    def warming(self, step: int, plateau: Plateau) -> bool:
        """Whether the update after `step` finished ones belongs to the warm-up."""
        return step < (self.warm_up if plateau.warmed is None else plateau.warmed)

    def after_step(self, step: int, errors: int, images: int, plateau: Plateau) -> Plateau:
        """The memory after `step` finished updates, when the running epoch came to `errors` in `images`.

        The warm-up ends when the running epoch's share of errors is below the recipe's. It is looked at from 1,000
        images on and at an epoch's end: a first batch may be right by luck. Changes nothing where the recipe names no
        such error, or the warm-up is over.
        """
        bound = self.recipe.warm_up_error
        if bound is None or not self.warming(step, plateau):
            return plateau
        sure = images >= SURE or step % self.length.steps_per_epoch == 0
        return replace(plateau, warmed=step) if sure and errors < bound * images else plateau

    def after_epoch(self, validation_errors: int | None, training_errors: int, plateau: Plateau) -> Plateau:
        """The memory after an epoch. Without the watched errors (no validation images) it stays as it is."""
        errors = training_errors if self.recipe.watch == "training" else validation_errors
        if self.recipe.schedule != "plateau" or errors is None:
            return plateau
        if plateau.fewest is None or errors < plateau.fewest:
            return replace(plateau, fewest=errors, waited=0)
        if plateau.waited + 1 >= self.recipe.patience:
            return replace(plateau, waited=0, drops=plateau.drops + 1)
        return replace(plateau, waited=plateau.waited + 1)

    def _scheduled(self, step: int, plateau: Plateau) -> float:
        recipe = self.recipe
        done = min(1.0, step / self.length.steps)
        match recipe.schedule:
            case "constant":
                return recipe.lr
            case "polynomial":
                return recipe.lr * (1 - done) ** recipe.power
            case "exponential":
                return recipe.lr * recipe.factor ** (step // self.every)
            case "cosine":
                return recipe.lr * (1 + cos(pi * done)) / 2
        drops = plateau.drops if recipe.schedule == "plateau" else sum(step >= at for at in self.dropped_at)
        rate = recipe.lr
        for _ in range(drops):  # not a power: the product is what a rate multiplied drop by drop comes to
            rate *= recipe.factor
        return rate
