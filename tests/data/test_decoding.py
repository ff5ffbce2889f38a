"""Every damaged and odd file either decodes to the right pixels or gives its reason in one line."""

import hashlib
import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.data import decode
from convatlas.data.decoding import PIXELS, TURNS, Box, decode_crop, is_grey, look, quiet
from convatlas.errors import BadImage

# Every file whose name says that it is broken, and the suite's files x*, which are meant to fail
# (http://www.schaik.com/pngsuite)
BAD = {
    "pillow/broken.png": "its PNG header is damaged",
    "pillow/broken_data_stream.png": "damaged: unrecognized data stream contents when reading image file",
    "pillow/decompression_bomb.gif": "its pixels are more than the 100,000,000 allowed",
    "pillow/truncated_end_chunk.png": "damaged: truncated File Read",
    "pillow/truncated_image.png": "damaged: image file is truncated",
    "pillow/truncated_jpeg.jpg": "damaged: image file is truncated (8 bytes not processed)",
    "pillow/zero_width.gif": "its GIF header is damaged",
    "pngsuite/xc1n0g08.png": "its PNG header is damaged",
    "pngsuite/xdtn0g01.png": "damaged: cannot load this image",
    "pngsuite/xs1n0g01.png": "no image of a known format (JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF)",
}
SIZES = {
    "pillow/16bit.cropped.tif": (64, 64),
    "pillow/1_trns.png": (64, 64),
    "pillow/dispose_bgnd.gif": (100, 100),
    "pillow/hopper_bad_exif.jpg": (500, 500),
    "pillow/i_trns.png": (64, 64),
    "pillow/invalid-exif.jpg": (200, 200),
    "pillow/iss634.webp": (245, 245),
    "pillow/mode_16bit.png": (128, 64),
    "pillow/multipage.tiff": (10, 10),
    "pillow/p_trns_single.png": (64, 64),
    "pillow/pil_sample_cmyk.jpg": (100, 100),
    "pngsuite/s01n3p01.png": (1, 1),
} | {f"exif/Portrait_{i}.jpg": (1200, 1800) for i in range(9)}
FAMILY = {"pillow": (128, 128), "pngsuite": (32, 32)}


@pytest.fixture(scope="module")
def nasty(shared_data: Path) -> Path:
    return shared_data / "nasty"


def pixels(path: Path, channels: int = 3) -> np.ndarray:
    return np.asarray(decode(path, channels)).astype(int)


def test_each_nasty_file_decodes_or_gives_its_reason(nasty: Path) -> None:
    files = sorted(p for p in nasty.rglob("*") if p.is_file() and p.name != "LICENSE")
    assert len(files) == 49
    before = [(p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).digest()) for p in files]
    for path in files:
        name = path.relative_to(nasty).as_posix()
        for source in (path, path.read_bytes()):
            if name in BAD:
                with pytest.raises(BadImage) as caught:
                    decode(source, 3)
                where = path if source is path else f"image of {path.stat().st_size:,} bytes"
                assert str(caught.value) == f"{where}: {BAD[name]}"
                continue
            for channels, mode in ((1, "L"), (3, "RGB")):
                picture = decode(source, channels)
                assert picture.mode == mode, name
                assert picture.size == SIZES.get(name, FAMILY.get(name.split("/")[0])), name
    assert before == [(p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).digest()) for p in files]


@pytest.mark.parametrize("orientation", range(9))
def test_exif_orientations_come_out_upright(nasty: Path, orientation: int) -> None:
    upright = pixels(nasty / "exif/Portrait_1.jpg")
    turned = pixels(nasty / f"exif/Portrait_{orientation}.jpg")
    assert np.abs(turned - upright).mean() < 5  # each was compressed anew; sideways it would be about 60
    assert np.abs(turned[::-1] - upright).mean() > 30


