"""Archives of measurements: the newest line of everything, damaged lines named, 100,000 lines in bounds."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.compare import Entry, Limits, choose, compare
from convatlas.compare.archive import read_archives
from convatlas.errors import UsageError
from convatlas.record import to_json
from convatlas.result import Result, Timing, lines

from .conftest import MACHINE, Runs, evaluation, measurement

OTHER = replace(MACHINE, processor="Processor Y")


def archive(path: Path, *results: Result) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(lines(results))
    return path


def line(ms: float, when: int = 30, source: str = "lenet5", **fields: object) -> Result:
    return measurement(ms, when, source=source, **fields)


def test_the_newest_line_of_each_engine_precision_and_machine_is_kept(tmp_path: Path) -> None:
    file = archive(
        tmp_path / "m.jsonl",
        line(2.0, 30),
        line(3.0, 31, engine="openvino"),
        line(1.5, 40),
        line(1.9, 35),  # an older one that comes later, as after two archives were joined
        line(1.0, 41, precision="bf16"),
        line(9.0, 42, machine=OTHER),
    )
    (entry,) = compare([file]).entries
    assert (entry.name, entry.folder, entry.mark, entry.network) == ("lenet5", "lenet5", "measurement", "lenet5")
    assert [(c.engine, c.precision, c.timings[0].median_ms, c.machine.processor) for c in entry.curves] == [
        ("torch", "fp32", 9.0, "Processor Y"),
        ("openvino", "fp32", 3.0, "Processor X"),
        ("torch", "bf16", 1.0, "Processor X"),
        ("torch", "fp32", 1.5, "Processor X"),
    ]
    assert entry.timings == entry.curves[0].timings and entry.machine == OTHER
    assert [c.engine for c in entry.measured] == ["torch"]  # of the machine whose times are shown
    assert (entry.accuracy, entry.class_count, entry.weights_bytes) == (None, 2, 247_000)


def test_runs_and_archives_show_the_machine_and_engine_that_the_runs_share(run_folder: Runs, tmp_path: Path) -> None:
    run = run_folder("a", evaluation(350), measurement(2.0, 30))
    file = archive(tmp_path / "m.jsonl", line(9.0, 50, machine=OTHER), line(3.0, 31), line(1.0, 51, engine="openvino"))
    _, entry = compare([run, file]).entries
    assert [(c.engine, c.machine.processor) for c in entry.curves] == [
        ("torch", "Processor X"),
        ("openvino", "Processor X"),
        ("torch", "Processor Y"),
    ]
    assert entry.timings[0].median_ms == 3.0


def test_lines_of_one_source_are_told_apart_by_input_and_classes(tmp_path: Path) -> None:
    file = archive(
        tmp_path / "results" / "measurements.jsonl",
        line(1.0),
        line(2.0, input=(1, 64, 64)),
        line(2.0, input=(1, 64, 64), classes=10),
        line(2.0, source=""),
    )
    assert [e.name for e in compare([file.parent]).entries] == [
        "lenet5 at 1x32x32",
        "lenet5 at 1x64x64, 2 classes",
        "lenet5 at 1x64x64, 10 classes",
        "lenet5 at 1x32x32, 2",
    ]


def test_lines_that_measured_a_run_folder_count_as_the_runs(run_folder: Runs, tmp_path: Path) -> None:
    run = run_folder("a", evaluation(350), measurement(2.0, 30))
    file = archive(
        tmp_path / "m.jsonl",
        line(1.0, 40, source=str(run), engine="openvino"),
        line(1.5, 41, source=f"{run}/"),
        line(4.0, 42, source="elsewhere/a"),
    )
    mine, other = compare([run, file]).entries
    assert [(c.engine, c.timings[0].median_ms) for c in mine.curves] == [("torch", 1.5), ("openvino", 1.0)]
    assert (other.name, other.mark) == ("elsewhere/a", "measurement")
    choice = choose(compare([run, file]), Limits(max_ms=1.2))
    assert choice.pick == "a" and "1.00 ms at batch 1 with openvino in fp32" in choice.verdict


def test_lines_of_another_network_in_that_folder_are_not_the_runs(run_folder: Runs, tmp_path: Path) -> None:
    run = run_folder("a", evaluation(350), measurement(2.0, 30))
    file = archive(tmp_path / "m.jsonl", line(1.0, 40, source=str(run), params=5))
    assert [[c.timings[0].median_ms for c in e.curves] for e in compare([run, file]).entries] == [[2.0]]


def test_an_archive_may_hold_accuracies(tmp_path: Path) -> None:
    file = archive(
        tmp_path / "m.jsonl",
        line(1.0, source="runs/a"),
        evaluation(300, 20, source="runs/a"),
        evaluation(340, 21, source="runs/a"),
        line(1.0, source="runs/b"),
    )
    a, b = compare([file]).entries
    assert a.accuracy is not None and a.accuracy.correct == 340 and b.accuracy is None
    choice = choose(compare([file]), Limits())
    assert (choice.pick, a.mark) == ("runs/a", "measurement")
    assert [(m.run, m.what, m.command) for m in choice.missing] == [
        ("runs/b", "accuracy", "convatlas train lenet5 DATA")
    ]


def test_damaged_lines_are_named_and_skipped(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    good = to_json(line(1.0))
    file.write_bytes(b"\n".join([b"{", good.encode(), b"", b'{"kind":"x"}', b"\xff\xfe", b"null", good.encode()[:99]]))
    compared = compare([file])
    assert [e.name for e in compared.entries] == ["lenet5"]
    (warning,) = compared.warnings
    assert warning == (
        f"{file}: 5 lines cannot be read and are skipped (line 1: Input data was truncated; line 4: Invalid enum value "
        "'x' - at `$.kind`; line 5: JSON is malformed: invalid character (byte 0); and 2 more)"
    )
    file.write_text("{\n" + good)
    assert compare([file]).warnings == (
        f"{file}: 1 line cannot be read and is skipped (line 1: Input data was truncated)",
    )


@pytest.mark.parametrize("content", ["", "\n\n", "{}\n"])
def test_a_file_without_any_result_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "m.jsonl"
    file.write_text(content)
    with pytest.raises(UsageError) as caught:
        compare([file])
    assert str(caught.value) == (
        f"{file} holds no result; give an archive that `convatlas measure` writes, one JSON a line"
    )


def test_a_file_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = archive(tmp_path / "m.jsonl", line(1.0))

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(UsageError) as caught:
        read_archives([file])
    assert str(caught.value) == f"{file} cannot be read: Permission denied"


def test_files_of_several_archives_are_one(tmp_path: Path) -> None:
    archive(tmp_path / "r" / "a.jsonl", line(1.0, 30))
    archive(tmp_path / "r" / "b.jsonl", line(2.0, 40))
    (entry,) = compare([tmp_path / "r", tmp_path / "r" / "a.jsonl"]).entries
    assert isinstance(entry, Entry) and entry.timings[0].median_ms == 2.0


# ---- Size ------------------------------------------------------------------------------------------------------------


def big(path: Path, count: int, sources: int, judged: bool) -> None:
    """`count` lines of seven batch sizes each, of `sources` different networks and three engines."""
    batches = tuple(Timing(b, 1.0 * b, 0.9 * b, 1.1 * b, 50, 10**8, 0.1 * b) for b in (1, 2, 4, 8, 16, 32, 64))
    base = replace(line(1.0), timings=batches, method="a method in a long sentence, as it is in a real archive " * 4)
    accuracy = evaluation(300) if judged else base
    whole = to_json(replace(base, accuracy=accuracy.accuracy, data=accuracy.data, source="runs/NAME", engine="ENGINE"))
    with path.open("w") as file:
        for i in range(count):
            text = whole.replace("NAME", str(i % sources)).replace("ENGINE", ("torch", "eager", "openvino")[i % 3])
            file.write(f"{text}\n")


def cost(*sources: Path) -> tuple[float, float]:
    """Seconds of processor time and the most memory in MB of a process that chooses over the sources."""
    code = (
        "import sys, time; from convatlas.compare import Limits, choose, compare\n"
        "choice = choose(compare(sys.argv[1:]), Limits(max_ms=20)); assert choice.pick, choice; choice.as_text()\n"
        "kb = next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM'))\n"
        "print(time.process_time(), int(kb) * 1024 / 1e6)"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, sources)], capture_output=True, text=True, check=True)
    seconds, mb = map(float, done.stdout.split())
    return seconds, mb


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")


@needs_proc
@pytest.mark.parametrize("sources", [50, 10_000])
def test_choosing_over_ten_thousand_lines_is_light(run_folder: Runs, tmp_path: Path, sources: int) -> None:
    file = tmp_path / "m.jsonl"
    big(file, 10_000, sources, judged=True)
    seconds, mb = cost(run_folder("a", evaluation(350), measurement(2.0)), file)
    assert seconds < 5 and mb < 250
    if sources == 50:
        assert mb < 60  # only the newest lines are kept


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("sources", [50, 100_000])
def test_choosing_over_a_hundred_thousand_lines_keeps_ten_seconds_and_a_gigabyte(
    run_folder: Runs, tmp_path: Path, sources: int
) -> None:
    file = tmp_path / "m.jsonl"
    big(file, 100_000, sources, judged=True)
    seconds, mb = cost(run_folder("a", evaluation(350), measurement(2.0)), file)
    assert seconds < 10 and mb < 1000
