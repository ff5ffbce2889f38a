"""Writes a data set as shards, so that a stopped writing goes on and ends with the same bytes."""

import hashlib
import io
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy
from PIL import Image

from ... import files, record
from ...errors import BadData, BadImage, SaveFailed, UsageError
from .. import draws
from ..decoding import BYTES, EXTENSIONS, SIGNATURES, BadFile, printable
from ..sets import Data, Split
from ..stored import Paths
from . import manifest
from .locking import locked
from .manifest import COLUMNS, Manifest, Part, Shard, Sum
from .tar import TarWriter, total

Progress = Callable[[int, int], None]

SIZE = 10**9  # bytes of a shard
EXTENSION = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "WEBP": "webp"}
STEM = 48  # letters of a file's own name that are kept in the key; a tar header has room for 100
LOCK = ".lock"


@dataclass(frozen=True)
class Done:
    """A finished shard, and how many images of the split it used up, those left out too."""

    shard: Shard
    used: int
    left_out: tuple[BadFile, ...] = ()


@dataclass
class Journal:
    """What a stopped writing has finished."""

    source: str
    done: dict[str, list[Done]] = field(default_factory=dict)


class Member(NamedTuple):
    place: int  # in the order of writing
    name: str
    content: bytes
    label: int


def write(data: Data, out: Path, *, size: int = SIZE, progress: Progress | None = None) -> Manifest:
    """Writes every split of `data` into `out` as SPLIT-000000.tar and so on, with a manifest, sums and classes.txt.

    An image's file is copied byte for byte, pixels become PNG; KEY.cls beside it holds the class's number. No shard is
    larger than `size` bytes, but one that holds a single larger image. Images are in an order drawn once and for all,
    so that neighbours are of different classes. An image that cannot be read is left out and listed in the manifest.

    Shards appear whole. After a stop, the same call goes on behind the last of them; when all are there, it changes
    nothing. `progress(done, total)` is called after each image. Raises UsageError for a `size` below 1 or a folder that
    holds something else, BadData for shards of other data, SaveFailed where the disk refuses.
    """
    if size < 1:
        raise UsageError(f"size is {size}; give the bytes of a shard, such as {SIZE}")
    try:
        _accepted(out)
        out.mkdir(parents=True, exist_ok=True)
        with locked(out / LOCK, wait=False) as free:
            if not free:
                raise UsageError(f"another process writes shards into {printable(str(out))}; wait for it to end")
            return _Writing(data, out, size, progress).run()
    except SaveFailed:
        raise
    except OSError as error:
        raise SaveFailed(files.save_message(out, error)) from error


def _accepted(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"{printable(str(out))} is a file; give a new folder for the shards")
    held = {path.name for path in out.iterdir()} - {LOCK}
    begun = {manifest.WRITING, manifest.NAME} & held
    if held and not begun:
        raise UsageError(f"{printable(str(out))} holds other files ({printable(min(held))}); give a new folder")


