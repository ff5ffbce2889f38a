"""What a user may set side by side, told apart by what it is: a folder, a file, or a name."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from ..catalogue import catalogue
from ..errors import UsageError
from .known import PUBLISHED


@dataclass
class Sources:
    runs: list[Path] = field(default_factory=list)
    archives: list[Path] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)  # of the catalogue
    published: list[str] = field(default_factory=list)  # of the catalogue; "" is all


def sort_out(given: Sequence[str | Path]) -> Sources:
    """Each once. A path that is there counts before a name. Raises UsageError for what is neither."""
    found = Sources()
    for source in given:
        path, name = Path(source), str(source)
        if path.exists():
            if path.is_dir() and not _is_archive(path):
                found.runs.append(path)
            elif path.is_dir() or path.suffix in (".jsonl", ".json"):
                found.archives.append(path)
            else:
                raise UsageError(f"{name} is no run folder and no archive; an archive's name ends in .jsonl")
        elif name == PUBLISHED or name.startswith(f"{PUBLISHED}:"):
            found.published.append(name.partition(":")[2])
        elif name in catalogue().networks:
            found.networks.append(name)
        else:
            raise UsageError(_unknown(name, path))
    found.runs = list({p.resolve(): p for p in found.runs}.values())
    found.archives = list({p.resolve(): p for p in found.archives}.values())
    found.networks, found.published = list(dict.fromkeys(found.networks)), list(dict.fromkeys(found.published))
    return found


def _is_archive(folder: Path) -> bool:
    """A run folder has files that end in .jsonl too, so what makes a run counts first."""
    if any((folder / name).exists() for name in ("results.json", "config.json", "checkpoints")):
        return False
    return any(folder.glob("*.jsonl"))


def _unknown(name: str, path: Path) -> str:
    close = get_close_matches(name, catalogue().networks, n=3, cutoff=0.6) if os.sep not in name else []
    if close:
        return f"no run folder, archive or network named {name!r}; did you mean {', '.join(close)}?"
    if path.suffix in (".jsonl", ".json"):
        return f"no archive at {path}; `convatlas measure NETWORK` makes one"
    return f"no run folder at {path}; `convatlas train NETWORK DATA --out {path}` makes one"


def run_names(folders: Sequence[Path]) -> list[str]:
    """Each folder's name, with as many of its parents as it takes to tell all apart."""
    paths = [Path(spelled(folder.resolve())) for folder in folders]
    depth = [1] * len(paths)
    while True:
        names = ["/".join(path.parts[-n:]) for path, n in zip(paths, depth, strict=True)]
        seen = Counter(names)
        if max(seen.values(), default=1) == 1:
            return names
        depth = [n + (seen[name] > 1) for n, name in zip(depth, names, strict=True)]


def spelled(path: Path) -> str:
    """A path with the bytes that are no UTF-8 spelled out, since JSON and pages cannot hold them."""
    return os.fsencode(path).decode(errors="backslashreplace")
