"""Training curves over each other: the errors of the logs, training dashed, held-out solid."""

from dataclasses import replace

from convatlas.charts import training_curves
from convatlas.compare import Comparison, Epoch

from .conftest import LARGE, RUNS, SMALL, values


def test_the_points_are_the_errors_of_the_logs() -> None:
    chart = training_curves(RUNS)
    found = [(v["run"], v["epoch"], v["images"], v["error"]) for v in values(chart)][:4]
    assert found == [
        ("small", 1, "training", 40.0),
        ("small", 1, "validation", 50.0),
        ("small", 2, "training", 20.0),
        ("small", 2, "validation", 30.0),
    ]
    assert chart is not None and chart.rows[0] == ["small", "1", "40.0 %", "50.0 %"]
    assert "large 30.0 % (validation)" in chart.description


def test_a_run_without_held_out_images_ends_with_its_training_error() -> None:
    one = replace(SMALL, curve=(Epoch(1, 0.5), Epoch(2, 0.25)))
    chart = training_curves(Comparison((one, LARGE), (), ()))
    assert chart is not None and "small 25.0 % (training)" in chart.description
    assert chart.rows[0] == ["small", "1", "50.0 %", "—"]


def test_without_logs_there_is_no_chart() -> None:
    assert training_curves(Comparison((replace(SMALL, curve=()), replace(LARGE, curve=(Epoch(1),))), (), ())) is None
