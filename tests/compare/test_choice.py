"""Choosing under a budget, against brute force and against the definition of the Pareto set."""

import json
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.compare import Choice, Comparison, Entry, Limits, Missing, choose, compare
from convatlas.errors import BadData, UsageError
from convatlas.result import Accuracy, Timing, wilson

from .conftest import MACHINE, STAMP, Runs, evaluation, measurement

Figures = list[tuple[int, float | None, int]]  # right answers, ms at batch 1, bytes of weights


def entry(name: str, correct: int, ms: float | None, size: int, images: int) -> Entry:
    return Entry(
        name=name,
        folder=f"runs/{name}",
        network="lenet5",
        input=(1, 32, 32),
        classes=("a", "b"),
        params=size // 4,
        macs=416_520,
        weights_bytes=size,
        recipe="lenet",
        recipe_fields={},
        epochs=12,
        seconds=80,
        source="digits",
        split_rule="",
        accuracy=Accuracy(correct, correct, images),
        data=STAMP,
        timings=() if ms is None else (Timing(1, ms, ms, ms, 10),),
        machine=None if ms is None else MACHINE,
        sources=(),
        curve=(),
        unreadable=0,
    )


def comparison(figures: Figures, images: int = 50) -> Comparison:
    """Runs a, b, c, ..."""
    entries = tuple(entry(chr(97 + i), k, ms, size, images) for i, (k, ms, size) in enumerate(figures))
    return Comparison(entries, (), ())


def within(figure: tuple[int, float | None, int], limits: Limits, images: int = 50) -> bool:
    correct, ms, size = figure
    return (
        (limits.max_ms is None or (ms is not None and ms <= limits.max_ms))
        and (limits.max_mb is None or size <= limits.max_mb * 10**6)
        and (limits.min_accuracy is None or correct / images >= limits.min_accuracy)
    )


FIGURES = st.lists(
    st.tuples(st.integers(40, 44), st.sampled_from([None, 1.0, 2.0, 3.0]), st.sampled_from([10**6, 2 * 10**6])),
    min_size=1,
    max_size=6,
)
LIMITS = st.builds(
    Limits,
    max_ms=st.sampled_from([None, 0.5, 1.0, 2.5]),
    max_mb=st.sampled_from([None, 0.5, 1.0, 3.0]),
    min_accuracy=st.sampled_from([None, 0.84, 0.86, 0.99]),
)


@given(FIGURES, LIMITS)
def test_the_pick_is_the_best_of_all_that_fit(figures: Figures, limits: Limits) -> None:
    choice = choose(comparison(figures), limits)
    fitting = [f for f in figures if within(f, limits)]
    assert {c.name for c in choice.candidates if c.fits} == {
        chr(97 + i) for i, f in enumerate(figures) if within(f, limits)
    }
    if not fitting:
        assert choice.pick is None and choice.exit_code == 1
        return
    best = min(fitting, key=lambda f: (-f[0], float("inf") if f[1] is None else f[1], f[2]))
    assert choice.pick is not None and choice.exit_code == 0
    assert figures[ord(choice.pick) - 97] == best
    given_up = {
        chr(97 + i) for i, f in enumerate(figures) if f[0] > best[0] and not within(f, limits) and over(f, limits)
    }
    assert {g.name for g in choice.given_up} == given_up


def over(figure: tuple[int, float | None, int], limits: Limits) -> bool:
    """Breaks a limit by a figure that it has."""
    return not within((figure[0], figure[1] if figure[1] is not None else 0.0, figure[2]), limits)


@given(FIGURES)
def test_the_pareto_set_is_what_no_run_dominates(figures: Figures) -> None:
    choice = choose(comparison(figures), Limits())
    whole = {chr(97 + i): f for i, f in enumerate(figures) if f[1] is not None}

    def beats(f: tuple[int, float, int], g: tuple[int, float, int]) -> bool:
        return f[0] >= g[0] and f[1] <= g[1] and f[2] <= g[2] and f != g

    assert set(choice.pareto) == {n for n, g in whole.items() if not any(beats(f, g) for f in whole.values())}


@given(FIGURES, LIMITS)
def test_every_text_and_json_names_the_pick(figures: Figures, limits: Limits) -> None:
    choice = choose(comparison(figures), limits)
    told = json.loads(choice.as_json())
    assert told["pick"] == choice.pick and tuple(told["pareto"]) == choice.pareto
    assert len(told["candidates"]) == len(figures)
    assert choice.verdict in choice.as_text()


@pytest.mark.parametrize(("k", "other"), list(product((300, 330, 350), (300, 340, 345, 350, 360))))
def test_too_close_to_call_is_where_the_intervals_overlap(k: int, other: int) -> None:
    choice = choose(comparison([(k, 1.0, 10**6), (other, 1.0, 10**6)], images=360), Limits())
    low, high = sorted((wilson(k, 360), wilson(other, 360)))
    assert bool(choice.too_close) == (high[0] <= low[1])


