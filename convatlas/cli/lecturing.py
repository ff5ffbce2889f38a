"""The lecture's page, for `convatlas report --lecture`."""

from pathlib import Path

from .app import busy, say


def lecture(out: Path, language: str) -> None:
    """Writes the page from the catalogue and from results/ here, and says where it is."""
    from ..lecture import lecture as work

    with busy("drawing the lecture"):
        page = work(out, language=language)
    say(str(page))
