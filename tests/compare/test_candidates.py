"""Engines, energy and memory in a choice, and the Pareto set of many."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.compare import Candidate, Curve, Entry, Limits, Missing, choose, compare
from convatlas.compare.candidates import candidate, undominated
from convatlas.result import Timing

from .conftest import MACHINE, Runs, answered, evaluation, measurement

A = "1" * 20 + "1" * 25 + "0" * 5 + "0" * 10
B = "1" * 20 + "0" * 25 + "1" * 5 + "0" * 10


def curve(
    engine: str, ms: float, precision: str = "fp32", joules: float | None = None, mb: float | None = None
) -> Curve:
    peak = None if mb is None else int(mb * 1e6)
    return Curve(engine, precision, (Timing(1, ms, ms, ms, 10, peak, joules),), MACHINE, "2026-11-24")


@pytest.fixture
def entry(run_folder: Runs) -> Entry:
    (e,) = compare([run_folder("a", evaluation(350), measurement(2.0))]).entries
    return e


def with_curves(e: Entry, *curves: Curve) -> Entry:
    return replace(e, curves=curves, timings=curves[0].timings, machine=MACHINE)


def chosen(e: Entry, limits: Limits) -> tuple[str, str, float | None]:
    assert e.accuracy is not None
    c = candidate(e, e.accuracy, limits)
    return c.engine, c.precision, c.ms


def test_the_fastest_engine_that_keeps_the_limits_counts(entry: Entry) -> None:
    e = with_curves(
        entry,
        curve("torch", 3.0, joules=1.0, mb=300),
        curve("openvino", 1.0, joules=5.0, mb=900),
        curve("onnxruntime", 2.0, joules=2.0, mb=400),
    )
    assert chosen(e, Limits()) == ("openvino", "fp32", 1.0)
    assert chosen(e, Limits(max_memory_mb=500)) == ("onnxruntime", "fp32", 2.0)
    assert chosen(e, Limits(max_joule=1.5)) == ("torch", "fp32", 3.0)
    assert chosen(e, Limits(max_joule=0.5)) == ("torch", "fp32", 3.0)  # none keeps it; this one is nearest
    assert chosen(e, Limits(batch=2)) == ("", "", None)


def test_an_engine_without_a_figure_that_is_asked_for_does_not_count(entry: Entry) -> None:
    e = with_curves(entry, curve("openvino", 1.0), curve("torch", 3.0, joules=1.0))
    assert chosen(e, Limits(max_joule=2)) == ("torch", "fp32", 3.0)


def test_the_pick_names_engine_energy_and_memory(entry: Entry) -> None:
    e = with_curves(entry, curve("torch", 3.0, joules=1.0, mb=300), curve("openvino", 1.0, "bf16", 0.5, 900))
    compared = replace(compare([entry.folder]), entries=(e,))
    choice = choose(compared, Limits(max_ms=2, max_joule=0.8, max_memory_mb=1000))
    assert choice.verdict == (
        "The one measured run, a, is within the budget (at most 2 ms at batch 1, at most 0.8 J a batch at batch 1, "
        "at most 1000 MB of memory at batch 1): 350 of 360 (97.2 %) right, 1.00 ms at batch 1 with openvino in bf16, "
        "0.500 J a batch, 900 MB of memory, 247 kB of weights."
    )
    assert choice.notes == ("a: its time is in bf16, its accuracy was measured in fp32 and may differ",)
    assert [c.name for c in choice.table()[0]] == [
        *("run", "accuracy", "95 % interval", "time, batch 1", "engine", "energy, batch 1", "memory, batch 1"),
        *("weights", "budget", "Pareto set"),
    ]
    assert choice.table()[1][0][3:] == ["1.00 ms", "openvino, bf16", "0.500 J", "900 MB", "247 kB", "chosen", "yes"]


def test_what_breaks_a_limit_is_told(entry: Entry) -> None:
    e = with_curves(entry, curve("torch", 3.0, joules=1.0, mb=300))
    compared = replace(compare([entry.folder]), entries=(e,))
    choice = choose(compared, Limits(max_joule=0.8, max_memory_mb=200))
    assert choice.verdict == (
        "The one measured run does not fit the budget (at most 0.8 J a batch at batch 1, at most 200 MB of memory at "
        "batch 1); the nearest is a: 1.00 J is 0.200 J (25 %) over 0.800 J and 300 MB of memory is 100 MB (50 %) over "
        "200 MB."
    )


def test_energy_and_memory_that_were_not_measured_are_named(entry: Entry) -> None:
    e = with_curves(entry, replace(curve("torch", 3.0), energy="not measurable here: no counter"))
    compared = replace(compare([entry.folder]), entries=(e,))
    choice = choose(compared, Limits(max_joule=1, max_memory_mb=200))
    command = f"convatlas measure {entry.folder} --batch 1"
    assert choice.pick is None and choice.missing == (
        Missing("a", "energy at batch 1 (not measurable here: no counter)", command),
        Missing("a", "peak memory at batch 1", command),
    )
    assert choice.verdict.startswith("No run has been measured for the budget (")


def test_too_close_to_call_is_by_the_paired_test_where_it_can_be(run_folder: Runs) -> None:
    # The intervals of 45 and 36 of 60 overlap; that the first has 9 images more and none less decides.
    worse = A[:36] + "0" * 24
    compared = compare([answered(run_folder, "a", A), answered(run_folder, "b", worse)])
    assert compared.entries[0].accuracy is not None and compared.entries[1].accuracy is not None
    assert compared.entries[1].accuracy.interval[1] > compared.entries[0].accuracy.interval[0]
    assert choose(compared, Limits()).too_close == ()
    close = compare([answered(run_folder, "x/a", A), answered(run_folder, "x/c", "0" + A[1:])])
    (t,) = choose(close, Limits()).too_close
    d = close.differences[0]
    assert (t.name, t.images, t.p, t.low, t.high) == ("c", 60, d.p, d.low, d.high)
    reasons = choose(close, Limits()).reasons()
    assert reasons == [
        (
            "Too close to call",
            "c is 1.7 points behind a, and a paired test on 60 images cannot tell them apart (95 % interval "
            "0.0 to +5.0 points, p = 1).",
        )
    ]


def test_what_was_given_up_is_judged_by_the_paired_test_too(run_folder: Runs) -> None:
    slow = answered(run_folder, "slow", "1" + A[1:45] + "1" + A[46:], measurement(9.0))
    fast = answered(run_folder, "fast", A, measurement(1.0))
    (g,) = choose(compare([slow, fast]), Limits(max_ms=2)).given_up
    assert (g.name, g.too_close, g.p) == ("slow", True, 1.0)
    told = choose(compare([slow, fast]), Limits(max_ms=2)).reasons()[0][1]
    assert told.endswith("; a paired test cannot tell them apart (p = 1), so it may be no better.")
    far = answered(run_folder, "far", B, measurement(1.0))
    (g,) = choose(compare([slow, far]), Limits(max_ms=2)).given_up
    assert g.too_close is False
    # 36 right of those 45 and none else: the intervals overlap, and the paired test decides.
    nested = answered(run_folder, "nested", A[:36] + "0" * 24, measurement(1.0))
    compared = compare([slow, nested])
    (g,) = choose(compared, Limits(max_ms=2)).given_up
    first, second = choose(compared, Limits()).candidates
    assert first.overlaps(second) and g.too_close is False


# ---- Many ------------------------------------------------------------------------------------------------------------

FIGURES = st.lists(
    st.tuples(st.integers(40, 44), st.integers(1, 3), st.integers(1, 2), st.sampled_from([1.0, 2.0])), max_size=9
)


def made(name: str, correct: int, ms: float | None, mb: float, joules: float | None) -> Candidate:
    return Candidate(name, correct, 50, 0.5, 0.9, ms, mb, (), 0.0, True, joules=joules)


@given(FIGURES, st.booleans())
def test_the_pareto_set_counts_energy_where_all_have_it(figures: list[tuple[int, int, int, float]], all_: bool) -> None:
    found = [made(str(i), k, ms, mb, j if all_ or i else None) for i, (k, ms, mb, j) in enumerate(figures)]
    keys = {c.name: (-c.correct, c.ms, c.mb, *([c.joules] if all_ else [])) for c in found}

    def beaten(key: tuple[float, ...]) -> bool:
        return any(k != key and all(a <= b for a, b in zip(k, key, strict=True)) for k in keys.values())

    assert undominated(found) == {name for name, key in keys.items() if not beaten(key)}


def test_a_text_of_many_stays_short(run_folder: Runs, entry: Entry) -> None:
    entries = tuple(replace(entry, name=f"r{i:03d}") for i in range(50))
    choice = choose(replace(compare([entry.folder]), entries=entries), Limits(batch=2))
    told = choice.as_text()
    assert "30 more runs are in the JSON." in told
    assert "Too close to call: 29 more, which the JSON names." in told
    assert told.endswith("  and 30 more; --json names all") and len(told.splitlines()) < 75
