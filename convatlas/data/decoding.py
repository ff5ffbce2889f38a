"""Image files to pixels, with Pillow only; whatever is wrong with a file becomes one line that names it.

torchvision's decoders are not used: its PNG decoder (0.29.1) kills the process on damaged files. Colour profiles and
gamma are ignored, as torchvision's and timm's loaders do.
"""

import io
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import BadImage

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".avif")
)
PIXELS = 100_000_000  # more are refused from the header, before anything is decoded
BYTES = 500_000_000  # of a file

SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"RIFF", "WEBP"),
)

# EXIF tag 0x0112: what brings the stored pixels upright (as in Pillow's ImageOps.exif_transpose).
ORIENTATION = 0x0112
GPS, LATITUDE, LONGITUDE = 0x8825, 2, 4  # EXIF 2.32, sections 4.6.3 and 4.6.6
MAKE, MODEL = 0x010F, 0x0110
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class BadFile:
    """A file that could not be decoded, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Look:
    """What an image file holds, whole: for those who check a set and decode each file once."""

    width: int  # upright
    height: int
    mode: str  # Pillow's name of the colour mode
    format: str  # one of FORMATS
    turned: bool  # EXIF says that the stored pixels are not upright
    position: bool  # EXIF tells where it was taken
    camera: bool  # EXIF names the camera's maker or model
    content: bytes  # the file's own
    picture: Image.Image  # as `decode` gives it in three channels


def decode(source: Path | bytes, channels: int) -> Image.Image:
    """Returns the first frame upright, 8 bits, mode L (1 channel) or RGB (3), transparency over white.

    Allowed: JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF; at most 100 million pixels and 500 MB. 16-bit grey is scaled to 8.
    Raises BadImage, one line "path: reason", for everything else; never warns and never mends a truncated file.
    """
    with _guard(source):
        picture = _opened(source)
        picture.load()
        return to_channels(_turned(picture, _orientation(picture)), channels)


def decode_crop(
    source: Path | bytes, channels: int, choose: Callable[[int, int], Box], size: tuple[int, int]
) -> Image.Image:
    """Returns the part of an image that `choose(width, height)` gives, upright, in the colour mode of `decode`.

    A JPEG is decoded at 1/2, 1/4 or 1/8 (libjpeg's scaled inverse transform) where the part still has `size` (height,
    width) pixels or more; its pixels then differ a little from a crop of `decode`. For training. Raises BadImage.
    """
    with _guard(source):
        picture = _opened(source)
        if picture.format not in ("JPEG", "MPO"):
            picture.load()  # PNG may keep EXIF behind the pixels; TIFF turns itself
        turn = _orientation(picture)
        width, height = picture.size if turn < 5 else picture.size[::-1]
    box = choose(width, height)
    with _guard(source):
        stored = _stored(box, turn, picture.size)
        if picture.format in ("JPEG", "MPO"):
            stored = _drafted(picture, stored, size if turn < 5 else size[::-1])
            picture.load()
        return to_channels(_turned(picture.crop(stored), turn), channels)


def look(source: Path | bytes) -> Look:
    """Decodes a file whole and says what it holds. Raises BadImage as `decode` does."""
    with _guard(source):
        content = source if isinstance(source, bytes) else _content(source)
        picture = _opened(content)
        mode, format = picture.mode, "JPEG" if picture.format == "MPO" else str(picture.format)
        picture.load()
        turn = _orientation(picture)
        position, camera = _told(picture)
        upright = to_channels(_turned(picture, turn), 3)
        return Look(*upright.size, mode, format, turn in TURNS, position, camera, content, upright)


def is_grey(source: Path | bytes) -> bool | None:
    """Whether an image's header announces grey pixels; None when the header cannot be read."""
    try:
        if not isinstance(source, bytes) and not source.is_file():
            return None
        with quiet, Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as picture:
            return picture.mode in ("1", "L", "LA", "I;16", "I;16B")
    except Exception:
        return None


def to_channels(picture: Image.Image, channels: int) -> Image.Image:
    """The picture in mode L (1 channel) or RGB (3). Raises BadImage for 32-bit pixels, whose range no file states."""
    mode = "L" if channels == 1 else "RGB"
    if picture.mode == mode and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I;16"):
        picture = _from_16_bits(picture)
    elif picture.mode in ("I", "F"):
        raise BadImage("32-bit pixels have no agreed range; save it with 8 or 16 bits")
    elif picture.has_transparency_data:
        over = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(over, picture.convert("RGBA")).convert("RGB")
    return picture if picture.mode == mode else picture.convert(mode)


