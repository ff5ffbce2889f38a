"""Files and folders that are either whole or absent, and the sums that prove it.

A crash, a full disk or a kill leaves the old file or the new one, never a part (reliability promises R1 and R4): write
beside, flush, fsync, rename, fsync the parent.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from .errors import SaveFailed

MANIFEST = "MANIFEST.json"
SUMS = "SHA256SUMS"
FORMAT = 1  # version of the manifest's own form


def sync(path: Path) -> None:
    """Wait until a file's or folder's content is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: Path, content: str | bytes) -> None:
    """Replace a file in one step. Raises SaveFailed with path and reason; the old file is then untouched."""
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync(path.parent)
    except OSError as error:
        _remove(beside)
        raise SaveFailed(save_message(path, error)) from error


def write_folder(folder: Path, fill: Callable[[Path], None], sums: str = MANIFEST) -> None:
    """Make a folder appear whole: `fill` writes into a temporary one, the sums are added, then it is renamed.

    `sums` names the file that proves the rest: MANIFEST.json, or SHA256SUMS for `sha256sum -c` to check. An older
    folder of that name is replaced. Raises SaveFailed; nothing is left of an attempt that failed.
    """
    beside = folder.with_name(f"tmp-{folder.name}-{os.getpid()}")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        fill(beside)
        names = sorted(p.relative_to(beside).as_posix() for p in beside.rglob("*") if p.is_file())
        for name in names:
            sync(beside / name)
        (beside / sums).write_text(_manifest(beside, names) if sums == MANIFEST else _sha256sums(beside, names))
        sync(beside / sums)
        for inner in sorted(p for p in beside.rglob("*") if p.is_dir()):
            sync(inner)
        sync(beside)
        if folder.exists():
            shutil.rmtree(folder)
        beside.rename(folder)
        sync(folder.parent)
    except SaveFailed:
        raise
    except OSError as error:
        raise SaveFailed(save_message(folder, error)) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _manifest(folder: Path, names: list[str]) -> str:
    return json.dumps({"format": FORMAT, "files": {n: stamp(folder / n) for n in names}}, indent=1)


def _sha256sums(folder: Path, names: list[str]) -> str:
    return "".join(f"{sha256(folder / n)}  {n}\n" for n in names)


def stamp(path: Path) -> dict[str, int | str]:
    """A file's size in bytes and its sha256."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damage(folder: Path) -> str | None:
    """What is wrong with a folder that `write_folder` made, in a few words; None when its manifest verifies."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files = manifest["files"]
        if manifest["format"] != FORMAT:
            return f"{MANIFEST} has format {manifest['format']}, this version reads {FORMAT}"
        return first_fault(folder, ((name, want["bytes"], want["sha256"]) for name, want in files.items()))
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"


def first_fault(folder: Path, expected: Iterable[tuple[str, int | None, str]]) -> str | None:
    """The first of (name, bytes or None, sha256) that does not hold, in a few words; None when all hold."""
    root = folder.resolve()
    for name, size, digest in expected:
        path = folder / name
        if not path.resolve().is_relative_to(root):
            return f"{name} lies outside the folder"
        if not path.is_file():
            return f"{name} is missing"
        if size is not None and path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, expected {size}"
        if sha256(path) != digest:
            return f"{name} was changed: its sha256 differs"
    return None


def save_message(path: Path, error: OSError) -> str:
    """One line for a write that the disk refused."""
    free = ""
    try:
        parent = next(p for p in (path, *path.parents) if p.exists())
        free = f"; {shutil.disk_usage(parent).free / 1e6:.1f} MB are free there"
    except (OSError, StopIteration):
        pass
    return f"cannot write {path}: {error.strerror or error}{free}; free some space or choose another folder"


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
