"""Damaged files of every format, by chance: each is an image or a BadImage, and none ends the process (promise R5)."""

import os
import subprocess
import sys

import pytest

# Runs in a child, so that a crash of a decoder is a return code and not the end of the tests.
MUTATIONS = """
import io, random, sys
import numpy as np
from PIL import Image
from convatlas.data import decode
from convatlas.data.decoding import decode_crop, look
from convatlas.errors import BadImage

format, count = sys.argv[1], int(sys.argv[2])
y, x = np.mgrid[:40, :56]
picture = Image.fromarray(np.stack([x * 4, y * 6, (x * y) % 256], -1).astype(np.uint8))
seeds = []
for mode in ("RGB", "L", "P", "RGBA", "CMYK", "1"):
    for options in ({}, {"progressive": True}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}, {"quality": 9}):
        file = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        try:
            picture.convert(mode).save(file, format, exif=exif, **options)
            seeds.append(file.getvalue())
        except (OSError, ValueError, KeyError):
            pass
chance = random.Random(format)
good = bad = 0
for i in range(count):
    data = bytearray(chance.choice(seeds))
    kind = i % 5
    if kind == 0:
        del data[chance.randrange(len(data)):]
    elif kind == 1:
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
    elif kind == 2:
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(min(64, len(data)))] = chance.choice((0, 1, 127, 128, 255))
    elif kind == 3:
        at = chance.randrange(len(data))
        data[at:at + chance.randint(1, 40)] = chance.randbytes(chance.randint(0, 40))
    else:
        at, to = chance.randrange(len(data)), chance.randrange(len(data))
        data[at:at + 16] = data[to:to + 16]
    for work in (lambda: decode(bytes(data), 3),
                 lambda: decode_crop(bytes(data), 1, lambda w, h: (0, 0, max(w // 2, 1), max(h // 2, 1)), (4, 4)),
                 lambda: look(bytes(data)).picture):
        try:
            result = work()
            assert result.mode in ("RGB", "L") and min(result.size) > 0
            good += 1
        except BadImage as error:
            text = str(error)
            assert text.isprintable() and text.startswith("image of ") and len(text) < 250, repr(text)
            assert "0x" not in text and "<" not in text, text
            bad += 1
print(good, bad)
"""


def mutate(format: str, count: int) -> tuple[int, int]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-W", "error", "-c", MUTATIONS, format, str(count)]
    child = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert child.returncode == 0, f"{format}: exit {child.returncode}\n{child.stderr[-2000:]}"
    good, bad = map(int, child.stdout.split())
    return good, bad


FUZZED = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"]


@pytest.mark.parametrize("format", FUZZED)
def test_mutated_files_never_crash(format: str) -> None:
    good, bad = mutate(format, 100)
    assert good + bad == 300
    assert bad > 30  # the mutations do damage


@pytest.mark.slow
@pytest.mark.parametrize("format", FUZZED)
def test_many_mutated_files_never_crash(format: str) -> None:
    assert sum(mutate(format, 1500)) == 4500
