"""A line for every recipe that cannot be trained."""

import dataclasses
from typing import Any

import pytest

from convatlas.errors import BadRecipe
from convatlas.networks import RECIPES
from convatlas.paper import Recipe
from convatlas.train.checks import NUMBERS, WORDS, check_recipe

GOOD = Recipe(epochs=10)
BAD: list[tuple[dict[str, Any], str]] = [
    ({"batch": 0}, "recipe field batch is 0; a batch has at least 1 image"),
    ({"batch": "32"}, "recipe field batch is '32'; it is a number"),
    ({"batch": True}, "recipe field batch is True; it is a number"),
    ({"batch": 1.5}, "recipe field batch is 1.5; it is a whole number"),
    ({"batch": None}, "recipe field batch is None; it is a number"),
    ({"parts": 0}, "recipe field parts is 0; a batch is worked off in at least 1 part"),
    (
        {"batch": 4, "parts": 5},
        "recipe field parts is 5, but a batch has only 4 images; use at most as many parts",
    ),
    (
        {"batch": 1, "parts": 2},
        "recipe field parts is 2, but a batch has only 1 image; use at most as many parts",
    ),
    ({"lr": 0.0}, "recipe field lr is 0.0; a learning rate is above 0"),
    ({"lr": float("nan")}, "recipe field lr is nan; a learning rate is above 0"),
    ({"lr": float("inf")}, "recipe field lr is inf; a learning rate is above 0"),
    ({"momentum": 1.0}, "recipe field momentum is 1.0; momentum lies from 0 to below 1"),
    ({"decay": 1.0}, "recipe field decay is 1.0; the decay of the squared gradients' mean lies from 0 to below 1"),
    ({"epsilon": 0.0}, "recipe field epsilon is 0.0; what is added to the root is above 0"),
    ({"weight_decay": -1e-4}, "recipe field weight_decay is -0.0001; weight decay is 0 or more"),
    ({"bias_lr": -1.0}, "recipe field bias_lr is -1.0; biases learn 0 or more times as fast"),
    ({"clip": 0.0}, "recipe field clip is 0.0; the largest norm of a gradient is above 0"),
    ({"epochs": 0.0}, "recipe field epochs is 0.0; a training has more than 0 epochs"),
    ({"epochs": None, "iterations": 0}, "recipe field iterations is 0; a training has at least 1 iteration"),
    ({"factor": "0.1"}, "recipe field factor is '0.1'; it is a number"),
    ({"patience": 2.5}, "recipe field patience is 2.5; it is a whole number"),
    ({"size": 0}, "recipe field size is 0; an input is at least 1 pixel wide"),
    ({"crop": 0.0}, "recipe field crop is 0.0; the centre crop keeps a share above 0 and at most 1"),
    ({"validation": 1.0}, "recipe field validation is 1.0; the validation images are a share from 0 to below 1"),
    ({"dropout": 1.0}, "recipe field dropout is 1.0; dropout is a share from 0 to below 1"),
    ({"label_smoothing": 1.0}, "recipe field label_smoothing is 1.0; label smoothing is a share from 0 to below 1"),
    ({"head_weight": -0.3}, "recipe field head_weight is -0.3; an auxiliary head's weight is 0 or more"),
    ({"average": 1.0}, "recipe field average is 1.0; the running average's decay lies from 0 to below 1"),
    ({"statistics": -1}, "recipe field statistics is -1; batch norm's statistics are taken from 0 or more images"),
    (
        {"optimiser": "adam"},
        "recipe field optimiser is 'adam'; it can be sgd, nesterov, rmsprop, adamw",
    ),
    (
        {"schedule": "linear"},
        "recipe field schedule is 'linear'; it can be constant, steps, plateau, polynomial, exponential, cosine",
    ),
    ({"fit": "fill"}, "recipe field fit is 'fill'; it can be crop, pad, stretch"),
    ({"watch": "test"}, "recipe field watch is 'test'; it can be validation, training"),
    ({"decayed": "none"}, "recipe field decayed is 'none'; it can be all, weights"),
    ({"balance": "loss"}, "recipe field balance is 'loss'; it can be none, weights, sampler"),
    ({"precision": "fp64"}, "recipe field precision is 'fp64'; it can be fp32, bf16, fp16"),
    ({"whiten": "pca"}, "recipe field whiten is 'pca'; it can be none, gcn, zca"),
    (
        {"optimiser": "nesterov", "momentum": 0.0},
        "the optimiser is nesterov, which needs momentum, and momentum is 0; use --set optimiser=sgd",
    ),
    (
        {"epochs": None},
        "the recipe gives neither epochs nor iterations; give one of them, for example --set epochs=20",
    ),
    (
        {"iterations": 5},
        "the recipe gives both epochs and iterations; give one of them, for example --set iterations=none",
    ),
    (
        {"schedule": "steps"},
        "the recipe's schedule is steps, but drops is empty; say when the rate drops: --set drops=30,60",
    ),
    (
        {"schedule": "steps", "drops": (30, 20)},
        "recipe field drops is 30,20; its places are above 0 and rise, for example 30,60",
    ),
    (
        {"schedule": "steps", "drops": (0,)},
        "recipe field drops is 0; its places are above 0 and rise, for example 30,60",
    ),
    (
        {"schedule": "plateau", "factor": 1.0},
        "recipe field factor is 1.0, and the rate would not fall; give one between 0 and 1",
    ),
    (
        {"schedule": "exponential", "factor": 0.0},
        "recipe field factor is 0.0; the rate is multiplied by a factor above 0",
    ),
    ({"schedule": "plateau", "patience": 0}, "recipe field patience is 0; it is at least 1 epoch"),
    (
        {"schedule": "exponential", "every": 0.0},
        "recipe field every is 0.0; the rate falls each time more than 0 has passed",
    ),
    ({"schedule": "polynomial", "power": 0.0}, "recipe field power is 0.0; the power is above 0"),
    ({"warm_up": -1.0}, "recipe field warm_up is -1.0; a warm-up lasts 0 or more"),
    ({"warm_up": 1.0, "warm_up_lr": 0.0}, "recipe field warm_up_lr is 0.0; a learning rate is above 0"),
    (
        {"warm_up": 1.0, "warm_up_error": 1.5},
        "recipe field warm_up_error is 1.5; the error that ends the warm-up is a share above 0 and at most 1",
    ),
    (
        {"warm_up_lr": 0.01},
        "recipe field warm_up_lr is 0.01, but warm_up is 0; say how many epochs the warm-up lasts at most, "
        "for example --set warm_up=5, or --set warm_up_lr=none",
    ),
    (
        {"epochs": None, "iterations": 100, "warm_up_error": 0.8},
        "recipe field warm_up_error is 0.8, but warm_up is 0; say how many iterations the warm-up lasts at most, "
        "for example --set warm_up=5, or --set warm_up_error=none",
    ),
    (
        {"warm_up": 10.0},
        "the warm-up of 10 epochs is not shorter than the training of 10; use a shorter one, --set warm_up=0 for none",
    ),
]


