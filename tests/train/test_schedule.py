"""The learning rate against torch's own schedulers, and a line for every recipe that cannot be trained."""

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import MultiStepLR, ReduceLROnPlateau

from convatlas.errors import BadRecipe
from convatlas.paper import Recipe
from convatlas.record import from_json, to_json
from convatlas.train.schedule import Length, Plateau, Schedule, check_recipe, length

FACTORS = st.floats(0.05, 0.95)


def optimiser() -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


@settings(deadline=None)
@given(
    errors=st.lists(st.integers(0, 6), max_size=40), patience=st.integers(1, 5), factor=FACTORS, stop=st.integers(0, 40)
)
def test_plateau_drops_when_torchs_scheduler_does_even_after_a_resume(
    errors: list[int], patience: int, factor: float, stop: int
) -> None:
    """torch drops once more than its `patience` epochs were bad, we once ours were: so torch's is one less."""
    sgd = optimiser()
    theirs = ReduceLROnPlateau(sgd, factor=factor, patience=patience - 1, threshold=0, threshold_mode="abs", eps=0)
    ours = Schedule(Recipe(epochs=1, schedule="plateau", factor=factor, patience=patience), 10)
    memory = Plateau()
    for number, count in enumerate(errors):
        theirs.step(count)
        memory = ours.after_validation(count, memory)
        if number == stop:
            memory = from_json(Plateau, to_json(memory))
        assert ours.rate(10 * (number + 1), memory) == sgd.param_groups[0]["lr"]


@settings(deadline=None)
@given(drops=st.sets(st.integers(1, 30), min_size=1, max_size=5), factor=FACTORS, per_epoch=st.integers(1, 7))
def test_steps_drop_when_torchs_scheduler_does(drops: set[int], factor: float, per_epoch: int) -> None:
    sgd = optimiser()
    theirs = MultiStepLR(sgd, sorted(drops), gamma=factor)
    recipe = Recipe(epochs=32, schedule="steps", drops=tuple(sorted(drops)), factor=factor)
    ours = Schedule(recipe, per_epoch)
    in_iterations = Schedule(dataclasses.replace(recipe, epochs=None, iterations=99), per_epoch)
    for epoch in range(32):
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            assert ours.rate(step, Plateau()) == sgd.param_groups[0]["lr"]
        assert in_iterations.rate(epoch, Plateau()) == sgd.param_groups[0]["lr"]
        sgd.step()
        theirs.step()


def test_a_constant_rate_forgets_its_drops() -> None:
    schedule = Schedule(Recipe(epochs=1, lr=0.3), 10)
    memory = schedule.after_validation(3, Plateau())
    assert [schedule.rate(s, memory) for s in (0, 10, 1000)] == [0.3, 0.3, 0.3]


def test_resnets_schedule_on_cifar() -> None:
    """Section 4.2: 0.1, divided by 10 at 32k and 48k iterations, 64k in all; 45,000 images in batches of 128."""
    recipe = Recipe(iterations=64_000, batch=128, lr=0.1, schedule="steps", drops=(32_000, 48_000))
    schedule = Schedule(recipe, 352)
    found = [schedule.rate(s, Plateau()) for s in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert str(length(recipe, 352)) == "64,000 iterations (181.8 epochs of 352)"


def test_a_fraction_of_an_epoch_ends_at_the_nearest_step() -> None:
    assert length(Recipe(epochs=2.5), 7) == Length(18, 7)
    assert length(Recipe(epochs=0.001), 7) == Length(1, 7)
    assert length(Recipe(epochs=2.5), 7).epochs == pytest.approx(18 / 7)


GOOD = Recipe(epochs=1)
BAD = [
    ({"batch": 0}, "recipe field batch is 0; a batch has at least 1 image"),
    ({"lr": 0.0}, "recipe field lr is 0.0; a learning rate is above 0"),
    ({"lr": float("nan")}, "recipe field lr is nan; a learning rate is above 0"),
    ({"lr": float("inf")}, "recipe field lr is inf; a learning rate is above 0"),
    ({"momentum": 1.0}, "recipe field momentum is 1.0; momentum lies from 0 to below 1"),
    ({"weight_decay": -1e-4}, "recipe field weight_decay is -0.0001; weight decay is 0 or more"),
    ({"epochs": 0.0}, "recipe field epochs is 0.0; a training has more than 0 epochs"),
    ({"epochs": None, "iterations": 0}, "recipe field iterations is 0; a training has at least 1 iteration"),
    ({"size": 0}, "recipe field size is 0; an input is at least 1 pixel wide"),
    ({"crop": 0.0}, "recipe field crop is 0.0; the centre crop keeps a share above 0 and at most 1"),
    ({"validation": 1.0}, "recipe field validation is 1.0; the validation images are a share from 0 to below 1"),
    ({"schedule": "cosine"}, "recipe field schedule is 'cosine'; it can be constant, steps, plateau"),
    ({"fit": "fill"}, "recipe field fit is 'fill'; it can be crop, pad, stretch"),
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
        "recipe field factor is 1.0; the rate is multiplied by a factor between 0 and 1",
    ),
    ({"schedule": "plateau", "patience": 0}, "recipe field patience is 0; it is at least 1 epoch"),
]


@pytest.mark.parametrize(("change", "line"), BAD, ids=lambda v: str(v) if isinstance(v, dict) else "")
def test_a_recipe_that_cannot_be_trained(change: dict[str, Any], line: str) -> None:
    check_recipe(GOOD)
    with pytest.raises(BadRecipe) as caught:
        check_recipe(dataclasses.replace(GOOD, **change))
    assert str(caught.value) == line
