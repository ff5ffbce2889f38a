"""Opens shards: those that ConvAtlas wrote by their manifest, others by their headers."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import BadData, BadImage
from ..decoding import is_grey, printable
from ..folders import ROLES
from ..sets import Split, spaced
from . import fetching, manifest, samples
from .cache import Cache
from .manifest import Manifest, Part, Shard
from .stored import Local, Remote, Shards

TARS = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")
URLS = ("http://", "https://")
NAMES = ("classes.txt", "classnames.txt")  # ours; CLIP benchmark's
MANIFEST_BYTES = 10**8
HEADERS = 2000  # images that are asked for their colour mode at most
UNDIVIDED = ""  # the one split's key where nothing says which it is


@dataclass(frozen=True)
class Found:
    """`splits` by role, or the one key "" for shards that are not divided; `rule` says how they came about."""

    splits: dict[str, Split]
    classes: tuple[str, ...]
    channels: int  # 1 grey, 3 colour
    rule: str


def is_shards(source: str | Path) -> bool:
    """Whether `read` is meant: an http(s) address, a tar file, or a folder with shards in it or in its split folders.

    A folder that holds other folders beside tar files is none, unless it has a manifest of shards.
    """
    if isinstance(source, str) and source.lower().startswith(URLS):
        return True
    folder = Path(source)
    try:
        if folder.is_file():
            return _is_tar(folder)
        if not folder.is_dir():
            return False
        if _is_ours(folder / manifest.NAME):
            return True
        inner = [place for place in folder.iterdir() if place.is_dir() and not place.name.startswith(".")]
        if inner:
            return any(place.name.lower() in ROLES and any(map(_is_tar, place.iterdir())) for place in inner)
        return any(map(_is_tar, folder.iterdir()))
    except OSError:
        return False


def read(source: str | Path, *, cache: Cache | None = None) -> Found:
    """Opens shards; what is read at once is their index. `cache` is where those behind an address are kept.

    Raises BadData, one line, that names the shard and the entry where one is at fault.
    """
    if isinstance(source, str) and source.lower().startswith(URLS):
        return _remote(source, cache or Cache.default())
    place = Path(source)
    try:
        if place.is_dir() and (place / manifest.NAME).is_file() and _is_ours(place / manifest.NAME):
            return _listed(place)
        if (place / manifest.WRITING).is_file():
            raise BadData(f"the shards in {printable(str(place))} are not finished; write them again to go on")
        return _scanned(place)
    except OSError as error:
        at = printable(str(error.filename or source))
        raise BadData(f"{at} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _is_tar(path: Path) -> bool:
    return path.name.lower().endswith(TARS) and not path.name.startswith(".")


def _is_ours(path: Path) -> bool:
    """Whether a manifest.json is one of shards; other tools write files of that name, too."""
    try:
        with path.open("rb") as file:
            return manifest.KIND.encode() in file.read(200)
    except OSError:
        return False


def _listed(folder: Path) -> Found:
    found = manifest.parse((folder / manifest.NAME).read_bytes(), printable(str(folder / manifest.NAME)))
    for part in found.splits.values():
        for shard in part.shards:
            path = folder / shard.name
            if not path.is_file():
                raise BadData(f"{printable(str(path))} is missing; its manifest lists it, so fetch or write it again")
            if path.stat().st_size != shard.bytes:
                raise BadData(
                    f"{printable(str(path))} has {path.stat().st_size:,} bytes, its manifest says {shard.bytes:,}; "
                    "fetch or write it again"
                )
    return _by_manifest(found, Local(folder), lambda part: (folder / part.index.name).read_bytes())


def _remote(url: str, cache: Cache) -> Found:
    bare = url.split("?")[0].split("#")[0]
    if bare.lower().endswith(".json"):
        address, folder = url, url.replace(bare, bare.rpartition("/")[0], 1)
    else:
        address, folder = fetching.beside(url, manifest.NAME), url
    found = manifest.parse(fetching.content(address, MANIFEST_BYTES), printable(address))
    home = Remote(folder, cache)
    return _by_manifest(found, home, lambda part: home.fetched(part.index).read_bytes())


def _by_manifest(found: Manifest, home: Local | Remote, content: Callable[[Part], bytes]) -> Found:
    splits = {}
    for name, part in found.splits.items():
        columns = manifest.unpacked(content(part), part, len(found.classes), home.place(part.index.name))
        shard = np.repeat(np.arange(len(part.shards), dtype=np.uint32), [s.images for s in part.shards])
        labels = columns.pop("label").astype(np.int64)
        stored = Shards(home, part.shards, shard, columns["block"], columns["size"], columns["crc"])
        splits[name] = Split(name or "all", labels, None, stored, found.classes)
    return Found(splits, found.classes, found.channels, found.rule)


def _scanned(place: Path) -> Found:
    """Shards without a manifest: every header is read once."""
    root = place if place.is_dir() else place.parent
    parts: dict[str, tuple[tuple[Shard, ...], samples.Found]] = {}
    for role, paths in _by_role(place).items():
        images = samples.Found()
        shards = []
        for number, path in enumerate(paths):
            count = images.add(path, number)
            shards.append(Shard(path.relative_to(root).as_posix(), count, path.stat().st_size))
        if not len(images.label):
            raise BadData(f"the shards of {printable(str(place))}{role and ' ' + role} hold no image with a label")
        parts[role] = tuple(shards), images
    classes, numbers = _classes(root, {role: images for role, (_, images) in parts.items()})
    splits = {}
    for role, (listed, images) in parts.items():
        shard, block, size = (np.array(c, np.uint32) for c in (images.shard, images.block, images.size))
        stored = Shards(Local(root), listed, shard, block, size)
        splits[role] = Split(role or "all", numbers[role], None, stored, classes)
    tars = sum(len(listed) for listed, _ in parts.values())
    known = ", ".join(role for role in splits if role) or "not divided"
    return Found(splits, classes, _channels(next(iter(splits.values()))), f"{tars:,} shards: {known}")


def _by_role(place: Path) -> dict[str, list[Path]]:
    """Tar files by split, from the folder they lie in or a word of their name; in the order of their names."""
    if place.is_file():
        return {UNDIVIDED: [place]}
    found: dict[str, list[Path]] = {}
    homes: dict[str, Path] = {}
    for folder in sorted(p for p in place.iterdir() if p.is_dir() and p.name.lower() in ROLES):
        tars = sorted(filter(_is_tar, folder.iterdir()))
        if tars:
            role = ROLES[folder.name.lower()]
            if role in found:
                raise BadData(
                    f"{printable(str(place))} holds both {homes[role].name} and {folder.name}; keep one {role} folder"
                )
            found[role], homes[role] = tars, folder
    direct = sorted(filter(_is_tar, place.iterdir()))
    if found and direct:
        raise BadData(f"{printable(str(direct[0]))} lies beside split folders with shards; move it into one of them")
    for path in direct:
        found.setdefault(_role(path.name), []).append(path)
    if UNDIVIDED in found and len(found) > 1:
        named = next(paths[0] for role, paths in found.items() if role)
        raise BadData(
            f"{printable(str(found[UNDIVIDED][0]))} names no split and {named.name} does; begin every "
            "shard's name with train-, validation- or test-"
        )
    if not found:
        raise BadData(f"no shards (*.tar) in {printable(str(place))}")
    return {role: found[role] for role in ("train", "validation", "test", UNDIVIDED) if role in found}


def _role(name: str) -> str:
    """The split that the words of a name speak of: imagenet1k-train-0001.tar; none where there are two."""
    words = {ROLES[word] for word in re.split(r"[^a-z]+", name.lower()) if word in ROLES}
    return words.pop() if len(words) == 1 else UNDIVIDED


def _classes(root: Path, parts: dict[str, samples.Found]) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Class names and each split's labels, matched by name.

    Labels that are all whole numbers count the lines of a list of names, from 0; without a list they are the names.
    """
    first = next(iter(parts))
    told = {name for images in parts.values() for name in images.names}
    numeric = all(re.fullmatch(r"\d{1,9}", name) and str(int(name)) == name for name in told)
    listed = _list(root)
    if listed and numeric:
        file, names = listed
        highest = max(int(name) for name in told)
        if highest >= len(names):
            raise BadData(
                f"{printable(str(file))} has {len(names)} lines; labels go to {highest}, so give {highest + 1} "
                "different class names, one a line"
            )
        classes, number = names, {name: int(name) for name in told}
    else:
        order = listed[1] if listed else sorted(parts[first].names, key=int if numeric else str)
        classes, number = tuple(order), {name: i for i, name in enumerate(order)}
        for role, images in parts.items():
            extra = sorted(set(images.names) - number.keys())
            if extra:
                where = printable(str(listed[0])) if listed else f"{first} of {printable(str(root))}"
                raise BadData(
                    f"class {extra[0]!r} of the {role or 'all'} split is missing in {where}; labels are matched by "
                    "name, so rename or remove it"
                )
    if len(classes) < 2:
        raise BadData(f"{printable(str(root))} has one class, {classes[0]!r}; a classifier needs two or more")
    return classes, {
        role: np.array([number[name] for name in images.names], np.int64)[np.array(images.label, np.int64)]
        for role, images in parts.items()
    }


def _list(root: Path) -> tuple[Path, tuple[str, ...]] | None:
    """The list of class names beside the shards, a name a line."""
    file = next((root / name for name in NAMES if (root / name).is_file()), None)
    if file is None:
        return None
    try:
        lines = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    except ValueError:
        raise BadData(f"{printable(str(file))} is not UTF-8 text; give a class name a line") from None
    if not lines or len(set(lines)) < len(lines) or not all(lines):
        raise BadData(f"{printable(str(file))} has empty or equal lines; give different class names, one a line")
    return file, lines


def _channels(split: Split) -> int:
    """1 when every header of up to 2,000 evenly spaced images announces grey, else 3."""
    grey = False
    for i in spaced(len(split), HEADERS):
        try:
            given = split.given(i)
        except BadImage:
            continue
        answer = None if isinstance(given, np.ndarray) else is_grey(given)
        if answer is False:
            return 3
        grey = grey or answer is True
    return 1 if grey else 3
