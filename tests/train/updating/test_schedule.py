"""The learning rate against torch's own schedulers, the warm-up, and what both remember over a resume."""

import dataclasses
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from convatlas.networks import RECIPES
from convatlas.paper import Recipe
from convatlas.record import from_json, to_json
from convatlas.train.updating.schedule import Length, Plateau, Schedule, length

FACTORS = st.floats(0.05, 0.95)
LONG = Length(1000, 10)


def optimiser() -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


def rates(theirs: lr_scheduler.LRScheduler, sgd: torch.optim.SGD, steps: int) -> Iterator[float]:
    for _ in range(steps):
        yield sgd.param_groups[0]["lr"]
        sgd.step()
        theirs.step()


@contextmanager
def torchs_own_warnings() -> Iterator[None]:
    """SequentialLR calls its schedulers with a step's number, of which torch itself warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


@settings(deadline=None)
@given(
    errors=st.lists(st.integers(0, 6), max_size=40),
    patience=st.integers(1, 5),
    factor=FACTORS,
    stop=st.integers(0, 40),
    watch=st.sampled_from(["validation", "training"]),
)
def test_plateau_drops_when_torchs_scheduler_does_even_after_a_resume(
    errors: list[int], patience: int, factor: float, stop: int, watch: str
) -> None:
    """torch drops once more than its `patience` epochs were bad, we once ours were: so torch's is one less."""
    sgd = optimiser()
    theirs = lr_scheduler.ReduceLROnPlateau(
        sgd, factor=factor, patience=patience - 1, threshold=0, threshold_mode="abs", eps=0
    )
    recipe = Recipe(epochs=1, schedule="plateau", factor=factor, patience=patience, watch=watch)  # type: ignore[arg-type]
    ours = Schedule(recipe, LONG)
    memory = Plateau()
    for number, count in enumerate(errors):
        theirs.step(count)
        other = 7 - count  # gets worse when the watched one gets better
        memory = ours.after_epoch(*((count, other) if watch == "validation" else (other, count)), memory)
        if number == stop:
            memory = from_json(Plateau, to_json(memory))
        assert ours.rate(10 * (number + 1), memory) == sgd.param_groups[0]["lr"]


def test_plateau_without_validation_images_watches_training_or_stays() -> None:
    recipe = Recipe(epochs=9, schedule="plateau", patience=1)
    memory = Plateau(fewest=3, waited=0, drops=1, warmed=7)
    assert Schedule(recipe, LONG).after_epoch(None, 5, memory) == memory
    trains = Schedule(dataclasses.replace(recipe, watch="training"), LONG)
    assert trains.after_epoch(None, 5, memory) == Plateau(3, 0, 2, 7)
    assert trains.after_epoch(None, 2, memory) == Plateau(2, 0, 1, 7)


@settings(deadline=None)
@given(drops=st.sets(st.integers(1, 30), min_size=1, max_size=5), factor=FACTORS, per_epoch=st.integers(1, 7))
def test_steps_drop_when_torchs_scheduler_does(drops: set[int], factor: float, per_epoch: int) -> None:
    sgd = optimiser()
    theirs = lr_scheduler.MultiStepLR(sgd, sorted(drops), gamma=factor)
    recipe = Recipe(epochs=32, schedule="steps", drops=tuple(sorted(drops)), factor=factor)
    ours = Schedule(recipe, length(recipe, per_epoch))
    in_iterations = dataclasses.replace(recipe, epochs=None, iterations=99)
    theirs_too = Schedule(in_iterations, length(in_iterations, per_epoch))
    for epoch, rate in enumerate(rates(theirs, sgd, 32)):
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            assert ours.rate(step, Plateau()) == rate
        assert theirs_too.rate(epoch, Plateau()) == rate


@settings(deadline=None)
@given(every=st.integers(1, 6), factor=FACTORS, per_epoch=st.integers(1, 5))
def test_exponential_falls_as_torchs_step_scheduler(every: int, factor: float, per_epoch: int) -> None:
    """A staircase; with a width of one step it is torch's ExponentialLR."""
    recipe = Recipe(epochs=20, schedule="exponential", every=every, factor=factor)
    ours = Schedule(recipe, length(recipe, per_epoch))
    sgd = optimiser()
    theirs = lr_scheduler.StepLR(sgd, every * per_epoch, gamma=factor)
    for step, rate in enumerate(rates(theirs, sgd, 20 * per_epoch)):
        assert ours.rate(step, Plateau()) == pytest.approx(rate)
    each = Recipe(iterations=30, schedule="exponential", every=1, factor=factor)
    ours, sgd = Schedule(each, length(each, per_epoch)), optimiser()
    for step, rate in enumerate(rates(lr_scheduler.ExponentialLR(sgd, factor), sgd, 30)):
        assert ours.rate(step, Plateau()) == pytest.approx(rate)


