"""One HTML page that opens offline: what the report, the diagram and the experiments' pages share.

Their look is in page.css, their head in head.html, their tables in grid.html, the drawing of charts in charts.js.
"""

import base64
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from . import files
from .errors import SaveFailed
from .record import from_json, to_json

T = TypeVar("T")
BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
HERE = Path(__file__).parent
EXPORTS = "window.vegaEmbed = vegaEmbed;"
# For pages whose charts are drawn once and again at another width; the report has more to do, in its own script.
START = """
let width = innerWidth;
draw();
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
"""
UNIT = re.compile(r"(?<=\d) (?=(?:%|ms|s|min|h|[kMGT]?B|[kMGT]|[kMGT]?MACs|张|个)(?![A-Za-z]))")


def write_page(template: str, content: dict[str, Any], out: Path, say: Callable[[str], str] = str) -> Path:
    """Fills a template of this folder, with every text escaped, and writes it whole or not at all.

    `say` puts the page's own words into the reader's language: templates call it as `t`. Raises SaveFailed where the
    disk refuses.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["tight"] = tight
    environment.globals["t"] = say
    page = environment.get_template(template).render({"language": "en", **content})
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveFailed(files.save_message(out, error)) from error
    files.write(out, page)
    return out


def tight(text: str) -> str:
    """The text with figures and their units kept on one line."""
    return UNIT.sub("\u00a0", text)


def digest(inline: str) -> str:
    """The sha256 by which a content security policy knows an inline script or style."""
    return base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()


def policy(*scripts: str) -> str:
    """A content security policy that allows these inline scripts, inline styles, pictures inside, and no address."""
    sources = " ".join(sorted({f"'sha256-{digest(script)}'" for script in scripts}))
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src 'unsafe-inline'; script-src {sources}"
    )


@cache
def chart_library() -> str:
    """Vega-Embed, Vega-Lite and Vega in one script of about 0.9 MB."""
    import vl_convert

    return f"\n{vl_convert.javascript_bundle(EXPORTS)}\n"


@cache
def script(name: str) -> str:
    """A script that lies beside the templates."""
    return f"\n{(HERE / name).read_text(encoding='utf-8')}"


def embedded(text: str) -> str:
    """JSON that can stand in a <script> element: plain ASCII, and no character that ends it or begins another."""
    ascii_only = json.dumps(json.loads(text))
    return ascii_only.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def legible(thing: T) -> T:
    """A copy with every control character and every mark that turns the reading direction spelled out."""

    def mend(value: Any) -> Any:
        if isinstance(value, str):
            return legible_text(value)
        if isinstance(value, list):
            return [mend(v) for v in value]
        return {mend(k): mend(v) for k, v in value.items()} if isinstance(value, dict) else value

    return from_json(type(thing), json.dumps(mend(json.loads(to_json(thing)))))


def legible_text(text: str) -> str:
    """The same of one text."""
    return "".join(map(_legible_character, text))


def _legible_character(c: str) -> str:
    hidden = c in BIDI or (unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t")
    return f"[U+{ord(c):04X}]" if hidden else c
