"""Images that show the same although their bytes differ: resized, compressed anew, made brighter, saved in grey.

A 64-bit difference hash (Krawetz, "Kind of like that", 2013) finds candidates, thumbnails confirm them. On photos of
clothes, copies at half the size, at JPEG quality 30 or with the contrast raised by 30 % correlate by 0.98 and more
with their originals, different photos by 0.92 at most; cut or mirrored copies are not found.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from PIL import Image

SIDE = 32  # of a thumbnail; also the smallest side whose thumbnail holds the whole image
COLOURS = 4  # side of what is kept of the colours
DISTANCE = 10  # of 64 bits: copies of photos differ by 10 at most, one in 10,000 pairs of others by 6 or fewer
CORRELATION = 0.975  # between two thumbnails' grey values
DISTANCE_SMALL, CORRELATION_SMALL = 3, 0.99  # below 32 pixels, where strangers are more alike: ones of MNIST, 0.985
TINT = 12  # mean difference of colour values, of 255; the same shirt in another colour is no copy
GREY = 2  # mean colour up to which an image counts as grey, and so may be a copy of a coloured one
PLAIN = 2.0  # standard deviation of grey values up to which there is nothing to recognise
FLAT = 0.05  # standard deviations by which neighbours must differ to set a bit, so that noise on plain parts does not
BANDS, AGREE = 8, 2  # a table joins the hashes that agree in two of their eight bytes
ALL = tuple(combinations(range(BANDS), AGREE))  # finds whatever differs by six bits or fewer, and most of the rest
DISJOINT = ((0, 1), (2, 3), (4, 5), (6, 7))  # suffices for DISTANCE_SMALL: three bits cannot spoil four tables
MANY = 4_000_000  # pairs held before those found twice are dropped
NEIGHBOURS = 32  # compared within a group of equal bytes; more only in groups that hold little else


def thumbnail(picture: Image.Image) -> tuple[bytes, bytes]:
    """Grey values (32,32) and colours (2,4,4), uint8, of a picture in mode L or RGB."""
    small = picture.resize((SIDE, SIDE), Image.Resampling.BOX)
    if small.mode == "L":
        return small.tobytes(), bytes([128]) * (2 * COLOURS**2)
    grey, *colours = small.convert("YCbCr").split()
    return grey.tobytes(), b"".join(c.resize((COLOURS, COLOURS), Image.Resampling.BOX).tobytes() for c in colours)


def hashes(thumbnails: np.ndarray) -> np.ndarray:
    """uint8 (N,32,32) -> uint64 (N,): whether each of 9x8 grey values is exceeded by its right neighbour."""
    out = np.empty(len(thumbnails), np.uint64)
    weights = np.uint64(1) << np.arange(64, dtype=np.uint64)
    for start in range(0, len(thumbnails), 4096):
        part = thumbnails[start : start + 4096].astype(np.float32)
        spread = part.std(axis=(1, 2))[:, None, None]
        rows = part.reshape(len(part), 8, SIDE // 8, SIDE).mean(2)
        steps = np.diff(rows @ NINTHS, axis=2) > FLAT * spread
        out[start : start + 4096] = (steps.reshape(-1, 64) * weights).sum(1, dtype=np.uint64)
    return out


def plain(thumbnails: np.ndarray) -> np.ndarray:
    """bool (N,): images of practically one colour."""
    parts = range(0, len(thumbnails), 4096)
    stds = [thumbnails[s : s + 4096].reshape(-1, SIDE * SIDE).std(1, dtype=np.float32) for s in parts]
    return np.concatenate([np.zeros(0, np.float32), *stds]) <= PLAIN


def pairs(thumbnails: np.ndarray, colours: np.ndarray, small: np.ndarray) -> np.ndarray:
    """int64 (P,2), first < second: images that show the same.

    `small` (N,) says which have a side below 32 pixels. Time and memory grow with N, not with its square: where very
    many hashes share their bytes, each is compared with those next to it in the order of the other bytes.
    """
    codes = hashes(thumbnails)
    allowed = np.where(small, DISTANCE_SMALL, DISTANCE).astype(np.uint8)
    n = len(codes)
    found: list[np.ndarray] = []
    waiting, limit = 0, MANY
    for first, second in _candidates(codes, DISJOINT if small.all() else ALL):
        close = np.bitwise_count(codes[first] ^ codes[second]) <= np.minimum(allowed[first], allowed[second])
        first, second = first[close], second[close]
        found.append(np.minimum(first, second) * n + np.maximum(first, second))
        waiting += len(first)
        if waiting > limit:  # most pairs are found several times
            found = [np.unique(np.concatenate(found))]
            waiting, limit = len(found[0]), MANY + 2 * len(found[0])
    numbers = np.unique(np.concatenate([np.zeros(0, np.int64), *found]))
    near = np.stack([numbers // n, numbers % n], 1) if n else np.zeros((0, 2), np.int64)
    needed = np.where(small[near].any(1), CORRELATION_SMALL, CORRELATION)
    possible = _possible(near, thumbnails, needed)
    near, needed = near[possible], needed[possible]
    parts = range(0, len(near), 4096)
    kept = [_confirmed(near[s : s + 4096], thumbnails, colours, needed[s : s + 4096]) for s in parts]
    return np.concatenate([near[:0], *kept])


def components(edges: np.ndarray, n: int) -> list[list[int]]:
    """The sets of two and more of n that `edges` (P,2) join, each in order, by their first."""
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in edges.tolist():
        a, b = sorted((root(a), root(b)))
        parent[b] = a
    joined: dict[int, list[int]] = {}
    for i in np.unique(edges).tolist():
        joined.setdefault(root(i), []).append(i)
    return [joined[i] for i in sorted(joined)]


def _candidates(codes: np.ndarray, tables: Sequence[tuple[int, ...]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers of images whose hashes agree in the bytes of a table."""
    split = codes.view(np.uint8).reshape(-1, BANDS)
    for chosen in tables:
        others = [b for b in range(BANDS) if b not in chosen]
        # The chosen bytes lead: sorted so, those that agree in them lie together, and the likest of them nearest.
        order = np.ascontiguousarray(split[:, [*chosen, *others]][:, ::-1]).view(np.uint64).ravel()
        rank = np.argsort(order, kind="stable")
        key = order[rank] >> np.uint64(64 - 8 * AGREE)
        for step in range(1, min(NEIGHBOURS, len(rank) - 1) + 1):
            same = np.flatnonzero(key[step:] == key[:-step])
            if not len(same):
                break
            yield rank[same], rank[same + step]


