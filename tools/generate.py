"""Writes convatlas/catalogue_data/ and the tables in the docs from the papers' files; --check names what is stale.

python tools/generate.py            write
python tools/generate.py --check    exit 1, with the stale files on stderr, unless all is fresh
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from convatlas import files, units  # noqa: E402
from convatlas.account import account  # noqa: E402
from convatlas.catalogue import FOLDER, Catalogue, Entry  # noqa: E402
from convatlas.layout import Cell, Column, markdown  # noqa: E402
from convatlas.networks import NETWORKS, PAPER_OF, PAPERS, PUBLISHED, RECIPES, build  # noqa: E402
from convatlas.record import to_json  # noqa: E402
from convatlas.table import Table  # noqa: E402


def contents() -> dict[Path, str]:
    """What every file of the catalogue should hold."""
    tables = {name: table_of(name) for name in NETWORKS}
    entries = {name: entry_of(name, table) for name, table in tables.items()}
    catalogue = Catalogue(PAPERS, entries, RECIPES, tuple(PUBLISHED))
    out = {FOLDER / "tables" / f"{name}.json": f"{table.as_json()}\n" for name, table in tables.items()}
    out[FOLDER / "catalogue.json"] = f"{to_json(catalogue, indent=1)}\n"
    return out | documents(catalogue)


def documents(catalogue: Catalogue) -> dict[Path, str]:
    """The Markdown files that have a table between `<!-- generated: networks -->` and `<!-- end -->`, with it fresh."""
    names = ("network", "paper", "input", "parameters", "MACs", "receptive field", "what sets it apart")
    columns = [Column(n, n in ("parameters", "MACs", "receptive field")) for n in names]
    rows: list[list[Cell]] = [
        [
            f"`{e.name}`",
            f"{e.paper} {catalogue.papers[e.paper].year}",
            units.shape(e.input),
            e.params,
            e.macs,
            e.field[0] if e.field else None,
            e.about,
        ]
        for e in catalogue.networks.values()
    ]
    pattern = re.compile(r"(<!-- generated: networks -->\n).*?(<!-- end -->)", re.DOTALL)
    block = f"{markdown(columns, rows)}\n"
    texts = {path: path.read_text() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}
    return {
        path: pattern.sub(lambda found: found[1] + block + found[2], text)
        for path, text in texts.items()
        if pattern.search(text)
    }


def table_of(name: str) -> Table:
    with torch.device("meta"):
        net = build(name).eval()
    return account(net, NETWORKS[name].input, name=name)


def entry_of(name: str, table: Table) -> Entry:
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