def test_known_pixels_of_the_png_suite(nasty: Path) -> None:
    suite = nasty / "pngsuite"
    # basn0g01: black and white; basn0g16: 16-bit grey
    assert set(np.unique(pixels(suite / "basn0g01.png", 1))) == {0, 255}
    with Image.open(suite / "basn0g16.png") as picture:
        deep = np.asarray(picture).astype(float)
    assert np.abs(pixels(suite / "basn0g16.png", 1) - deep * 255 / 65535).max() <= 0.5
    colour = pixels(suite / "basn2c16.png")
    assert colour[0, 0].tolist() == [255, 255, 0] and colour[-1, -1].tolist() == [0, 0, 255]
    # basn4a08 and basn6a08: an alpha ramp, so white where it is clear
    for name in ("basn4a08", "basn6a08", "basn4a16"):
        with Image.open(suite / f"{name}.png") as picture:
            rgba = np.asarray(picture.convert("RGBA")).astype(float)
        share = rgba[..., 3:] / 255
        assert np.abs(pixels(suite / f"{name}.png") - (rgba[..., :3] * share + 255 * (1 - share))).max() <= 1
    # tbbn3p08 and tp1n3p08: palette with a transparent background; the corner is clear
    for name in ("tbbn3p08", "tp1n3p08"):
        assert pixels(suite / f"{name}.png")[0, 0].tolist() == [255, 255, 255]
    assert pixels(suite / "s01n3p01.png").tolist() == [[[0, 0, 255]]]


def test_odd_but_good_files(nasty: Path) -> None:
    hopper = pixels(nasty / "pillow/hopper.bmp")
    for name in ("gif", "webp", "avif"):
        assert np.abs(pixels(nasty / f"pillow/hopper.{name}") - hopper).mean() < 8
    assert np.abs(pixels(nasty / "pillow/hopper_orientation_6.jpg") - hopper).mean() < 8
    with Image.open(nasty / "pillow/dispose_bgnd.gif") as animation:
        first = np.asarray(animation.convert("RGB"))
    assert np.array_equal(pixels(nasty / "pillow/dispose_bgnd.gif"), first)
    cmyk = pixels(nasty / "pillow/pil_sample_cmyk.jpg")
    assert cmyk[0, 0, 0] > 200 and cmyk[0, 0, 1:].max() < 50  # red, not its inverse


def test_sixteen_bit_grey_is_scaled_and_its_clear_value_white() -> None:
    values = np.array([[0, 128, 257, 32768, 65534, 65535]], np.uint16)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    assert np.asarray(decode(file.getvalue(), 1)).tolist() == [[0, 0, 1, 128, 255, 255]]
    assert np.asarray(decode(png(values, clear=257), 1)).tolist() == [[0, 0, 255, 128, 255, 255]]
    tiff = io.BytesIO()
    Image.fromarray(values).save(tiff, "TIFF")
    assert np.asarray(decode(tiff.getvalue(), 1)).tolist() == [[0, 0, 1, 128, 255, 255]]


