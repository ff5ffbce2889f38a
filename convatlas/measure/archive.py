"""The archive of measurements: results/measurements.jsonl, which grows by a line a case and loses none.

A line is appended by one write at the file's end (O_APPEND), so that two commands at once never mix theirs, and is
waited for (fsync). A damaged line is named and passed over; nothing is ever rewritten.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import files
from ..errors import SaveFailed, UsageError
from ..record import from_json
from ..result import Result, Timing, lines

FILE = "measurements.jsonl"
SLOWER = 1.1  # times the last line's median, from which a case is flagged


@dataclass(frozen=True)
class Slower:
    """A batch size that takes more than 10 % longer than when the same was last measured on the same machine."""

    batch: int
    before_ms: float
    now_ms: float
    when: str  # of the earlier line

    @property
    def times(self) -> float:
        return self.now_ms / self.before_ms


def place(archive: str | Path) -> Path:
    """The file of an archive that is named by its folder or by itself. Raises UsageError where it can be neither."""
    path = Path(archive)
    file = path if path.suffix == ".jsonl" else path / FILE
    if file.is_dir() or (path.exists() and not path.is_dir() and path != file):
        raise UsageError(f"archive {path} is no folder and no .jsonl file; give a folder like results")
    return file


def append(archive: str | Path, results: Sequence[Result]) -> None:
    """Adds each result as one line. Raises SaveFailed where the disk refuses; the lines before stay whole."""
    file = place(archive)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            for result in results:
                line = lines([result]).encode()
                if _cut_short(handle):
                    line = b"\n" + line
                if os.write(handle, line) < len(line):
                    raise OSError("the disk took a part of the line")
            os.fsync(handle)
        finally:
            os.close(handle)
        files.sync(file.parent)
    except OSError as error:
        raise SaveFailed(files.save_message(file, error)) from error


def _cut_short(handle: int) -> bool:
    """Whether the last line has no end, as a crash or a full disk leaves it; a new line must not continue it."""
    size = os.fstat(handle).st_size
    if not size:
        return False
    os.lseek(handle, size - 1, os.SEEK_SET)
    return os.read(handle, 1) != b"\n"


def read(archive: str | Path, damaged: Callable[[str], None] = lambda _: None) -> list[Result]:
    """All results, oldest first; none where there is no file. `damaged` is told of each line that is passed over."""
    file = place(archive)
    found = []
    try:
        # Lines end where JSON's writers end them: a text may hold U+2028, at which str.splitlines would cut it.
        with file.open("rb") as opened:
            for number, line in enumerate(opened, 1):
                if not line.strip():
                    continue
                try:
                    found.append(from_json(Result, line))
                except ValueError as error:
                    damaged(f"{file}, line {number} cannot be read and is passed over: {error}")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"archive {file} cannot be read: {error.strerror or error}; give another folder") from None
    return found


def slower(result: Result, before: Iterable[Result]) -> tuple[Slower, ...]:
    """The batch sizes that got more than 10 % slower than in the last earlier line about the same on this machine."""
    last: dict[int, tuple[Timing, str]] = {}
    for earlier in before:
        if _same(earlier) == _same(result):
            last |= {t.batch: (t, earlier.when) for t in earlier.timings}
    found = []
    for t in result.timings:
        if t.batch in last and t.median_ms > SLOWER * last[t.batch][0].median_ms:
            timing, when = last[t.batch]
            found.append(Slower(t.batch, timing.median_ms, t.median_ms, when))
    return tuple(found)


def _same(r: Result) -> tuple[object, ...]:
    """What must agree for two times to be about the same thing on the same machine."""
    m = r.machine
    network = r.kind, r.network, r.input, r.classes, r.engine, r.precision
    return *network, m.processor, m.cores, m.threads, m.device, m.system
