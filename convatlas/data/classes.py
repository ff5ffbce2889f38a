"""Class names: which may be, how those of one split meet those of train, and what other tools make of their order."""

import re
import unicodedata
from collections.abc import Sequence
from difflib import get_close_matches

from ..errors import BadData

# ours: `tshirts` is taken for `tshirt`, `dress` not for `dresser`'s neighbour `cress`.
NEAR = 0.8


def is_plain(name: str) -> bool:
    """Whether a name survives JSON and a file with a name a line."""
    return bool(name) and not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name)


def natural(name: str) -> list[tuple[int, int | str]]:
    """The order people expect, "2" before "10"; timm sorts class folders so."""
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in re.split(r"(\d+)", name) if part]


def order_warning(classes: Sequence[str]) -> str | None:
    """What to say where other tools would number these classes, which are in string order, otherwise."""
    expected = sorted(classes, key=natural)
    differs = sum(c != e for c, e in zip(classes, expected, strict=True))
    if list(classes) != sorted(classes) or not differs:
        return None
    return (
        f"classes are in string order, {classes[0]!r} first; tools that sort naturally (timm) number {differs} of them "
        f"differently, so use the stored names"
    )


def numbers(own: Sequence[str], known: Sequence[str], place: str, first: str) -> list[int]:
    """The number in `known`, train's classes, of each class that another split has of its `own`.

    `place` and `first` are what a user calls that split and train. Raises BadData that says which classes are new, or
    which are only written otherwise.
    """
    number = {name: i for i, name in enumerate(known)}
    extra = [name for name in own if name not in number]
    if not extra:
        return [number[name] for name in own]
    free = [name for name in known if name not in set(own)]
    renamed = [(name, old) for name in extra if (old := _meant(name, free)) is not None]
    if renamed:
        pairs = [f"{name!r} where {first} has {old!r}" for name, old in renamed]
        raise BadData(f"{place} has {_some(pairs)}; labels are matched by name, so give each class one name")
    what = "class" if len(extra) == 1 else "classes"
    verb, them = ("is", "it") if len(extra) == 1 else ("are", "them")
    raise BadData(
        f"{what} {_some([repr(name) for name in extra])} of {place} {verb} missing in {first}; labels are matched by "
        f"name, so rename or remove {them}"
    )


def _meant(name: str, free: Sequence[str]) -> str | None:
    """The class that a name is another spelling of: by case, accents, spaces and signs, else a near one."""
    same = [old for old in free if _bare(old) == _bare(name)]
    # Digits tell classes apart: `class3` is no slip for `class2`.
    alike = [old for old in free if re.findall(r"\d+", old) == re.findall(r"\d+", name)]
    return next(iter(same or get_close_matches(name, alike, n=1, cutoff=NEAR)), None)


def _bare(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name).casefold()
    kept = "".join(c for c in letters if c.isalnum())
    return kept or name


def _some(said: list[str], most: int = 3) -> str:
    if len(said) > most:
        return f"{', '.join(said[:most])} and {len(said) - most:,} more"
    return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)