def png(values: np.ndarray, clear: int) -> bytes:
    """A 16-bit grey PNG with one transparent value, written by the specification."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"tRNS", struct.pack(">H", clear)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*p) for p in parts)


def jpeg(picture: Image.Image, orientation: int | None = None) -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    picture.save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


def scene(width: int = 96, height: int = 64) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    planes = [x * 255 / width, y * 255 / height, 128 + 60 * np.sin(x / 9) * np.cos(y / 7)]
    return Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8))


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "JPEG", "AVIF"])
def test_orientation_of_every_format_that_has_one(format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    scene().save(file, format, exif=exif)
    upright = np.asarray(decode(file.getvalue(), 3)).astype(int)
    expected = np.asarray(scene().transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert upright.shape == expected.shape
    assert np.abs(upright - expected).mean() < 6


@pytest.mark.parametrize("orientation", [None, *range(0, 10)])
def test_a_crop_equals_the_crop_of_the_whole(orientation: int | None) -> None:
    content = jpeg(scene(), orientation)
    whole = decode(content, 3)
    box: Box = (5, 11, 40, 49)
    seen = []

    def choose(width: int, height: int) -> Box:
        seen.append((width, height))
        return box

    part = decode_crop(content, 3, choose, (38, 35))
    assert seen == [whole.size]
    assert np.array_equal(np.asarray(part), np.asarray(whole.crop(box)))
    assert (orientation in TURNS) == (orientation in range(2, 9))


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_large_jpeg_is_decoded_smaller_and_shows_the_same(orientation: int, scale: int) -> None:
    content = jpeg(scene(640, 480), orientation)
    whole = decode(content, 3)
    box: Box = (64, 40, 64 + 32 * scale, 40 + 24 * scale)
    part = decode_crop(content, 3, lambda *_: box, (24, 32))
    assert abs(part.size[0] - 32) <= 1 and abs(part.size[1] - 24) <= 1
    expected = whole.crop(box).resize(part.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(part).astype(int) - np.asarray(expected).astype(int)).mean() < 3


def test_a_crop_of_other_formats_and_modes() -> None:
    for format, mode in (
        ("PNG", "RGB"),
        ("PNG", "L"),
        ("GIF", "P"),
        ("TIFF", "CMYK"),
        ("PNG", "RGBA"),
        ("PNG", "I;16"),
    ):
        picture = scene().convert("L").convert("I").convert("I;16") if mode == "I;16" else scene().convert(mode)
        file = io.BytesIO()
        picture.save(file, format)
        for channels in (1, 3):
            part = decode_crop(file.getvalue(), channels, lambda *_: (3, 4, 50, 60), (8, 8))
            whole = decode(file.getvalue(), channels)
            assert np.array_equal(np.asarray(part), np.asarray(whole.crop((3, 4, 50, 60)))), (format, mode)


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    for side, said in ((12_000, "12,000 x 12,000 pixels are more than the 100,000,000 allowed"),
                       (60_000, "its pixels are more than the 100,000,000 allowed")):  # fmt: skip
        head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
        path = tmp_path / f"bomb{side}.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 10**9) + b"IDAT")
        assert side * side > PIXELS
        with pytest.raises(BadImage) as caught:
            decode(path, 3)
        assert str(caught.value) == f"{path}: {said}"


def test_files_that_are_no_files_or_no_images(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("<!doctype html><p>404")
    (tmp_path / "empty.png").touch()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    Image.new("F", (2, 2)).save(tmp_path / "float.tiff")
    (tmp_path / "drawing.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    unknown = "no image of a known format (JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF)"
    expected = {
        "text.jpg": unknown,
        "drawing.png": unknown,
        "empty.png": "the file is empty",
        "loop.jpg": "too many levels of symbolic links",
        "gone.jpg": "no such file or directory",
        "absent.jpg": "no such file or directory",
        "pipe.jpg": "not a regular file",
        "float.tiff": "32-bit pixels have no agreed range; save it with 8 or 16 bits",
    }
    for name, reason in expected.items():
        with pytest.raises(BadImage) as caught:
            decode(tmp_path / name, 3)
        assert str(caught.value) == f"{tmp_path / name}: {reason}"
        assert is_grey(tmp_path / name) in (None, False)
    with pytest.raises(BadImage) as caught:
        decode(b"", 3)
    assert str(caught.value) == "image of 0 bytes: the file is empty"


def test_a_name_of_any_bytes_stays_one_printable_line(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"a\nb\xff\x1b[31m.jpg")
    path.write_text("no image")
    with pytest.raises(BadImage) as caught:
        decode(path, 3)
    message = str(caught.value)
    message.encode()
    assert message.startswith(f"{tmp_path}/a\\nb\\udcff\\x1b[31m.jpg: no image of a known format")


def test_look_tells_upright_size_and_stored_mode(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(scene(), 6))
    seen = look(tmp_path / "a.jpg")
    assert (seen.width, seen.height, seen.mode) == (64, 96, "RGB")
    scene().convert("L").save(tmp_path / "b.png")
    assert is_grey(tmp_path / "b.png") is True and is_grey(tmp_path / "a.jpg") is False


def test_warnings_of_pillow_are_silent_and_ours_and_the_filters_stay() -> None:
    before = warnings.filters[:]
    threads = [threading.Thread(target=lambda: [decode(jpeg(scene()), 3) for _ in range(20)]) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert warnings.filters == before
    with quiet:
        warnings.warn_explicit("from Pillow", UserWarning, "x.py", 1, module="PIL.TiffImagePlugin")
        with pytest.raises(UserWarning):
            warnings.warn_explicit("from elsewhere", UserWarning, "x.py", 1, module="elsewhere")
    assert warnings.filters == before
