"""Writes convatlas/catalogue_data/ and the tables in the docs from the papers' files; --check names what is stale.

python tools/generate.py            write
python tools/generate.py --check    exit 1, with the stale files on stderr, unless all is fresh
"""

import dataclasses
import inspect
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import torch
import torch.fx
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from convatlas import files, units  # noqa: E402
from convatlas.account import account  # noqa: E402
from convatlas.catalogue import FOLDER, Catalogue, Entry  # noqa: E402
from convatlas.claims import DIFFERS, Claim, check, claims_markdown  # noqa: E402
from convatlas.layers import drop_heads  # noqa: E402
from convatlas.layout import Cell, Column, markdown  # noqa: E402
from convatlas.networks import FILES, NETWORKS, PAPER_OF, PAPERS, PUBLISHED, RECIPES, build  # noqa: E402
from convatlas.paper import Recipe  # noqa: E402
from convatlas.record import to_json  # noqa: E402
from convatlas.table import Table  # noqa: E402


def contents() -> dict[Path, str]:
    """What every file of the catalogue should hold."""
    tables, entries = {}, {}
    for name, network in NETWORKS.items():
        net = bare(name)
        tables[name] = account(net, network.input, name=name)
        entries[name] = entry_of(name, tables[name], depth_of(net))
    catalogue = Catalogue(PAPERS, entries, RECIPES, PUBLISHED)
    out = {FOLDER / "tables" / f"{name}.json": f"{table.as_json()}\n" for name, table in tables.items()}
    out[FOLDER / "catalogue.json"] = f"{to_json(catalogue, indent=1)}\n"
    claims = check(catalogue, tables.__getitem__)
    out[FOLDER / "claims.json"] = f"{to_json(claims, indent=1)}\n"
    blocks = {
        "networks": networks_block(catalogue),
        "claims": claims_block(claims),
        "fields": fields_block(),
        "recipes": recipes_block(),
    }
    return out | documents(blocks)


def documents(blocks: Mapping[str, str]) -> dict[Path, str]:
    """The Markdown files that have a part between `<!-- generated: NAME -->` and `<!-- end -->`, with it fresh."""
    out = {}
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        text = path.read_text()
        for name, block in blocks.items():
            pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
            if pattern.search(text):
                out[path] = text = pattern.sub(lambda found, block=block: f"{found[1]}{block}\n{found[2]}", text)
    return out


def networks_block(catalogue: Catalogue) -> str:
    names = ("network", "paper", "input", "parameters", "MACs", "depth", "receptive field", "recipe")
    names += ("what sets it apart",)
    columns = [Column(n, n in ("parameters", "MACs", "depth", "receptive field")) for n in names]
    rows: list[list[Cell]] = [
        [
            f"`{e.name}`",
            f"{e.paper} {catalogue.papers[e.paper].year}",
            units.shape(e.input),
            e.params,
            e.macs,
            e.depth,
            e.field[0] if e.field else None,
            f"`{e.recipe}`" if e.recipe else None,
            e.about,
        ]
        for e in catalogue.networks.values()
    ]
    return markdown(columns, rows)


def claims_block(claims: Sequence[Claim]) -> str:
    """How many there are of each verdict, those that differ, then all of each paper."""
    verdicts = Counter(c.verdict for c in claims)
    counts = ", ".join(f"{n:,} {verdict}" for verdict, n in verdicts.most_common())
    parts = [f"{len(claims):,} figures and statements: {counts}."]
    parts += ["## Those that differ", claims_markdown([c for c in claims if c.verdict == DIFFERS])]
    for key, paper in PAPERS.items():
        rows = [c for c in claims if c.paper == key]
        parts += [f"## {paper.title} ({paper.year}): `convatlas claims {key}`", claims_markdown(rows)]
    return "\n\n".join(parts)


# ---- Recipes ---------------------------------------------------------------------------------------------------------

DEFAULTS = Recipe()
# Fields with a column of their own; all others that differ from the default stand under "also".
UPDATE = ("optimiser", "lr", "momentum", "decay", "epsilon")
RATE = ("schedule", "drops", "factor", "patience", "watch", "every", "power")
WARM_UP = ("warm_up", "warm_up_lr", "warm_up_error")
COLUMNS = ("where", "dataset", "epochs", "iterations", "batch", "weight_decay", "augment", "view", "assumed")


def fields_block() -> str:
    """Every field of a recipe, from the dataclass and the comments in its source, a table a part."""
    parts: list[str] = []
    rows: list[list[Cell]] = []
    columns = [Column("field"), Column("values"), Column("default"), Column("meaning")]
    above = ""
    for line in [*inspect.getsource(Recipe).splitlines(), "    # ---- end"]:
        heading, comment = re.fullmatch(r"    # ---- (.+)", line), re.fullmatch(r"    # (.+)", line)
        found = re.fullmatch(r"    (\w+): [^#]+?(?:  # (.+))?", line)
        if heading:
            parts += [markdown(columns, rows), f"**{heading[1]}**"]
            rows, above = [], ""
        elif comment:
            above = comment[1]
        elif found:
            default = shown(getattr(DEFAULTS, found[1]))
            meaning = re.sub(r"\bNone\b", "none", found[2] or above)
            rows.append([f"`{found[1]}`", values(found[1]), default and f"`{default}`", meaning])
            above = ""
    return "\n\n".join(parts[:-1])


