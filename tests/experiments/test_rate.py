"""The range test: its rule on a known curve, its rates, its refusals, and a small real run."""

from itertools import pairwise
from math import log
from pathlib import Path

import pytest

from convatlas.errors import UsageError
from convatlas.experiments.answers import Step
from convatlas.experiments.rate import draw, judged, rate, refuse_ending, sentence


def test_the_rule_on_a_parabola() -> None:
    """loss = (ln rate - ln 0.1)^2 is lowest at 0.1, and steepest where it begins."""
    rates = [1e-4 * 10 ** (i / 20) for i in range(81)]
    made = [Step(r, 0, (log(r) - log(0.1)) ** 2) for r in rates]
    lowest, steepest = judged(made)
    assert lowest == pytest.approx(0.1)
    assert steepest == made[9].rate  # the first after the tenth that is left out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 5}, "--steps 5 is too small; give 10 or more"),
        ({"rates": (1.0, 0.1)}, "the rates 1 to 0.1 are no range; give --from above 0 and --to above it"),
    ],
)
def test_a_range_that_is_none(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        rate("lenet5_relu", "digits", **options)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_a_drawing_needs_a_known_ending(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        refuse_ending(tmp_path / "rate.png")
    assert str(error.value) == f"--out {tmp_path}/rate.png ends in neither .svg nor .html; choose one, like rate.html"


def test_a_short_run(tmp_path: Path) -> None:
    import torch

    before = torch.random.get_rng_state()
    found = rate("lenet5_relu", "digits", steps=60, rates=(1e-4, 10.0), settings=("batch=32",))
    assert torch.equal(torch.random.get_rng_state(), before)
    given = [s.rate for s in found.steps]
    assert given[0] == pytest.approx(1e-4)
    factors = [b / a for a, b in pairwise(given)]
    assert factors == pytest.approx([1e5 ** (1 / 59)] * len(factors))
    assert found.proposed == pytest.approx(found.lowest / 10, rel=0.05)
    assert found.steps[0].smoothed == pytest.approx(found.steps[0].loss)  # the average's beginning is corrected
    again = rate("lenet5_relu", "digits", steps=60, rates=(1e-4, 10.0), settings=("batch=32",))
    assert again.steps == found.steps
    assert draw(found, tmp_path / "rate.svg").read_text().startswith("<svg")
    assert f"{found.proposed:g}" in draw(found, tmp_path / "rate.html").read_text()
    assert sentence(found).startswith(f"Try {found.proposed:g} for lenet5_relu on digits with batch 32")
