"""How a check reads on a terminal; everything in full is in its JSON."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ... import layout, units
from .duplicates import Group, Leak

if TYPE_CHECKING:
    from .checked import Check, SplitCheck

LISTED = 10  # entries of a list; all are in the JSON
KINDS = {"file": "the same file", "pixels": "the same pixels", "near": "looks the same"}
SIZES = (
    layout.Column("split"),
    layout.Column("smallest", True),
    layout.Column("median", True),
    layout.Column("largest", True),
    layout.Column("colour modes"),
    layout.Column("formats"),
    layout.Column("turned by EXIF", True),
    layout.Column("bad", True),
)
DUPLICATES = (
    layout.Column("duplicates"),
    layout.Column("groups", True),
    layout.Column("images", True),
    layout.Column("across splits", True),
    layout.Column("across classes", True),
)


def text(found: "Check") -> str:
    """Tables, warnings, then what to look at, one a line."""
    columns = [layout.Column("class"), *(layout.Column(s.name, True) for s in found.splits)]
    rows: list[list[layout.Cell]] = [[c, *(s.per_class[c] for s in found.splits)] for c in found.classes]
    lines = [f"{found.name}: {found.rule}.", ""]
    lines += [layout.text(columns, rows, ["total", *(s.images for s in found.splits)]), ""]
    lines += [_sizes(found.splits), ""]
    if found.duplicates:
        lines += [layout.text(DUPLICATES, _kinds(found.duplicates)), ""]
    lines.append(f"Largest training class over smallest: {found.balance:.3g}.")
    if not found.duplicates:
        lines.append("No image is there twice.")
    if found.ignored:
        lines.append(f"Ignored: {', '.join(f'{n:,} {kind}' for kind, n in found.ignored.items())}.")
    lines += [f"Warning: {w}." for w in found.warnings]
    lines += _remarks(found)
    images = sum(s.images for s in found.splits)
    lines.append(f"Cannot be read: {units.of(len(found.bad), images)}." if found.bad else "Every image can be read.")
    lines += _cut(f"  {b.path}: {b.reason}" for b in found.bad)
    return "\n".join(lines)


def leak(found: Leak, images: dict[str, int]) -> str:
    """The sentence on one pair of splits."""
    parts = [f"{n:,} {how}" for n, how in ((found.identical, "identical"), (found.near, "nearly so")) if n]
    share = units.of(found.identical + found.near, images[found.split])
    return f"{found.split} shares {share} of its images with {found.other}: {' and '.join(parts)}"


def conflict(near: bool, groups: int) -> str:
    what = "images that look the same" if near else "identical images"
    return f"{_many(groups, 'group')} of {what} {'has' if groups == 1 else 'have'} different labels"


def _sizes(splits: Sequence["SplitCheck"]) -> str:
    """Without the columns that say nothing about pixels in memory."""
    rows: list[list[layout.Cell]] = []
    for s in splits:
        sizes = [units.shape(size) if size else None for size in (s.smallest, s.median, s.largest)]
        counted = [", ".join(f"{name} {n:,}" for name, n in kinds.items()) for kinds in (s.modes, s.formats)]
        rows.append([s.name, *sizes, *counted, s.turned, s.bad])
    shown = [
        i for i, c in enumerate(SIZES) if any(s.formats for s in splits) or c.name not in ("formats", "turned by EXIF")
    ]
    return layout.text([SIZES[i] for i in shown], [[row[i] for i in shown] for row in rows])


def _kinds(duplicates: Iterable[Group]) -> list[list[layout.Cell]]:
    rows: list[list[layout.Cell]] = []
    for kind, name in KINDS.items():
        of_kind = [g for g in duplicates if g.kind == kind]
        if of_kind:
            images = sum(len(g.copies) for g in of_kind)
            across = [sum(len(g.splits) > 1 for g in of_kind), sum(len(g.classes) > 1 for g in of_kind)]
            rows.append([name, len(of_kind), images, *across])
    return rows


def _remarks(found: "Check") -> Iterator[str]:
    """What deserves a look, each with the first few images."""
    if found.duplicates:
        yield f"There more than once: {_many(len(found.duplicates), 'group')}, those across splits and classes first."
        for line in _cut(_listed(g, f"{found.source}/") for g in found.duplicates):
            yield from line.splitlines()
    if found.misnamed:
        yield f"Named like another format: {_many(len(found.misnamed), 'file')}; they are read all the same."
        yield from _cut(f"  {m.image}: {'an' if m.format[0] == 'A' else 'a'} {m.format}" for m in found.misnamed)
    if found.tiny:
        yield f"Much smaller than the others: {_many(len(found.tiny), 'image')}."
        yield from _cut(f"  {name}" for name in found.tiny)
    if found.plain:
        yield f"Of practically one colour: {_many(len(found.plain), 'image')}."
        yield from _cut(f"  {name}" for name in found.plain)
    for images, what in ((found.positions, "tells where it was taken"), (found.cameras, "names the camera")):
        if images:
            yield (
                f"EXIF {what}: {_many(len(images), 'image')}; a bundle carries some images as they are, so clean "
                f"them first if that must not be known."
            )
            yield from _cut(f"  {name}" for name in images)


def _listed(group: Group, folder: str) -> str:
    """A line that says how they are alike, then one for each; below the set's folder."""
    names = [f"    {c.image.removeprefix(folder)}" for c in group.copies]
    if len(group.classes) > 1:
        names = [f"{name} ({c.label})" for name, c in zip(names, group.copies, strict=True)]
    more = [f"    and {len(names) - 4:,} more"] if len(names) > 5 else []
    return "\n".join([f"  {KINDS[group.kind]}:", *names[: 4 if more else 5], *more])


def _cut(lines: Iterable[str]) -> list[str]:
    every = list(lines)
    if len(every) <= LISTED + 1:
        return every
    return [*every[:LISTED], f"  and {len(every) - LISTED:,} more; --json lists all"]


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