class _Writing:
    def __init__(self, data: Data, out: Path, size: int, progress: Progress | None):
        self.data, self.out, self.size = data, out, size
        self.progress = progress or (lambda done, total: None)
        self.source = _source(data, size)
        self.images = sum(len(split) for split in data.splits.values())

    def run(self) -> Manifest:
        finished = self._finished()
        if finished is not None:
            self._tidy()
            self.progress(self.images, self.images)
            return finished
        self.journal = self._journal()
        parts = {}
        before = 0
        for name, split in self.data.splits.items():
            if not manifest.safe(name) or "/" in name:
                raise UsageError(f"a split named {name!r} cannot name files; use letters, digits, - and _")
            self._split(name, split, before)
            before += len(split)
            parts[name] = Part(self._index(name), tuple(d.shard for d in self.journal.done[name]))
        left_out = tuple(bad for done in self.journal.done.values() for d in done for bad in d.left_out)
        d = self.data
        found = Manifest(
            manifest.KIND, manifest.FORMAT, d.name, d.classes, d.channels, d.rule, self.source, parts, left_out
        )
        files.write(self.out / "classes.txt", "".join(f"{name}\n" for name in d.classes))
        sums = [(file.sha256, file.name) for part in parts.values() for file in part.files]
        files.write(self.out / files.SUMS, "".join(f"{sha256}  {name}\n" for sha256, name in sums))
        files.write(self.out / manifest.NAME, record.to_json(found, indent=1) + "\n")
        self._tidy()
        return found

    def _finished(self) -> Manifest | None:
        file = self.out / manifest.NAME
        if not file.is_file():
            return None
        found = manifest.parse(file.read_bytes(), printable(str(file)))
        if found.source != self.source:
            raise BadData(f"{printable(str(self.out))} holds shards of other data or another size; give a new folder")
        for s in (file for part in found.splits.values() for file in part.files):
            path = self.out / s.name
            if not path.is_file() or path.stat().st_size != s.bytes:
                raise BadData(
                    f"{printable(str(path))} is missing or not as its manifest says; remove {manifest.NAME} and the "
                    "shards, and write them again"
                )
        return found

    def _tidy(self) -> None:
        """Removes what only a stopped writing needs."""
        kept = (self.out / name for name in (manifest.WRITING, LOCK))
        for path in (*self.out.glob(".*.index.safetensors"), *self.out.glob(".*.tmp"), *kept):
            with suppress(OSError):
                path.unlink()

    def _journal(self) -> Journal:
        """What is finished, up to the first shard that is not there as it was."""
        file = self.out / manifest.WRITING
        if not file.is_file():
            journal = Journal(self.source)
            files.write(file, record.to_json(journal))
            return journal
        try:
            journal = record.from_json(Journal, file.read_bytes())
        except ValueError:
            raise BadData(f"{printable(str(file))} is damaged; remove the folder and write the shards again") from None
        if journal.source != self.source:
            raise BadData(
                f"the shards begun in {printable(str(self.out))} are of other data or another size; give a new folder"
            )
        for done in journal.done.values():
            sound = [self._is_sound(d.shard) for d in done]
            del done[sound.index(False) if False in sound else len(done) :]
        return journal

    def _is_sound(self, shard: Shard) -> bool:
        path = self.out / shard.name
        return path.is_file() and path.stat().st_size == shard.bytes and self._piece(shard.name).is_file()

    def _piece(self, shard: str) -> Path:
        """One shard's part of the index."""
        return self.out / f".{shard.removesuffix('.tar')}.index.safetensors"

    def _split(self, name: str, split: Split, before: int) -> None:
        """Writes a split's shards behind those that are finished; `before` images stand in the splits before it."""
        done = self.journal.done.setdefault(name, [])
        begins = sum(d.used for d in done)
        self.progress(before + begins, self.images)
        left_out: list[BadFile] = []
        members = _members(split, begins, left_out)
        member = next(members, None)
        while member is not None:
            path = self.out / f"{name}-{len(done):06}.tar"
            columns: dict[str, list[int]] = {column: [] for column in COLUMNS}
            with TarWriter(path) as tar:
                while member is not None and (not tar.bytes or self._fits(tar, member)):
                    _add(tar, member, columns)
                    self.progress(before + member.place + 1, self.images)
                    member = next(members, None)
                arrays = {column: np.array(values, np.uint32) for column, values in columns.items()}
                files.write(self._piece(path.name), manifest.packed(arrays))
                sha256 = tar.finish()
            ends = len(split) if member is None else member.place  # what is left out lies before the next member
            shard = Shard(path.name, len(columns["size"]), tar.bytes, sha256)
            done.append(Done(shard, ends - begins, tuple(left_out)))
            begins = ends
            left_out.clear()
            files.write(self.out / manifest.WRITING, record.to_json(self.journal))
        if not done:
            first = f"; first {left_out[0].path}: {left_out[0].reason}" if left_out else ""
            raise BadData(f"none of the {len(split):,} images of the {name} split can be read{first}")

    def _fits(self, tar: TarWriter, member: Member) -> bool:
        return total([len(member.content), len(str(member.label))], tar.bytes) <= self.size

    def _index(self, name: str) -> Sum:
        """Joins the pieces of a split's shards."""
        pieces = [safetensors.numpy.load_file(self._piece(d.shard.name)) for d in self.journal.done[name]]
        content = manifest.packed({column: np.concatenate([p[column] for p in pieces]) for column in COLUMNS})
        path = self.out / f"{name}.index.safetensors"
        files.write(path, content)
        return Sum(path.name, len(content), hashlib.sha256(content).hexdigest())


