"""The archive: whole lines whatever happens, and what got slower on the same machine."""

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.errors import SaveFailed, UsageError
from convatlas.measure import archive
from convatlas.measure.archive import Slower, append, read, slower
from convatlas.record import to_json
from convatlas.result import Machine, Result, Timing, read_results

LONG = 20_000  # characters, more than a page and than a pipe's atomic write


def test_lines_are_added_and_read_back(tmp_path: Path, result: Result) -> None:
    folder = tmp_path / "a" / "results"
    assert read(folder) == []
    append(folder, [result, replace(result, engine="onnxruntime")])
    before = (folder / "measurements.jsonl").read_bytes()
    append(folder, [replace(result, precision="bf16")])
    assert (folder / "measurements.jsonl").read_bytes().startswith(before)
    assert [(r.engine, r.precision) for r in read(folder)] == [
        ("torch", "fp32"),
        ("onnxruntime", "fp32"),
        ("torch", "bf16"),
    ]
    assert read_results(folder / "measurements.jsonl") == read(folder) == read(folder / "measurements.jsonl")


def write_many(folder: Path, result: Result, name: str, count: int) -> None:
    for i in range(count):
        append(folder, [replace(result, source=f"{name}-{i}", method=name * LONG)])


def test_two_commands_at_once_tear_no_line(tmp_path: Path, result: Result) -> None:
    start = multiprocessing.get_context("fork")
    count = 40
    writers = [start.Process(target=write_many, args=(tmp_path, result, name, count)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    damaged: list[str] = []
    found = read(tmp_path, damaged.append)
    assert damaged == []
    for name in "abc":
        own = [r for r in found if r.source.startswith(name)]
        assert [r.source for r in own] == [f"{name}-{i}" for i in range(count)]
        assert {r.method for r in own} == {name * LONG}


def test_a_line_is_one_write_at_the_files_end(tmp_path: Path, result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two opened at once, each writing where the other has written meanwhile."""
    written: list[bytes] = []
    real = os.write

    def write(handle: int, data: bytes) -> int:
        written.append(bytes(data))
        if len(written) == 1:
            append(tmp_path, [replace(result, source="between")])
        return real(handle, data)

    monkeypatch.setattr(os, "write", write)
    append(tmp_path, [result])
    assert [r.source for r in read(tmp_path)] == ["between", "lenet5_relu"]
    assert [w.count(b"\n") for w in written] == [1, 1]


def test_damaged_lines_are_named_and_kept(tmp_path: Path, result: Result) -> None:
    append(tmp_path, [result])
    file = tmp_path / "measurements.jsonl"
    whole = file.read_bytes()
    damage = whole[: len(whole) // 2]
    file.write_bytes(whole + b'{"kind": "other"}\n' + damage)  # the last one as a crash leaves it
    append(tmp_path, [replace(result, source="after")])
    assert file.read_bytes().startswith(whole + b'{"kind": "other"}\n' + damage + b"\n")
    damaged: list[str] = []
    assert [r.source for r in read(tmp_path, damaged.append)] == ["lenet5_relu", "after"]
    assert [line.partition(":")[0] for line in damaged] == [
        f"{file}, line {n} cannot be read and is passed over" for n in (2, 3)
    ]


def test_a_full_disk_is_said_and_the_lines_before_stay(
    tmp_path: Path, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(tmp_path, [result])
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:100]))
    with pytest.raises(SaveFailed) as caught:
        append(tmp_path, [result])
    file = tmp_path / "measurements.jsonl"
    assert str(caught.value).startswith(f"cannot write {file}: the disk took a part of the line; ")
    monkeypatch.setattr(os, "write", real)
    append(tmp_path, [replace(result, source="after")])
    assert [r.source for r in read(tmp_path)] == ["lenet5_relu", "after"]


def test_a_place_that_cannot_be_an_archive(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.touch()
    with pytest.raises(UsageError) as caught:
        read(file)
    assert str(caught.value) == f"archive {file} is no folder and no .jsonl file; give a folder like results"


MACHINE = Machine("Processor X", 2, 8 * 10**9, "Linux x86_64", "cpu", 2)


def test_what_got_more_than_a_tenth_slower_is_flagged(result: Result) -> None:
    now = replace(result, when="2026-11-25T10:00:00+00:00", timings=(Timing(1, 2.21, 2, 3, 9), Timing(8, 11, 9, 12, 9)))
    assert slower(now, [result]) == (Slower(1, 2.0, 2.21, result.when),)  # 11 of 10 ms is just 10 %
    assert slower(now, [result])[0].times == pytest.approx(1.105)
    assert slower(result, [now]) == ()


def test_it_is_the_last_line_that_counts(result: Result) -> None:
    slow = replace(result, timings=(Timing(1, 9.0, 8, 10, 9),))
    only_8 = replace(result, timings=(Timing(8, 10.0, 9, 11, 9),))
    now = replace(result, timings=(Timing(1, 5.0, 4, 6, 9), Timing(8, 10.5, 9, 11, 9)))
    assert slower(now, [result, slow, only_8]) == ()
    assert [s.before_ms for s in slower(now, [slow, result, only_8])] == [2.0]


@pytest.mark.parametrize(
    "other",
    [
        {"machine": replace(MACHINE, processor="Processor Y")},
        {"machine": replace(MACHINE, cores=4)},
        {"machine": replace(MACHINE, threads=1)},
        {"machine": replace(MACHINE, device="cuda, X")},
        {"machine": replace(MACHINE, system="Darwin arm64")},
        {"network": "lenet5"},
        {"input": (3, 32, 32)},
        {"classes": 12},
        {"engine": "eager"},
        {"precision": "bf16"},
        {"kind": "evaluation"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_only_the_same_on_the_same_machine_is_compared(result: Result, other: dict) -> None:
    now = replace(result, timings=(Timing(1, 20.0, 19, 21, 9),))
    assert slower(now, [result])
    assert slower(now, [replace(result, **other)]) == ()
    # Memory is read anew at each start, and a folder may be named in another way.
    assert slower(now, [replace(result, source="./x", machine=replace(MACHINE, memory_bytes=1))])


def test_the_file_is_named_by_its_folder_or_itself(tmp_path: Path) -> None:
    assert archive.place(tmp_path) == tmp_path / "measurements.jsonl"
    assert archive.place(tmp_path / "x.jsonl") == tmp_path / "x.jsonl"
    assert to_json(Slower(1, 2, 3, "")) == '{"batch":1,"before_ms":2,"now_ms":3,"when":""}'
