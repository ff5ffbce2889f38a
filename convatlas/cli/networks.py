"""What is known about networks: list, claims."""

from typing import Annotated

from cyclopts import Parameter

from ..errors import UsageError
from .app import Json, app, say


@app.command(name="list", sort_key=1)
def list_networks(
    *,
    filter: Annotated[str, Parameter(help="Names that match, for example 'resnet*'.")] = "*",
    json: Json = False,
) -> None:
    """List the networks with their papers, parameters, MACs and published errors."""
    from fnmatch import fnmatchcase

    from ..catalogue import catalogue, list_json, list_text

    known = catalogue().networks
    found = [e for e in known.values() if fnmatchcase(e.name, filter)]
    if not found:
        raise UsageError(f"no network matches {filter!r}; `convatlas list` shows all {len(known)}")
    say(list_json(found) if json else list_text(found))


@app.command(sort_key=3)
def claims(
    paper: Annotated[str | None, Parameter(help="A paper's key, for example resnet, or lecture.")] = None,
    /,
    *,
    json: Json = False,
) -> None:
    """Check every figure that the papers and the lecture printed against what it comes to."""
    from ..claims import claims as check
    from ..claims import claims_text
    from ..record import to_json

    found = check(paper)
    say(to_json(found) if json else claims_text(found))