@pytest.mark.parametrize(("change", "line"), BAD, ids=lambda v: str(v) if isinstance(v, dict) else "")
def test_a_recipe_that_cannot_be_trained(change: dict[str, Any], line: str) -> None:
    check_recipe(GOOD)
    with pytest.raises(BadRecipe) as caught:
        check_recipe(dataclasses.replace(GOOD, **change))
    assert str(caught.value) == line


@pytest.mark.parametrize(
    "change",
    [
        {"parts": 128},
        {"momentum": 0.0},
        {"optimiser": "rmsprop", "epsilon": 1.0},
        {"schedule": "constant", "factor": 2.0},
        {"schedule": "cosine", "warm_up": 9.5},
        {"epochs": None, "iterations": 100, "warm_up": 100, "warm_up_error": 0.8},  # the error alone ends it
        {"label_smoothing": 0.1, "balance": "weights"},
        {"drops": (90,)},  # what lies beyond the end is advised against, not refused
    ],
    ids=str,
)
def test_unusual_recipes_that_can(change: dict[str, Any]) -> None:
    check_recipe(dataclasses.replace(GOOD, **change))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_of_ours_can_be_trained(name: str) -> None:
    check_recipe(RECIPES[name])


def test_every_field_with_a_value_is_looked_at() -> None:
    """A new field of Recipe needs a rule here, or a word on who checks it."""
    elsewhere = {"where", "dataset", "assumed", "augment", "view", "freeze", "layer_lr"}
    looked_at = {field for field, *_ in NUMBERS} | {*WORDS, "drops"}
    assert looked_at | elsewhere == {field.name for field in dataclasses.fields(Recipe)}