def _add(tar: TarWriter, member: Member, columns: dict[str, list[int]]) -> None:
    block = tar.add(member.name, member.content)
    tar.add(f"{member.name.partition('.')[0]}.cls", str(member.label).encode())
    for column, value in zip(
        COLUMNS, (block, len(member.content), zlib.crc32(member.content), member.label), strict=True
    ):
        columns[column].append(value)


def _members(split: Split, start: int, left_out: list[BadFile]) -> Iterator[Member]:
    """A split's images from a place of the order of writing on; `left_out` gets those that cannot be read."""
    # Drawn once: a window of a few shards must not hold a few classes, as it would in the order of class folders.
    order = draws.order(draws.key(0, draws.ORDER), len(split))
    for place in range(start, len(order)):
        number = int(order[place])
        try:
            content, suffix = _content(split, number)
        except (BadImage, OSError) as error:
            name = split.named(number)
            reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
            left_out.append(BadFile(name, reason.removeprefix(f"{name}: ")))
            continue
        name = f"{place:09}{_stem(split, number)}.{suffix}"
        yield Member(place, name, content, int(split.labels[number]))


def _content(split: Split, number: int) -> tuple[bytes, str]:
    """An image's bytes and the extension that they deserve."""
    given = split.given(number)
    if isinstance(given, np.ndarray):
        png = io.BytesIO()
        Image.fromarray(given).save(png, "PNG")
        return png.getvalue(), "png"
    if isinstance(given, bytes):
        return given, _extension(given, "")
    about = given.stat()
    if not stat.S_ISREG(about.st_mode):
        raise BadImage("not a regular file")  # opening a pipe would wait for ever
    if about.st_size > BYTES:
        raise BadImage(f"{about.st_size:,} bytes are more than the {BYTES:,} allowed")
    content = given.read_bytes()
    return content, _extension(content, given.suffix.lower())


def _extension(content: bytes, suffix: str) -> str:
    """By the first bytes, since WebDataset chooses its decoder by the extension; else the file's own."""
    for begin, kind in SIGNATURES:
        if content.startswith(begin):
            return EXTENSION[kind]
    if content[4:12] == b"ftypavif":
        return "avif"
    return suffix[1:] if suffix in EXTENSIONS else "jpg"


def _stem(split: Split, number: int) -> str:
    """The end of a file's own name below its split's folder, so that people find it again."""
    if not isinstance(split.stored, Paths):
        return ""
    stem = os.fsdecode(split.stored.key(number)).rpartition(".")[0]
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", stem)
    return f"_{plain[-STEM:]}" if plain else ""


def _source(data: Data, size: int) -> str:
    """sha256 over what decides the shards' bytes, short of the content of stored images."""
    told = [data.name, data.classes, data.channels, data.rule, size, manifest.FORMAT]
    digest = hashlib.sha256(record.to_json(told).encode())
    for name, split in data.splits.items():
        digest.update(f"\0{name}\0{len(split)}\0".encode())
        digest.update(np.ascontiguousarray(split.labels, "<i8").data)
        if split.images is not None:
            digest.update(repr(split.images.shape).encode())
            digest.update(np.ascontiguousarray(split.images).data)
        elif split.stored is not None:
            for number in range(len(split)):
                digest.update(split.stored.key(number) + b"\0")
    return digest.hexdigest()