BUDGET = Limits(max_ms=2, max_mb=1.5)
THREE: Figures = [(352, 0.5, 247_000), (351, 2.9, 1_080_000), (357, 3.2, 2_000_000)]


def test_the_words_of_a_choice() -> None:
    choice = choose(comparison(THREE, images=360), BUDGET)
    assert choice.verdict == (
        "Of 3 measured runs, a is the most accurate within the budget (at most 2 ms at batch 1, at most 1.5 MB of "
        "weights): 352 of 360 (97.8 %) right, 0.500 ms at batch 1, 247 kB of weights."
    )
    assert choice.reasons() == [
        (
            "Given up",
            "c is 1.4 points more accurate, but 3.20 ms is 1.20 ms (60 %) over 2.00 ms and "
            "2.00 MB is 500 kB (33 %) over 1.50 MB; the 95 % intervals overlap, so it may be no better.",
        ),
    ]
    assert choice.pareto == ("c", "a")


def test_the_words_of_a_pick_that_is_too_close_to_call() -> None:
    choice = choose(comparison(THREE, images=360), Limits(min_accuracy=0.98))
    assert choice.pick == "c"
    choice = choose(comparison(THREE, images=360), Limits())
    assert choice.reasons()[0] == (
        "Too close to call",
        "a is 1.4 points behind c, and the 95 % intervals overlap. "
        "It is 6.4 times as fast and has weights 8.1 times smaller.",
    )


def test_where_nothing_fits_the_nearest_is_named() -> None:
    choice = choose(comparison(THREE, images=360), Limits(max_ms=0.4, min_accuracy=0.99))
    assert (choice.pick, choice.nearest, choice.exit_code) == (None, "a", 1)
    assert choice.verdict == (
        "None of 3 measured runs fits the budget (at most 0.4 ms at batch 1, accuracy at least 99 %); the nearest is "
        "a: 0.500 ms is 0.100 ms (25 %) over 0.400 ms and 97.8 % right is 1.2 points below 99 %."
    )


def test_what_was_not_measured_is_never_chosen_and_named_with_its_command() -> None:
    choice = choose(comparison([(45, None, 10**6), (40, 1.0, 10**6)]), Limits(max_ms=2))
    assert choice.pick == "b"
    assert choice.missing == (Missing("a", "forward time at batch 1", "convatlas measure runs/a --batch 1"),)
    choice = choose(comparison([(45, 1.0, 10**6)]), Limits(max_ms=2, batch=8))
    assert choice.verdict == "No run has been measured for the budget (at most 2 ms at batch 8)."
    assert (choice.pick, choice.nearest) == (None, None)
    assert choice.missing == (Missing("a", "forward time at batch 8", "convatlas measure runs/a --batch 1,8"),)


def test_a_pick_near_its_limits_gets_a_note() -> None:
    compared = comparison([(45, 1.0, 10**6)])
    slow = replace(compared.entries[0], timings=(Timing(1, 1.0, 0.9, 2.5, 10),))
    notes = choose(replace(compared, entries=(slow,)), Limits(max_ms=2, min_accuracy=0.89)).notes
    low = 100 * wilson(45, 50)[0]
    assert notes == (
        f"a: its 95 % interval begins at {low:.1f} %, below the asked 89 %",
        "a: a quarter of its calls took 2.50 ms or more, though the median keeps the limit",
    )


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(max_ms=0), "max_ms is 0; a limit must be above 0"),
        (Limits(max_mb=-1), "max_mb is -1; a limit must be above 0"),
        (Limits(batch=0), "batch is 0; a limit must be above 0"),
        (Limits(max_ms=float("nan")), "max_ms is nan; a limit must be above 0"),
        (Limits(min_accuracy=90), "min_accuracy is 90; it is a share of one, write 0.9 for 90 %"),
    ],
)
def test_limits_that_no_figure_can_have(limits: Limits, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose(comparison(THREE, images=360), limits)
    assert str(caught.value) == message


def test_different_images_and_machines_are_refused(run_folder: Runs) -> None:
    a = run_folder("a", evaluation(340), measurement(2.0))
    b = run_folder("b", evaluation(340), measurement(1.0, machine=replace(MACHINE, processor="Processor Y")))
    c = run_folder("c", evaluation(340, data=replace(STAMP, digest="ef" * 32)))
    with pytest.raises(BadData) as caught:
        choose(compare([a, b]), Limits(max_ms=5))
    assert str(caught.value) == (
        "cannot choose by time: measured on Processor X, 2 threads, torch 2.14.1 and on Processor Y, 2 threads, "
        "torch 2.14.1; `convatlas measure` all on one machine"
    )
    assert isinstance(choose(compare([a, b]), Limits(max_mb=5)), Choice)
    with pytest.raises(BadData) as caught:
        choose(compare([a, c]), Limits())
    assert str(caught.value) == (
        "cannot choose: accuracies are not comparable, they are of different images: a: digits/test, 360 images, "
        "digest abababab; c: digits/test, 360 images, digest efefefef; `convatlas evaluate` each run on the same data"
    )