def _possible(near: np.ndarray, thumbnails: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """bool (P,): pairs that the means of 4x4 values do not tell apart yet.

    |P(a - b)| <= |a - b| for a projection P, and |a - b|^2 = 2 - 2 times the correlation: none is lost.
    """
    coarse = np.empty((len(thumbnails), 64), np.float32)
    for start in range(0, len(thumbnails), 4096):
        part = _centred(thumbnails[start : start + 4096]).reshape(-1, 8, 4, 8, 4)
        coarse[start : start + 4096] = part.sum((2, 4)).reshape(-1, 64) / 4
    possible = np.empty(len(near), bool)
    for start in range(0, len(near), 65536):
        first, second = near[start : start + 65536].T
        apart = np.square(coarse[first] - coarse[second]).sum(1)
        possible[start : start + 65536] = apart <= 2 - 2 * needed[start : start + 65536] + 1e-5
    return possible


def _confirmed(near: np.ndarray, thumbnails: np.ndarray, colours: np.ndarray, needed: np.ndarray) -> np.ndarray:
    a, b = (_centred(thumbnails[near[:, side]]) for side in (0, 1))
    alike = (a * b).sum(1) >= needed
    tints = [colours[near[:, side]].reshape(len(near), -1).astype(np.int16) - 128 for side in (0, 1)]
    grey = np.minimum(*(np.abs(t).mean(1) for t in tints)) <= GREY
    alike &= grey | (np.abs(tints[0] - tints[1]).mean(1) <= TINT)
    return near[alike]


def _centred(thumbnails: np.ndarray) -> np.ndarray:
    """Mean 0 and length 1, float32 (N,1024), so that a product is the correlation."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return flat


def _ninths() -> np.ndarray:
    """(32,9): the area means of 32 columns over nine."""
    edges = np.arange(10) * SIDE / 9
    columns = np.arange(SIDE)[:, None]
    overlap = np.minimum(edges[1:], columns + 1) - np.maximum(edges[:-1], columns)
    return (np.maximum(overlap, 0) * 9 / SIDE).astype(np.float32)


NINTHS = _ninths()
