"""Where each image of a tar file starts, from its headers; nothing is unpacked.

tarfile itself takes a damaged header in the middle for the end of the file (CPython 3.11 to 3.13), so images would be
lost without a word; here every file must end with tar's zero blocks.
"""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ...errors import BadData
from ..decoding import printable
from .manifest import BLOCK

READ = 4096  # bytes at once: a header, a label and the next header mostly lie together
LONGEST = 2**20  # bytes of a name or an extended header
REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


class Entry(NamedTuple):
    name: str
    offset: int  # bytes from the file's start to the content
    size: int


class Tar:
    """A tar file's regular entries in order, read by offset. Close it, or use it with `with`."""

    def __init__(self, path: Path):
        self.path = path
        self._handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self.size = os.fstat(self._handle).st_size
        self._held, self._at = b"", 0

    def __enter__(self) -> "Tar":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def read(self, offset: int, size: int) -> bytes:
        if not self._at <= offset <= offset + size <= self._at + len(self._held):
            self._held, self._at = os.pread(self._handle, max(size, READ), offset), offset
        return self._held[offset - self._at : offset - self._at + size]

    def entries(self) -> Iterator[Entry]:
        """Raises BadData, one line that names the file and the entry, where it is damaged, cut off or compressed."""
        if self.read(0, 2) == b"\x1f\x8b":
            raise BadData(f"{self._named()} is compressed, so images cannot be read from its middle; gunzip it")
        offset, last = 0, "its first byte"
        pax: dict[str, str] = {}  # what extended headers say of the next entry
        while True:
            header = self.read(offset, BLOCK)
            if len(header) < BLOCK:
                raise BadData(f"{self._named()} is cut off after {last}; fetch or write it again")
            if not any(header):
                return
            info = self._header(header, last)
            content = offset + BLOCK
            name = pax.pop("path", info.name)
            size = int(pax.pop("size", info.size))
            held = size if info.type in REGULAR or info.type not in tarfile.SUPPORTED_TYPES else 0
            if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE):
                held = info.size
            if content + held > self.size:
                raise BadData(f"{self._named()}: {printable(name)} is cut off; fetch or write the shard again")
            if info.type == tarfile.GNUTYPE_LONGNAME:
                pax["path"] = _text(self._extended(content, held, last).split(b"\0", 1)[0])
            elif info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                pax |= self._records(self._extended(content, held, last), last)
            elif info.type in REGULAR:
                last = printable(name)
                yield Entry(name, content, size)
            elif info.type == tarfile.GNUTYPE_SPARSE:
                raise BadData(f"{self._named()}: {printable(name)} is stored with holes; pack it without --sparse")
            offset = content + -(-held // BLOCK) * BLOCK

    def _header(self, header: bytes, last: str) -> tarfile.TarInfo:
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            info = None
        if info is None or info.size < 0:
            raise BadData(f"{self._named()} is damaged after {last}; fetch or write it again")
        return info

    def _extended(self, offset: int, size: int, last: str) -> bytes:
        if size > LONGEST:
            raise BadData(f"{self._named()} is damaged after {last}; fetch or write it again")
        return self.read(offset, size)

    def _records(self, content: bytes, last: str) -> dict[str, str]:
        """The path and size of a pax header: records "LENGTH KEY=VALUE\\n"."""
        found = {}
        try:
            while content and content[0]:
                length = int(content.split(b" ", 1)[0])
                key, value = content[:length].split(b" ", 1)[1].rstrip(b"\n").split(b"=", 1)
                if key == b"path" or (key == b"size" and int(value) >= 0):
                    found[key.decode()] = _text(value)
                if length <= 0:
                    raise ValueError
                content = content[length:]
        except (ValueError, IndexError):
            raise BadData(f"{self._named()} is damaged after {last}; fetch or write it again") from None
        return found

    def _named(self) -> str:
        return printable(str(self.path))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
