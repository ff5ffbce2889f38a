"""Images that lie in shards, read by their place; shards lie in a folder or behind an address."""

import errno
import hashlib
import json
import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tarfile import HeaderError, TarInfo

import numpy as np

from ...errors import BadData, BadImage, SaveFailed
from ..decoding import BYTES, printable
from . import fetching
from .cache import Cache
from .manifest import BLOCK, Shard, Sum
from .order import Order

OPEN = 64  # shards that a process holds open
RACES = 5  # times that a cached file may vanish between finding and opening it


@dataclass(frozen=True)
class Local:
    """Shards below a folder."""

    root: Path

    def place(self, name: str) -> str:
        return printable(str(self.root / name))

    def path(self, shard: Shard) -> Path:
        return self.root / shard.name


@dataclass(frozen=True)
class Remote:
    """Shards at an http or https address; each is fetched whole when its first image is needed."""

    url: str
    cache: Cache

    def place(self, name: str) -> str:
        return printable(fetching.beside(self.url, name))

    def path(self, shard: Shard) -> Path:
        return self.fetched(Sum(shard.name, shard.bytes, shard.sha256))

    def fetched(self, file: Sum) -> Path:
        """Raises BadData when it cannot be had or its sum is wrong, SaveFailed where the disk refuses."""
        url = fetching.beside(self.url, file.name)
        return self.cache.get(file.sha256, file.bytes, lambda path: fetching.to_file(url, file, path))


class _Handles:
    """Open shards of one process, the one used longest ago closed first. A copy in another process starts empty."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._process, self._lock = os.getpid(), threading.Lock()
        self._open: OrderedDict[int, int] = OrderedDict()

    def __reduce__(self) -> tuple[type["_Handles"], tuple[()]]:
        return _Handles, ()

    def read(self, number: int, opened: Callable[[], int], size: int, offset: int) -> bytes:
        if self._process != os.getpid():  # after a fork; the parent's lock may have been held
            self._begin()
        with self._lock:
            if number not in self._open:
                if len(self._open) >= OPEN:
                    os.close(self._open.popitem(last=False)[1])
                self._open[number] = opened()
            self._open.move_to_end(number)
            return os.pread(self._open[number], size, offset)

    def __del__(self) -> None:
        if self._process == os.getpid():
            for handle in self._open.values():
                os.close(handle)


@dataclass(frozen=True, eq=False)
class Shards:
    """Images as bytes, each by its shard and its place in it; fulfils `Stored`.

    shard, block, size, crc uint32 (N,): number of the shard; where the bytes start, in units of 512; their number; and
    their CRC-32, None where no manifest gives it.
    """

    home: Local | Remote
    shards: tuple[Shard, ...]
    shard: np.ndarray
    block: np.ndarray
    size: np.ndarray
    crc: np.ndarray | None = None
    _handles: _Handles = field(default_factory=_Handles, repr=False)

    def __len__(self) -> int:
        return len(self.shard)

    def name(self, number: int) -> str:
        """The shard's place and the entry's name in it, which stands just before its bytes."""
        place = self.home.place(self._of(number).name)
        try:
            header = self._bytes(number, BLOCK, self._offset(number) - BLOCK)
            entry = TarInfo.frombuf(header, "utf-8", "surrogateescape").name
        except (BadData, OSError, HeaderError):
            entry = f"the image at byte {self._offset(number)}"
        return f"{place}: {printable(entry)}"

    def key(self, number: int) -> bytes:
        return os.fsencode(f"{self._of(number).name}@{self._offset(number)}")

    def read(self, number: int) -> bytes:
        """Raises BadImage for an image that is not as its manifest says, BadData for a shard that cannot be had.

        Raises SaveFailed where the cache cannot be written.
        """
        size = int(self.size[number])
        if size > BYTES:
            raise BadImage(f"{self.name(number)}: {size:,} bytes are more than the {BYTES:,} allowed")
        try:
            content = self._bytes(number, size, self._offset(number))
        except SaveFailed:  # an OSError too: the cache's disk is full
            raise
        except OSError as error:
            raise BadImage(f"{self.name(number)}: {(error.strerror or str(error)).lower()}") from None
        if len(content) < size:
            raise BadImage(f"{self.name(number)}: its shard was cut off after it was opened")
        if self.crc is not None and zlib.crc32(content) != int(self.crc[number]):
            raise BadImage(f"{self.name(number)}: its bytes differ from the manifest's sum; its shard was damaged")
        return content

    def take(self, positions: np.ndarray) -> "Shards":
        crc = None if self.crc is None else self.crc[positions]
        shard, block, size = self.shard[positions], self.block[positions], self.size[positions]
        return Shards(self.home, self.shards, shard, block, size, crc, self._handles)

    def order(self, stream: int) -> Order:
        return Order(self.shard, stream)

    def digest(self) -> str | None:
        """sha256 over the shards' sums and each image's place, without reading them; None without a manifest.

        Every image is compared with the manifest's sum when it is read.
        """
        if self.crc is None or not all(shard.sha256 for shard in self.shards):
            return None
        total = hashlib.sha256(json.dumps([shard.sha256 for shard in self.shards]).encode())
        for column in (self.shard, self.block, self.size, self.crc):
            total.update(np.ascontiguousarray(column, "<u4").data)
        return total.hexdigest()

    def _of(self, number: int) -> Shard:
        return self.shards[int(self.shard[number])]

    def _offset(self, number: int) -> int:
        return int(self.block[number]) * BLOCK

    def _bytes(self, number: int, size: int, offset: int) -> bytes:
        shard = int(self.shard[number])
        return self._handles.read(shard, lambda: self._opened(self.shards[shard]), size, offset)

    def _opened(self, shard: Shard) -> int:
        try:
            for _ in range(RACES):
                try:
                    handle = os.open(self.home.path(shard), os.O_RDONLY | getattr(os, "O_BINARY", 0))
                    break
                except FileNotFoundError:
                    if isinstance(self.home, Local):
                        raise
            else:
                raise FileNotFoundError(errno.ENOENT, "it is removed from the cache at once; give the cache more room")
        except SaveFailed:
            raise
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise BadData(f"{self.home.place(shard.name)} cannot be read: {reason}") from None
        size = os.fstat(handle).st_size
        if size != shard.bytes:
            os.close(handle)
            raise BadData(
                f"{self.home.place(shard.name)} has {size:,} bytes, expected {shard.bytes:,}; fetch or write it again"
            )
        return handle
