"""Tables and texts of entries side by side."""

from dataclasses import replace
from pathlib import Path

from convatlas.compare import Comparison, Missing, compare
from convatlas.compare.comparison import missing_text
from convatlas.record import from_json
from convatlas.result import Timing, lines

from .conftest import MACHINE, Runs, answered, evaluation, measurement


def test_engines_have_a_table_and_only_figures_that_were_measured(run_folder: Runs) -> None:
    both = measurement(2.0, 30), measurement(1.0, 31, engine="openvino", precision="bf16")
    compared = compare([run_folder("a", evaluation(350), *both), run_folder("b", evaluation(340), measurement(3.0))])
    columns, rows = compared.engine_table()
    assert [c.name for c in columns] == ["run", "engine", "precision", "time, batch 1", "time, batch 8"]
    assert rows == [
        ["a", "torch", "fp32", "2.00 ms", "16.0 ms"],
        ["a", "openvino", "bf16", "1.00 ms", "8.00 ms"],
        ["b", "torch", "fp32", "3.00 ms", "24.0 ms"],
    ]
    assert "openvino" in compared.as_text() and "| a | openvino | bf16 |" in compared.as_markdown()
    alone = compare([run_folder("c", evaluation(340), measurement(3.0))])
    assert "precision" not in alone.as_text()


def test_memory_and_energy_have_columns_where_they_were_measured(run_folder: Runs) -> None:
    costly = replace(measurement(2.0), engine="onnxruntime", timings=(Timing(1, 2.0, 1.9, 2.1, 9, 300_000_000, 0.25),))
    compared = compare([run_folder("a", evaluation(350), costly, measurement(2.0, batches=(1,)))])
    columns, rows = compared.engine_table()
    assert [c.name for c in columns][3:] == ["time, batch 1", "memory, batch 1", "energy, batch 1"]
    assert rows == [
        ["a", "torch", "fp32", "2.00 ms", "—", "—"],
        ["a", "onnxruntime", "fp32", "2.00 ms", "300 MB", "0.250 J"],
    ]


def test_an_engine_that_is_not_the_usual_one_is_named_with_the_times(run_folder: Runs) -> None:
    a = run_folder("a", evaluation(350), measurement(2.0, engine="openvino"))
    b = run_folder("b", evaluation(350), measurement(2.0))
    compared = compare([a, b])
    assert compared.warnings == ("times are of different engines: a: openvino, fp32; b: torch, fp32",)
    row = compared.table()[1][0]
    assert "openvino, fp32" in row
    assert "engine" not in [c.name for c in compare([b]).table()[0]]


def test_what_most_runs_share_is_shown_although_one_has_not_got_it(run_folder: Runs) -> None:
    elsewhere = replace(MACHINE, processor="Processor Y")
    a, b = (run_folder(n, evaluation(350), measurement(2.0, 30), measurement(9.0, 50, machine=elsewhere)) for n in "ab")
    c = run_folder("c", evaluation(350), measurement(3.0, 40))
    assert [e.timings[0].median_ms for e in compare([a, b, c]).entries] == [2.0, 2.0, 3.0]
    assert [e.timings[0].median_ms for e in compare([a, b]).entries] == [9.0, 9.0]


def test_a_comparison_with_differences_comes_back_from_its_json(run_folder: Runs, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(lines([measurement(1.0, source="alexnet")]))
    runs = [answered(run_folder, "a", "1110"), answered(run_folder, "b", "1000", measurement(1.0))]
    compared = compare([*runs, tmp_path / "m.jsonl", "resnet18", "published:alexnet"])
    assert compared.differences and from_json(Comparison, compared.as_json()) == compared


def test_many_that_are_missing_are_counted() -> None:
    told = missing_text([Missing(f"r{i}", "accuracy", f"do {i}") for i in range(23)])
    assert told.splitlines()[0] == "Not measured:" and told.splitlines()[1] == "  r0: accuracy; `do 0`"
    assert told.splitlines()[21:] == ["  and 3 more; --json names all"]


def test_many_times_that_spread_are_counted(tmp_path: Path) -> None:
    noisy = [replace(measurement(1.0, source=f"n{i}"), timings=(Timing(1, 1.0, 0.9, 3.0, 9),)) for i in range(8)]
    (tmp_path / "m.jsonl").write_text(lines(noisy))
    assert compare([tmp_path / "m.jsonl"]).warnings[4:] == (
        "n4: its times spread widely, quartiles 0.900 ms to 3.00 ms at batch 1; measure again when nothing else runs",
        "the times of 3 more spread widely too",
    )


def test_torch_in_fp32_is_shown_where_all_have_it_although_another_engine_is_newer(run_folder: Runs) -> None:
    def made(name: str) -> Path:
        return run_folder(name, evaluation(350), measurement(2.0, 30), measurement(1.0, 31, engine="openvino"))

    compared = compare([made("a"), made("b")])
    assert [e.timings[0].median_ms for e in compared.entries] == [2.0, 2.0]
    assert [[c.engine for c in e.measured] for e in compared.entries] == [["torch", "openvino"]] * 2
