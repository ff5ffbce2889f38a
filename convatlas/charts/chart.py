"""One chart: what is drawn, the words and the table that say the same, and its files for pages and papers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files
from ..errors import SaveFailed, UsageError
from ..layout import Cell, Column
from .look import PAPER_FONT, WIDTH

FORMATS = ("svg", "png", "pdf")
INK = "#000000"
PAINTED = ("color", "stroke", "fill")


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite specification with the words and the table that say the same."""

    name: str
    title: str
    description: str
    spec: dict[str, Any]
    columns: list[Column]
    rows: list[list[Cell]]

    def svg(self, width: int = WIDTH) -> str:
        """A static picture whose plot is `width` pixels wide, in the colour of the page around it."""
        import vl_convert

        return str(vl_convert.vegalite_to_svg({**self.spec, "width": width}))

    def png(self, scale: float = 2) -> bytes:
        """A picture in black on white, `scale` pixels to one of the drawing."""
        import vl_convert

        return bytes(vl_convert.vegalite_to_png(self._printed("#ffffff"), scale=scale))

    def pdf(self) -> bytes:
        """A page with the drawing in black on white, its text as text."""
        import vl_convert

        return bytes(vl_convert.vegalite_to_pdf(self._printed("#ffffff")))

    def write(self, folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
        """Writes the chart under its name in each format, for papers: black ink, the SVG without a ground.

        Raises UsageError for a format that there is not, and SaveFailed where the disk refuses.
        """
        unknown = [f for f in formats if f not in FORMATS]
        if unknown:
            raise UsageError(f"no chart can be written as {unknown[0]!r}; give some of {', '.join(FORMATS)}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SaveFailed(files.save_message(folder, error)) from error
        return [self._write(folder / f"{self.name}.{form}") for form in formats]

    def _write(self, file: Path) -> Path:
        import vl_convert

        match file.suffix:
            case ".svg":
                content: str | bytes = str(vl_convert.vegalite_to_svg(self._printed("transparent")))
            case ".png":
                content = self.png()
            case _:
                content = self.pdf()
        files.write(file, content)
        return file

    def _printed(self, ground: str) -> dict[str, Any]:
        """The specification for a file that stands alone: no page gives it a colour, a width or a font."""
        spec: dict[str, Any] = _inked({**self.spec, "width": WIDTH})
        spec["config"] = {**spec["config"], "background": ground, "padding": 12, "font": PAPER_FONT}
        return spec


def _inked(part: Any, key: str = "") -> Any:
    """A copy with the page's colour and fonts replaced. Values are left alone: a run may be called currentColor."""
    if isinstance(part, dict):
        return {k: v if k in ("values", "domain") else _inked(v, k) for k, v in part.items()}
    if isinstance(part, list):
        return [_inked(v, key) for v in part]
    if part == "currentColor" and (key in PAINTED or key.endswith("Color")):
        return INK
    return PAPER_FONT if key in ("font", "labelFont", "titleFont") else part
