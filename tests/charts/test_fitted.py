"""The fitted lines against NumPy's and SciPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress

from convatlas.charts import macs_against_time, memory_against_parameters
from convatlas.charts.fitted import fit
from convatlas.compare import Comparison

from .conftest import LARGE, MIDDLE, RUNS, SMALL, of_run


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**9)), min_size=3, max_size=20, unique_by=lambda p: p[0])
)
def test_the_line_is_scipy_s_and_numpy_s(points: list[tuple[int, int]]) -> None:
    x, y = zip(*points, strict=True)
    found = fit(x, y)
    if len(set(y)) == 1:
        assert found is None
        return
    assert found is not None
    theirs, (slope, intercept) = linregress(x, y), np.polyfit(x, y, 1)
    scale = max(y)
    assert found.slope == pytest.approx(theirs.slope, rel=1e-6, abs=1e-9 * scale)
    assert found.slope == pytest.approx(slope, rel=1e-6, abs=1e-9 * scale)
    assert found.intercept == pytest.approx(intercept, rel=1e-6, abs=1e-6 * scale)
    assert found.r2 == pytest.approx(theirs.rvalue**2, abs=1e-6)


def test_two_points_and_points_above_each_other_have_no_line() -> None:
    assert fit([1, 2], [1, 2]) is None
    assert fit([1, 1, 1], [1, 2, 3]) is None


@pytest.mark.parametrize("batch", [1, 16])
def test_operations_over_the_time_of_one_image_with_the_slope_in_words_and_table(batch: int) -> None:
    chart = macs_against_time(RUNS, batch=batch)
    assert chart is not None and chart.name == f"macs-time-{batch}"
    assert of_run(chart, "middle")["each"] == pytest.approx(0.8) and of_run(chart, "middle")["engine"] == "torch"
    line = linregress([0.1, 0.8, 3.0], [e.macs for e in (SMALL, MIDDLE, LARGE)])
    told = f"{line.slope * 1e3 / 1e9:.1f} GMACs in a second, R² {line.rvalue**2:.3f}"
    assert f"Line of least squares: {told}." in chart.description
    assert chart.rows[-1][:2] == ["line of least squares", told]


def test_the_drawn_line_runs_through_the_fitted_heights() -> None:
    chart = macs_against_time(RUNS)
    assert chart is not None
    drawn = chart.spec["layer"][0]["data"]["values"]
    line = linregress([0.1, 0.8, 3.0], [e.macs for e in (SMALL, MIDDLE, LARGE)])
    assert len(drawn) == 2
    for at in drawn:
        assert at["macs"] == pytest.approx(line.slope * at["each"] + line.intercept)


def test_memory_over_parameters_gives_bytes_a_parameter() -> None:
    chart = memory_against_parameters(RUNS)
    assert chart is not None
    assert "Line of least squares: 4 bytes a parameter, R² 1.000." in chart.description  # as the entries are made
    assert of_run(chart, "large")["peak"] == pytest.approx(200 + 3.2 + 1)


def test_few_networks_have_points_without_a_line_and_one_has_no_chart() -> None:
    two = macs_against_time(Comparison((SMALL, LARGE), (), ()))
    assert two is not None and two.description.endswith("Too few networks for a fitted line.") and len(two.rows) == 2
    assert macs_against_time(Comparison((SMALL,), (), ())) is None
    assert macs_against_time(RUNS, batch=64) is None
