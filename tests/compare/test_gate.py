"""Whether a new run may take an old one's place."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import confint_proportions_2indep

from convatlas.compare import Allowed, Entry, compare, gate
from convatlas.compare.gate import newcombe
from convatlas.errors import BadData, UsageError
from convatlas.result import Accuracy

from .conftest import MACHINE, STAMP, Runs, answered, evaluation, measurement

USUAL = Allowed()
OLD, WORSE = "1" * 50 + "0" * 10, "1" * 30 + "0" * 30  # of 60 images; B is 20 wrong more


def pair(run_folder: Runs, a: str, b: str, a_ms: float = 2.0, b_ms: float = 2.0) -> tuple[Entry, Entry]:
    folders = [answered(run_folder, n, r, measurement(ms)) for n, r, ms in (("a", a, a_ms), ("b", b, b_ms))]
    old, new = compare(folders).entries
    return old, new


def states(a: Entry, b: Entry, allowed: Allowed = USUAL) -> dict[str, str]:
    return {c.name: c.state for c in gate(a, b, allowed).checks}


def test_the_same_run_passes(run_folder: Runs) -> None:
    a, b = pair(run_folder, OLD, OLD)
    found = gate(a, b, Allowed())
    assert (found.passed, found.failed, found.exit_code) == (True, "", 0)
    assert found.as_text() == (
        "b against a: passes\n"
        "  accuracy  passed: 50 of 60 (83.3 %) right against 50 of 60 (83.3 %); paired difference 0.0 points, "
        "95 % interval 0.0 to 0.0, p = 1\n"
        "  time      passed: 2.00 ms against 2.00 ms at batch 1 (torch, fp32), 1.000 times; allowed 1.1\n"
        "  size      passed: 247 kB of weights against 247 kB, 1.000 times; allowed 1"
    )


def test_worse_beyond_the_interval_fails_and_a_better_run_passes(run_folder: Runs) -> None:
    a, b = pair(run_folder, OLD, WORSE)
    found = gate(a, b, Allowed())
    assert (found.passed, found.failed, found.exit_code) == (False, "accuracy", 1)
    assert found.as_text().splitlines()[0] == "b against a: does not pass (accuracy)"
    told = found.checks[0].told
    assert told.startswith("30 of 60 (50.0 %) right against 50 of 60 (83.3 %); paired difference -33.3 points, 95 % ")
    assert told.endswith("p under 0.0001; the interval may not lie below 0.0 points")
    assert gate(b, a, Allowed()).passed


def test_a_drop_within_what_is_allowed_or_within_chance_passes(run_folder: Runs) -> None:
    a, b = pair(run_folder, OLD, WORSE)
    assert states(a, b, Allowed(max_drop=0.15))["accuracy"] == "FAILED"
    assert states(a, b, Allowed(max_drop=0.3))["accuracy"] == "passed"
    a, b = pair(lambda name, *r: run_folder(f"x/{name}", *r), OLD, OLD[:49] + "00" + OLD[51:])
    assert states(a, b)["accuracy"] == "passed"


def test_an_interval_below_nothing_is_not_enough_where_the_exact_test_decides_nothing(run_folder: Runs) -> None:
    a, b = pair(run_folder, OLD, OLD[:45] + "0" * 15)
    # Five images lost and none won: p is 2/32, and compare says too close to call.
    assert states(a, b)["accuracy"] == "passed"


def test_slower_or_larger_than_allowed_fails(run_folder: Runs) -> None:
    a, b = pair(run_folder, OLD, OLD, 2.0, 2.3)
    assert states(a, b) == {"accuracy": "passed", "time": "FAILED", "size": "passed"}
    assert states(a, b, Allowed(max_slower=1.2))["time"] == "passed"
    assert states(a, replace(b, weights_bytes=247_001))["size"] == "FAILED"
    assert states(a, replace(b, weights_bytes=247_001), Allowed(max_larger=1.5))["size"] == "passed"
    assert gate(a, replace(b, weights_bytes=500_000), Allowed()).failed == "time and size"


def test_times_are_compared_at_the_batch_and_engine_that_both_have(run_folder: Runs) -> None:
    a = answered(run_folder, "a", OLD, measurement(2.0), measurement(1.0, 31, engine="openvino"))
    b = answered(
        run_folder, "b", OLD, measurement(9.0, 30, engine="onnxruntime"), measurement(1.5, 31, engine="openvino")
    )
    old, new = compare([a, b]).entries
    check = gate(old, new, Allowed(batch=8)).checks[1]
    assert check.told == "12.0 ms against 8.00 ms at batch 8 (openvino, fp32), 1.500 times; allowed 1.1"
    assert gate(old, new, Allowed(batch=4)).checks[1].state == "not measured"


def test_a_check_without_figures_fails_only_where_its_limit_is_given(run_folder: Runs) -> None:
    a = answered(run_folder, "a", OLD, measurement(2.0))
    b = answered(run_folder, "b", OLD, measurement(2.0, machine=replace(MACHINE, processor="Processor Y")))
    old, new = compare([a, b]).entries
    check = gate(old, new, Allowed()).checks[1]
    assert (check.state, check.told) == (
        "not measured",
        "no times at batch 1 on one machine and engine; `convatlas measure` both there",
    )
    assert gate(old, new, Allowed()).passed
    assert gate(old, new, Allowed(max_slower=1.1)).failed == "time"
    bare = replace(new, accuracy=None, weights_bytes=0)
    assert [c.told for c in gate(old, bare, Allowed()).checks[::2]] == [
        "no accuracy of b; `convatlas evaluate` them",
        "no size of the weights of b",
    ]
    assert gate(old, bare, Allowed()).failed == "nothing that can be compared was measured"


def test_without_answers_the_samples_count_as_separate(run_folder: Runs) -> None:
    a, b = run_folder("a", evaluation(340)), run_folder("b", evaluation(300))
    old, new = compare([a, b]).entries
    check = gate(old, new, Allowed()).checks[0]
    assert check.state == "FAILED" and ", not paired; the interval may not lie below 0.0 points" in check.told
    assert gate(old, compare([run_folder("c", evaluation(335))]).entries[0], Allowed()).checks[0].passed


@given(st.integers(0, 60), st.integers(0, 60))
def test_newcombes_interval_is_statsmodels(k: int, other: int) -> None:
    low, high = newcombe(Accuracy(k, k, 60), Accuracy(other, other, 60))
    theirs = confint_proportions_2indep(k, 60, other, 60, method="newcomb", compare="diff")
    assert (low, high) == pytest.approx(theirs, abs=1e-9)


def test_accuracies_of_different_images_are_refused(run_folder: Runs) -> None:
    a = run_folder("a", evaluation(340))
    b = run_folder("b", evaluation(340, data=replace(STAMP, digest="ef" * 32)))
    with pytest.raises(BadData) as caught:
        gate(*compare([a, b]).entries, Allowed())
    assert str(caught.value) == (
        "cannot compare a and b: accuracies are not comparable, they are of different images: a: digits/test, 360 "
        "images, digest abababab; b: digits/test, 360 images, digest efefefef; `convatlas evaluate` both on the same "
        "data"
    )


@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        (Allowed(max_drop=-0.1), "max_drop is -0.1; it must be 0 or more"),
        (Allowed(max_drop=1), "max_drop is 1; it is a share of one, write 0.01 for one point"),
        (Allowed(max_slower=float("nan")), "max_slower is nan; it must be 0 or more"),
        (Allowed(max_larger=-1), "max_larger is -1; it must be 0 or more"),
        (Allowed(batch=0), "batch is 0; it must be 1 or more"),
    ],
)
def test_limits_that_none_can_have(run_folder: Runs, allowed: Allowed, message: str) -> None:
    a, b = pair(run_folder, OLD, OLD)
    with pytest.raises(UsageError) as caught:
        gate(a, b, allowed)
    assert str(caught.value) == message


def test_json_has_every_check(run_folder: Runs) -> None:
    a, b = pair(run_folder, OLD, WORSE)
    told = json.loads(gate(a, b, Allowed()).as_json())
    assert (told["a"], told["b"], told["passed"], told["failed"]) == ("a", "b", False, "accuracy")
    assert [(c["name"], c["passed"], c["fails"]) for c in told["checks"]] == [
        ("accuracy", False, True),
        ("time", True, False),
        ("size", True, False),
    ]