@settings(deadline=None)
@given(steps=st.integers(1, 60), power=st.sampled_from([0.5, 1.0, 2.0]))
def test_polynomial_and_cosine_fall_as_torchs_schedulers(steps: int, power: float) -> None:
    recipe = Recipe(iterations=steps, schedule="polynomial", power=power)
    ours, sgd = Schedule(recipe, length(recipe, 7)), optimiser()
    for step, rate in enumerate(rates(lr_scheduler.PolynomialLR(sgd, steps, power), sgd, steps + 1)):
        assert ours.rate(step, Plateau()) == pytest.approx(rate, abs=1e-9)
    recipe = dataclasses.replace(recipe, schedule="cosine")
    ours, sgd = Schedule(recipe, length(recipe, 7)), optimiser()
    for step, rate in enumerate(rates(lr_scheduler.CosineAnnealingLR(sgd, steps), sgd, steps + 1)):
        assert ours.rate(step, Plateau()) == pytest.approx(rate, abs=1e-9)
    assert ours.rate(steps, Plateau()) == 0


@pytest.mark.parametrize("name", ["resnet_cifar", "bvlc_googlenet", "bvlc_googlenet_quick", "squeezenet"])
def test_recipes_as_their_solvers_say(name: str) -> None:
    """Caffe's formulas, with each solver's own numbers: base_lr (1 - i / max)^power, base_lr gamma^floor(i / size)."""
    recipe = RECIPES[name]
    schedule = Schedule(recipe, length(recipe, 10_009))
    formulas = {
        "resnet_cifar": lambda i: 0.1 if i < 32_000 else 0.01 if i < 48_000 else 0.001,
        "bvlc_googlenet": lambda i: 0.01 * 0.96 ** (i // 320_000),
        "bvlc_googlenet_quick": lambda i: 0.01 * (1 - i / 2_400_000) ** 0.5,
        "squeezenet": lambda i: 0.04 * (1 - i / 170_000),
    }
    whole = recipe.iterations or 0
    for share in (0, 0.1, 0.499, 0.5, 0.51, 0.75, 0.9, 1):
        step = min(int(share * whole), whole - 1)
        assert schedule.rate(step, Plateau()) == pytest.approx(formulas[name](step))


def test_inception_v3_falls_by_6_per_cent_every_two_epochs() -> None:
    schedule = Schedule(RECIPES["inception_v3"], Length(100 * 50, 50))
    found = [schedule.rate(s, Plateau()) for s in (0, 99, 100, 199, 200, 4999)]
    assert found == pytest.approx([0.045, 0.045, 0.0423, 0.0423, 0.039762, 0.045 * 0.94**49])


def test_a_constant_rate_and_drops_of_another_schedule() -> None:
    """--set schedule=constant leaves the recipe's drops as they are: they must do nothing."""
    recipe = Recipe(epochs=100, lr=0.3, drops=(1, 2))
    schedule = Schedule(recipe, LONG)
    memory = schedule.after_epoch(3, 3, Plateau())
    assert memory == Plateau()
    assert [schedule.rate(s, memory) for s in (0, 10, 999)] == [0.3, 0.3, 0.3]
    plateau = Schedule(dataclasses.replace(recipe, schedule="plateau"), LONG)
    assert plateau.rate(999, Plateau()) == 0.3


# ---- Warm-up ---------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(warm=st.integers(1, 20), schedule=st.sampled_from(["cosine", "steps", "constant"]))
def test_a_rising_warm_up_lies_over_the_schedule(warm: int, schedule: str) -> None:
    """torch's LinearLR from 1 / (warm + 1), times the rate that the schedule has at that step."""
    recipe = Recipe(iterations=40, schedule=schedule, drops=(10, 30), warm_up=warm)  # type: ignore[arg-type]
    ours = Schedule(recipe, length(recipe, 7))
    bare = Schedule(dataclasses.replace(recipe, warm_up=0), length(recipe, 7))
    sgd = optimiser()
    theirs = lr_scheduler.LinearLR(sgd, start_factor=1 / (warm + 1), total_iters=warm)
    for step, rate in enumerate(rates(theirs, sgd, 40)):
        assert ours.warming(step, Plateau()) == (step < warm)
        assert ours.rate(step, Plateau()) == pytest.approx(rate / 0.1 * bare.rate(step, Plateau()))
    assert ours.rate(warm, Plateau()) == bare.rate(warm, Plateau())


def test_a_constant_warm_up_of_400_iterations_as_torchs() -> None:
    """He et al. 2016, appendix: 0.01 for 400 iterations, then 0.1; the drops still fall at 32k and 48k."""
    recipe = RECIPES["preresnet_cifar"]
    ours = Schedule(recipe, length(recipe, 352))
    sgd = optimiser()
    with torchs_own_warnings():
        theirs = lr_scheduler.SequentialLR(
            sgd,
            [lr_scheduler.ConstantLR(sgd, 0.1, 10**9), lr_scheduler.ConstantLR(sgd, 1.0, 1)],
            milestones=[400],
        )
        for step, rate in enumerate(rates(theirs, sgd, 410)):
            assert ours.rate(step, Plateau()) == pytest.approx(rate)
    assert [ours.rate(s, Plateau()) for s in (31_999, 32_000, 48_000)] == pytest.approx([0.1, 0.01, 0.001])


def test_warm_up_in_epochs() -> None:
    recipe = Recipe(epochs=10, warm_up=0.5, warm_up_lr=0.02)
    schedule = Schedule(recipe, length(recipe, 30))
    assert [schedule.rate(s, Plateau()) for s in (0, 14, 15)] == [0.02, 0.02, 0.1]


def resnet110(per_epoch: int = 352) -> Schedule:
    recipe = RECIPES["resnet110_cifar"]
    return Schedule(recipe, length(recipe, per_epoch))


def test_resnet110_warms_up_until_the_training_error_is_below_80_per_cent() -> None:
    """Section 4.2: "0.01 to warm up the training until the training error is below 80 %", then 0.1 and as before."""
    schedule, memory = resnet110(), Plateau()
    assert schedule.rate(0, memory) == 0.01
    assert schedule.after_step(300, 31_000, 38_400, memory) == memory  # 80.7 %
    assert schedule.after_step(300, 30_720, 38_400, memory) == memory  # 80 % is not below
    memory = schedule.after_step(400, 4_915, 6_144, memory)
    assert memory == Plateau(warmed=400)
    assert [schedule.rate(s, memory) for s in (399, 400, 31_999, 32_000)] == pytest.approx([0.01, 0.1, 0.1, 0.01])
    assert not schedule.warming(400, memory)
    assert schedule.after_step(401, 0, 6_272, memory) is memory  # it ends once


def test_a_first_batch_that_is_right_by_luck_ends_no_warm_up() -> None:
    schedule = resnet110()
    assert schedule.after_step(353, 90, 128, Plateau()) == Plateau()
    assert schedule.after_step(361, 700, 1000, Plateau()) == Plateau(warmed=361)


def test_a_small_epoch_is_judged_at_its_end() -> None:
    schedule = resnet110(per_epoch=3)
    assert schedule.after_step(2, 100, 256, Plateau()) == Plateau()
    assert schedule.after_step(3, 100, 300, Plateau()) == Plateau(warmed=3)


def test_the_end_of_the_warm_up_survives_a_resume_and_an_epoch() -> None:
    schedule = resnet110()
    memory = from_json(Plateau, to_json(schedule.after_step(380, 700, 1000, Plateau())))
    assert memory.warmed == 380
    assert schedule.after_epoch(10, 10, memory).warmed == 380
    assert from_json(Plateau, "{}") == Plateau()


def test_without_an_error_the_warm_up_ends_by_its_length_alone() -> None:
    recipe = Recipe(epochs=9, warm_up=2)
    assert Schedule(recipe, LONG).after_step(10, 0, 5000, Plateau()) == Plateau()


# ---- Length ----------------------------------------------------------------------------------------------------------


def test_a_length_in_words() -> None:
    """45,000 images in batches of 128: ResNet's 64k iterations on CIFAR-10."""
    assert str(length(RECIPES["resnet_cifar"], 352)) == "64,000 iterations (181.8 epochs of 352)"
    assert str(Length(1, 1)) == "1 iteration (1 epoch of 1)"


def test_a_fraction_of_an_epoch_ends_at_the_nearest_step() -> None:
    assert length(Recipe(epochs=2.5), 7) == Length(18, 7)
    assert length(Recipe(epochs=0.001), 7) == Length(1, 7)
    assert length(Recipe(epochs=2.5), 7).epochs == pytest.approx(18 / 7)