def values(field: str) -> str:
    """What a field can be, in words."""
    kind = get_type_hints(Recipe)[field]
    if get_origin(kind) is Literal:
        return ", ".join(f"`{v}`" for v in get_args(kind))
    words = {int: "whole number", float: "number", str: "text", type(None): "`none`"}
    if get_origin(kind) is tuple:
        return f"{words[get_args(kind)[0]]}s"
    return " or ".join(words[k] for k in get_args(kind) or (kind,))


def recipes_block() -> str:
    """Every recipe, a table a paper."""
    names = ("recipe", "length", "batch", "update", "rate", "weight decay", "augmentation", "test view", "also")
    columns = [Column(n) for n in (*names, "assumed")]
    parts = []
    for key, file in FILES.items():
        if file.RECIPES:
            title = f"## {PAPERS[key].title} ({PAPERS[key].year})"
            parts += [title, markdown(columns, [recipe_row(name, r) for name, r in file.RECIPES.items()])]
    return "\n\n".join(parts)


def recipe_row(name: str, recipe: Recipe) -> list[Cell]:
    length = f"{recipe.epochs:g} epochs" if recipe.iterations is None else f"{recipe.iterations:,} iterations"
    told = {*UPDATE, *RATE, *WARM_UP, *COLUMNS}
    also = [f for f in changed(recipe) if f not in told]
    return [
        f"`{name}`: {recipe.dataset}; {recipe.where}",
        length,
        recipe.batch,
        f"{recipe.optimiser} {recipe.lr:g}, momentum {recipe.momentum:g}{listed(recipe, UPDATE[3:])}",
        rate_of(recipe),
        f"{recipe.weight_decay:g}",
        ", ".join(recipe.augment),
        recipe.view,
        listed(recipe, also).removeprefix(", "),
        ", ".join(recipe.assumed),
    ]


def rate_of(recipe: Recipe) -> str:
    """The schedule with what belongs to it, and the warm-up."""
    own = {
        "steps": ("factor",),
        "plateau": ("factor", "patience"),
        "exponential": ("factor",),
        "polynomial": ("power",),
    }
    said = recipe.schedule
    if recipe.drops:
        said += " at " + ", ".join(f"{d:,.10g}" for d in recipe.drops)
    if recipe.schedule == "exponential":
        said += f" every {recipe.every:,.10g}"
    said += "".join(f", {field} {getattr(recipe, field):g}" for field in own.get(recipe.schedule, ()))
    return said + listed(recipe, ("watch", *WARM_UP))


def listed(recipe: Recipe, fields: Sequence[str]) -> str:
    """Those of the fields that differ from the default: ", clip 2, decayed weights"."""
    return "".join(f", {f} {shown(getattr(recipe, f))}" for f in fields if f in changed(recipe))


def changed(recipe: Recipe) -> Iterator[str]:
    yield from (f.name for f in dataclasses.fields(recipe) if getattr(recipe, f.name) != getattr(DEFAULTS, f.name))


def shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(shown, value))
    if isinstance(value, int | float):
        return f"{value:,.10g}"
    return "none" if value is None else str(value)


# ---- Networks --------------------------------------------------------------------------------------------------------


def bare(name: str) -> nn.Module:
    """The network as it is in use: evaluation mode, no auxiliary heads, no memory."""
    with torch.device("meta"):
        net = build(name).eval()
    drop_heads(net)
    return net


def depth_of(net: nn.Module) -> int:
    """Layers with weights on the longest way from input to output: convolutions and linear layers."""
    depth: dict[torch.fx.Node, int] = {}
    for node in torch.fx.symbolic_trace(net).graph.nodes:
        weighted = node.op == "call_module" and isinstance(net.get_submodule(node.target), nn.Conv2d | nn.Linear)
        depth[node] = max((depth[n] for n in node.all_input_nodes), default=0) + weighted
    return max(depth.values())


def entry_of(name: str, table: Table, depth: int) -> Entry:
    network, totals = NETWORKS[name], table.totals
    return Entry(
        name=name,
        paper=PAPER_OF[name],
        input=network.input,
        classes=network.classes,
        recipe=network.recipe,
        about=network.about,
        params=totals.params,
        macs=totals.macs,
        activation_bytes=totals.activation_bytes,
        field=totals.field,
        depth=depth,
    )


def stale(fresh: Mapping[Path, str]) -> list[Path]:
    """The files that are missing, or hold something else, or should not be there."""
    there = {path for path in FOLDER.rglob("*") if path.is_file()}
    changed = {path for path, text in fresh.items() if not path.is_file() or path.read_text() != text}
    return sorted(changed | (there - set(fresh)))


def main(arguments: list[str]) -> int:
    fresh = contents()
    found = stale(fresh)
    if arguments == ["--check"]:
        for path in found:
            print(f"{path.relative_to(ROOT)} is stale; run `python tools/generate.py`", file=sys.stderr)
        return 1 if found else 0
    if arguments:
        print("usage: python tools/generate.py [--check]", file=sys.stderr)
        return 2
    for path in found:
        if path in fresh:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write(path, fresh[path])
        else:
            path.unlink()
    print(f"{len(found)} of {len(fresh)} files written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
