"""Small pictures of single images, inside the page, from the data where it still is there."""

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConvAtlasError
from ..record import from_json

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..data import Data, Split

SIDE = 160  # pixels of a thumbnail's longer side; shown at half of that, for dense screens
SMALL = 64  # pixels up to which an image is kept as it is and enlarged without smoothing
QUALITY = 80  # of JPEG
ADDRESS = "://"


@dataclass(frozen=True)
class Picture:
    """A data: address, and whether the image is so small that its pixels should be seen."""

    address: str
    small: bool


@dataclass(frozen=True)
class _Recipe:
    validation: float = 0.1


@dataclass(frozen=True)
class _Data:
    source: str = ""
    fold: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Config:
    """The fields of a run's config.json that say which images its splits have."""

    recipe: _Recipe = _Recipe()
    data: _Data = _Data()


@dataclass
class Album:
    """Pictures by run folder and name; what was opened or made once is kept for the other runs."""

    wanted: bool = True
    _opened: dict[_Config, "Data | None"] = field(default_factory=dict)
    _numbers: dict[tuple[_Config, str], dict[str, int]] = field(default_factory=dict)
    _made: dict[tuple[str, str], Picture | None] = field(default_factory=dict)

    def picture(self, folder: str, image: str, label: str) -> Picture | None:
        """The image that answers.csv names so; None where it cannot be had any more, or has another label."""
        if not self.wanted or not folder:
            return None
        try:
            return self._picture(_config(Path(folder)), image, label)
        except (ConvAtlasError, OSError, ValueError):
            return None

    def _picture(self, config: _Config, image: str, label: str) -> Picture | None:
        source = config.data.source
        if not source or ADDRESS in source:
            return None
        key = (image, label) if Path(image).is_file() else (f"{source}, {config.data.fold}, {image}", label)
        if key not in self._made:
            self._made[key] = self._file(Path(image)) if Path(image).is_file() else self._of(config, image, label)
        return self._made[key]

    def _file(self, path: Path) -> Picture | None:
        from ..data.decoding import decode_crop

        return _small(decode_crop(path, 3, lambda width, height: (0, 0, width, height), (SIDE, SIDE)))

    def _of(self, config: _Config, image: str, label: str) -> Picture | None:
        found = self._open(config)
        for name, split in found.splits.items() if found else ():
            number = self._named(config, name, split).get(image)
            if number is not None and split.classes[split.labels[number]] == label:
                return _small(split.picture(number, found.channels if found else 3))
        return None

    def _open(self, config: _Config) -> "Data | None":
        from ..data import open_data

        if config not in self._opened:
            self._opened[config] = None  # should it fail, it is not tried again
            data, validation = config.data, config.recipe.validation
            self._opened[config] = open_data(data.source, validation=validation, fold=data.fold)
        return self._opened[config]

    def _named(self, config: _Config, name: str, split: "Split") -> dict[str, int]:
        if (config, name) not in self._numbers:
            self._numbers[config, name] = {split.named(i): i for i in range(len(split))}
        return self._numbers[config, name]


def _config(folder: Path) -> _Config:
    return from_json(_Config, (folder / "config.json").read_bytes())


def _small(image: "Image") -> Picture:
    """As PNG where it is tiny, else as a JPEG thumbnail."""
    out = io.BytesIO()
    small = max(image.size) <= SMALL
    if small:
        image.save(out, "PNG", optimize=True)
    else:
        image.thumbnail((SIDE, SIDE))
        image.convert("RGB").save(out, "JPEG", quality=QUALITY, optimize=True)
    kind = "png" if small else "jpeg"
    return Picture(f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}", small)
