"""What is known about networks: list, table, claims."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from .. import units
from ..errors import UsageError
from .app import Json, app, say

if TYPE_CHECKING:
    from ..table import Table


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


@app.command(sort_key=2)
def table(
    name: Annotated[str, Parameter(help="A network of `convatlas list`.")],
    /,
    *,
    input: Annotated[str | None, Parameter(help="Channels, height and width, for example 1x64x64.")] = None,
    json: Json = False,
    csv: Annotated[bool, Parameter(negative=(), help="A line a row, exact integers.")] = False,
    markdown: Annotated[bool, Parameter(negative=(), help="A GitHub table.")] = False,
    depth: Annotated[
        int | None,
        Parameter(help="Names of the module path that make a row; 1, the paper's table, or 0, a row an operation."),
    ] = None,
) -> None:
    """Account for a network: shapes, parameters, MACs, activation memory and receptive field.

    A row is a stage under its paper's label; with --depth 0, as in --json and --csv, an operation.
    """
    from ..catalogue import catalogue
    from ..catalogue import table as known_table

    entry = catalogue().entry(name)
    shape = entry.input if input is None else _shape(input)
    account = known_table(name) if shape == entry.input else _walk(name, shape)
    if json + csv + markdown > 1:
        raise UsageError("--json, --csv and --markdown exclude each other; give one")
    if depth is None:
        depth = 0 if json or csv else 1
    if depth < 0:
        raise UsageError(f"--depth {depth} is no number of names; give 0 for every operation, or 1, 2, ...")
    account = account.stages(depth) if depth else account
    form = "json" if json else "csv" if csv else "markdown" if markdown else "text"
    say(getattr(account, f"as_{form}")())


def _walk(name: str, shape: tuple[int, int, int]) -> "Table":
    """The account at another input than the catalogue has, without memory for the weights."""
    import torch

    from ..account import account
    from ..layers import drop_heads
    from ..networks import build

    with torch.device("meta"):
        net = build(name, channels=shape[0], input=shape[1:]).eval()
    drop_heads(net)
    return account(net, shape, name=name)


def _shape(given: str) -> tuple[int, int, int]:
    try:
        channels, height, width = units.read_shape(given)
    except ValueError:
        raise UsageError(f"--input {given!r} is no input; write channels x height x width, like 3x224x224") from None
    return channels, height, width


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
