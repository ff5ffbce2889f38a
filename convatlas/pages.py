"""One HTML page that opens offline: what the report and the diagram share. Their look is in page.css."""

import base64
import hashlib
import json
import unicodedata
from pathlib import Path
from typing import Any, TypeVar

from . import files
from .errors import SaveFailed
from .record import from_json, to_json

T = TypeVar("T")
BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
HERE = Path(__file__).parent


def write_page(template: str, content: dict[str, Any], out: Path) -> Path:
    """Fills a template of this folder, with every text escaped, and writes it whole or not at all.

    Raises SaveFailed where the disk refuses.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    page = environment.get_template(template).render(content)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveFailed(files.save_message(out, error)) from error
    files.write(out, page)
    return out


def digest(inline: str) -> str:
    """The sha256 by which a content security policy knows an inline script or style."""
    return base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()


def legible(thing: T) -> T:
    """A copy with every control character and every mark that turns the reading direction spelled out."""

    def mend(value: Any) -> Any:
        if isinstance(value, str):
            return "".join(map(_legible_character, value))
        if isinstance(value, list):
            return [mend(v) for v in value]
        return {mend(k): mend(v) for k, v in value.items()} if isinstance(value, dict) else value

    return from_json(type(thing), json.dumps(mend(json.loads(to_json(thing)))))


def _legible_character(c: str) -> str:
    hidden = c in BIDI or (unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t")
    return f"[U+{ord(c):04X}]" if hidden else c