def named(source: Path | bytes) -> str:
    """A source as one printable line, whatever bytes are in a file's name."""
    if isinstance(source, bytes):
        return f"image of {len(source):,} bytes"
    return printable(str(source))


def printable(text: str) -> str:
    """Text with control characters and undecodable bytes written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


class _Quiet:
    """Silences Pillow's warnings; several threads may be inside, the last one out puts the filters back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL(\.|$)")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._filters is not None:
                self._filters.__exit__(None, None, None)
                self._filters = None


quiet = _Quiet()


@contextmanager
def _guard(source: Path | bytes) -> Iterator[None]:
    """Pillow raises nearly every kind of exception on damaged files; all become BadImage here."""
    try:
        with quiet:
            yield
    except BadImage as error:
        raise BadImage(f"{named(source)}: {error}") from None
    except Exception as error:
        raise BadImage(f"{named(source)}: {_reason(error)}") from error


def _opened(source: Path | bytes) -> Image.Image:
    content = source if isinstance(source, bytes) else _content(source)
    if not content:
        raise BadImage("the file is empty")
    try:
        # From memory: Pillow maps uncompressed files, and one that shrinks while it is mapped kills the process.
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        begins = next((name for bytes_, name in SIGNATURES if content.startswith(bytes_)), None)
        known = ", ".join(FORMATS)
        raise BadImage(
            f"its {begins} header is damaged" if begins else f"no image of a known format ({known})"
        ) from None
    width, height = picture.size
    if width * height > PIXELS:
        raise BadImage(f"{width:,} x {height:,} pixels are more than the {PIXELS:,} allowed")
    return picture


def _content(path: Path) -> bytes:
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise BadImage("not a regular file")  # opening a pipe would wait for ever
    if about.st_size > BYTES:
        raise BadImage(f"{about.st_size:,} bytes are more than the {BYTES:,} allowed")
    return path.read_bytes()


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"its pixels are more than the {PIXELS:,} allowed"
    if isinstance(error, MemoryError):
        return "too large for the memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    text = " ".join(printable(" ".join(str(error).split())).split())
    if text and isinstance(error, OSError | SyntaxError | ValueError):
        return f"damaged: {text[0].lower()}{text[1:120]}"
    return "damaged: its parts do not fit together"


def _orientation(picture: Image.Image) -> int:
    """1 to 8; 1 where EXIF is missing, broken or says something else."""
    try:
        value = picture.getexif().get(ORIENTATION)
    except Exception:
        return 1
    return value if value in TURNS else 1


def _told(picture: Image.Image) -> tuple[bool, bool]:
    """Whether EXIF holds a position, and a camera's name; a broken block holds neither."""
    try:
        exif = picture.getexif()
        place = exif.get_ifd(GPS)
        camera = any(str(exif.get(tag) or "").strip("\0 ") for tag in (MAKE, MODEL))
        return LATITUDE in place or LONGITUDE in place, camera
    except Exception:
        return False, False


def _turned(picture: Image.Image, turn: int) -> Image.Image:
    return picture.transpose(TURNS[turn]) if turn in TURNS else picture


def _stored(box: Box, turn: int, size: tuple[int, int]) -> Box:
    """A box of the upright image in the coordinates of the stored one, whose size is (width, height)."""
    (left, top, right, bottom), (width, height) = box, size
    return {
        2: (width - right, top, width - left, bottom),
        3: (width - right, height - bottom, width - left, height - top),
        4: (left, height - bottom, right, height - top),
        5: (top, left, bottom, right),
        6: (top, height - right, bottom, height - left),
        7: (width - bottom, height - right, width - top, height - left),
        8: (width - bottom, left, width - top, right),
    }.get(turn, box)


def _drafted(picture: Image.Image, box: Box, size: tuple[int, int]) -> Box:
    """Asks libjpeg for the smallest scale that keeps `size` (height, width) in the box; returns the scaled box."""
    have = min((box[3] - box[1]) // size[0], (box[2] - box[0]) // size[1])
    scale = max(k for k in (1, 2, 4, 8) if k <= max(have, 1))
    width, height = picture.size
    if scale == 1 or min(width, height) < scale:
        return box
    picture.draft(None, (width // scale, height // scale))
    new_width, new_height = picture.size
    if new_width == width:
        return box
    left, top = box[0] // scale, box[1] // scale
    return left, top, min(-(-box[2] // scale), new_width), min(-(-box[3] // scale), new_height)


def _from_16_bits(picture: Image.Image) -> Image.Image:
    """16-bit grey scaled to 8 bits and rounded; the one value that a PNG calls transparent becomes white."""
    values = np.asarray(picture).astype(np.uint32)
    grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.fromarray(grey)
