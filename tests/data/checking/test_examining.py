"""Promise R5: 200 bad files of 24 kinds among 2,000, each named, none changed, no false alarm."""

import hashlib
import os
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.data import Check, check, open_data
from convatlas.data.checking.examining import misnamed
from convatlas.errors import BadImage

BAD, ALL = 200, 2000
UNKNOWN = "no image of a known format (JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF)"


def encoded(seed: int, format: str, mode: str = "RGB") -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(noise).convert(mode).save(file, format)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, colour: int = 2) -> bytes:
    """A PNG of which only the header is there, and a little data."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def half(format: str) -> Callable[[int], bytes]:
    return lambda seed: (content := encoded(seed, format))[: len(content) // 2]


def deep(mode: str) -> Callable[[int], bytes]:
    return lambda seed: encoded(seed, "TIFF", mode)


def broken_sum(seed: int) -> bytes:
    content = bytearray(encoded(seed, "PNG"))
    at = content.index(b"IDAT")
    content[at + 40] ^= 0xFF
    return bytes(content)


# What stands in the file, its extension, and how the reason begins.
KINDS: dict[str, tuple[Callable[[int], bytes], str, str]] = {
    "empty": (lambda _: b"", ".jpg", "the file is empty"),
    "noise": (lambda seed: b"\1" + np.random.default_rng(seed).bytes(400), ".jpg", UNKNOWN),
    "zeros": (lambda _: bytes(500), ".png", UNKNOWN),
    "page": (lambda seed: f"<html>404 {seed}</html>".encode(), ".jpg", UNKNOWN),
    "drawing": (lambda _: b'<svg xmlns="http://www.w3.org/2000/svg"/>', ".png", UNKNOWN),
    "archive": (lambda _: b"PK\3\4" + bytes(100), ".webp", UNKNOWN),
    "document": (lambda _: b"%PDF-1.7\n" + bytes(100), ".tif", UNKNOWN),
    "half a JPEG": (half("JPEG"), ".jpg", "damaged: truncated File Read"),
    "half a PNG": (half("PNG"), ".png", "damaged: image file is truncated"),
    "half a WebP": (half("WEBP"), ".webp", "damaged: could not create decoder object"),
    "half a BMP": (half("BMP"), ".bmp", "damaged: image file is truncated"),
    "half a GIF": (half("GIF"), ".gif", "its GIF header is damaged"),
    "half a TIFF": (half("TIFF"), ".tiff", "damaged: image file is truncated"),
    "half an AVIF": (half("AVIF"), ".avif", UNKNOWN),
    "JPEG without an image": (lambda _: b"\xff\xd8\xff\xd9", ".jpg", "its JPEG header is damaged"),
    "PNG of another sum": (broken_sum, ".png", "damaged: broken data stream when reading image file"),
    "PNG of no width": (lambda _: png(0, 9), ".png", "its PNG header is damaged"),
    "PNG that ends early": (lambda _: png(40, 40), ".png", "damaged: image file is truncated"),
    "bomb in its header": (lambda _: png(12_000, 12_000), ".png", "12,000 x 12,000 pixels are more than"),
    "larger bomb": (lambda _: png(60_000, 60_000), ".png", "its pixels are more than the 100,000,000 allowed"),
    "32-bit integers": (deep("I"), ".tif", "32-bit pixels have no agreed range; save it with 8 or 16 bits"),
    "floating point": (deep("F"), ".tif", "32-bit pixels have no agreed range; save it with 8 or 16 bits"),
    "link to nothing": (lambda _: b"", ".jpg", "no such file or directory"),
    "pipe": (lambda _: b"", ".jpg", "not a regular file"),
}  # fmt: skip
GOOD = [("JPEG", ".jpg", "RGB"), ("PNG", ".png", "RGBA"), ("WEBP", ".webp", "RGB"), ("BMP", ".bmp", "L"),
        ("GIF", ".gif", "P"), ("TIFF", ".tif", "CMYK"), ("PNG", ".PNG", "L"), ("JPEG", ".jpeg", "L")]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("mixed")
    for name in ("cat", "dog"):
        (place / name).mkdir()
    kinds = list(KINDS)
    for i in range(ALL):
        stem = place / ("cat", "dog")[i % 2] / f"{i:04d}"
        if i % (ALL // BAD):
            format, suffix, mode = GOOD[i % len(GOOD)]
            stem.with_suffix(suffix).write_bytes(encoded(i, format, mode))
            continue
        kind = kinds[(i // (ALL // BAD)) % len(kinds)]
        make, suffix, _ = KINDS[kind]
        path = stem.with_name(f"{stem.name} {kind}{suffix}")
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "link to nothing":
            path.symlink_to("nowhere.jpg")
        else:
            path.write_bytes(make(i))
    return place


def state(place: Path) -> dict[Path, tuple[int, int, bytes]]:
    about = ((p, p.lstat()) for p in place.rglob("*"))
    return {
        p: (a.st_mtime_ns, a.st_mode, hashlib.sha256(p.read_bytes()).digest() if p.is_file() else b"") for p, a in about
    }


@pytest.fixture(scope="module")
def checked(folder: Path) -> Check:
    before = state(folder)
    found = check(folder)
    assert state(folder) == before, "a check changes nothing"
    return found


def test_every_bad_file_is_named_with_its_reason_and_no_good_one(folder: Path, checked: Check) -> None:
    given = {str(p) for p in folder.rglob("*") if " " in p.name.split(".")[0]}
    assert len(given) == BAD
    assert {b.path for b in checked.bad} == given
    for bad in checked.bad:
        kind = Path(bad.path).stem[5:]
        assert bad.reason.startswith(KINDS[kind][2]), bad
        assert bad.reason and bad.reason.isprintable() and "\n" not in bad.reason and folder.name not in bad.reason


def test_the_counts_are_exact(checked: Check) -> None:
    assert sum(s.images for s in checked.splits) == ALL
    assert sum(s.bad for s in checked.splits) == len(checked.bad) == BAD
    for split in checked.splits:
        assert sum(split.modes.values()) == sum(split.formats.values()) == split.images - split.bad
        assert sum(split.per_class.values()) == split.images
    total = {f: sum(s.formats.get(f, 0) for s in checked.splits) for f in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")}
    numbers = [i for i in range(ALL) if i % (ALL // BAD)]
    assert total == {f: sum(GOOD[i % len(GOOD)][0] == f for i in numbers) for f in total}
    assert checked.duplicates == () and checked.misnamed == () and checked.plain == ()


def test_the_whole_set_is_read_image_by_image(folder: Path, checked: Check) -> None:
    """What training does with it: the same files are bad, for the same reasons."""
    bad = {}
    for split in open_data(folder).splits.values():
        for i in range(len(split)):
            try:
                split.picture(i, 3)
            except BadImage as error:
                bad[split.named(i)] = str(error)
    assert bad == {b.path: f"{b.path}: {b.reason}" for b in checked.bad}


@pytest.mark.parametrize(
    ("name", "format", "wrong"),
    [("a.jpg", "JPEG", False), ("a.JFIF", "JPEG", False), ("a.jpg", "PNG", True), ("a.tiff", "TIFF", False),
     ("a.dib", "BMP", False), ("a.avif", "WEBP", True), ("train image 4", "PNG", False)],
)  # fmt: skip
def test_extensions(name: str, format: str, wrong: bool) -> None:
    assert misnamed(name, format) is wrong
