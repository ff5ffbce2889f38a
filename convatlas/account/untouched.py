"""The network and the world around it are after an account what they were before."""

import random
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

EMPTY: dict[str, Any] = {}


@contextmanager
def untouched(modules: Collection[nn.Module]) -> Iterator[None]:
    """Puts back what a forward pass sets on its modules (attributes, parameters, lists, dicts), and random states.

    A forward may set attributes: old-style weight_norm sets `weight` at each call. torch's own random state needs no
    guard, since no torch function runs; Python's and numpy's are put back only where they were used.
    """
    owns = [m.__dict__ for m in modules]
    dicts = [d for own in owns for d in (own, own["_parameters"], own["_buffers"], own["_modules"])]
    before = [d.copy() if d else EMPTY for d in dicts]
    torchs = {kind for kind in set(map(type, modules)) if kind.__module__.startswith("torch.nn.")}
    held = [v for m in modules if type(m) not in torchs for v in m.__dict__.values()]  # torch's layers collect nothing
    lists = [(v, v.copy()) for v in held if type(v) is list]
    caches = [(v, v.copy()) for v in held if type(v) is dict]  # LeViT keeps what it worked out for each device
    state = random.getstate()
    numpy_random = sys.modules.get("numpy.random")
    numpy_state = numpy_random.get_state() if numpy_random else ()
    try:
        yield
    finally:
        if not _same(dicts, before):
            for now, then in zip(dicts, before, strict=True):
                _restore(now, then)
        for cache, content in caches:
            if not _same(cache, content):
                _restore(cache, content)
        for collected, entries in lists:
            if not _same(collected, entries):
                collected[:] = entries
        if random.getstate() != state:
            random.setstate(state)
        if numpy_random and not all(map(_equal, numpy_random.get_state(), numpy_state)):
            numpy_random.set_state(numpy_state)


def _same(now: Any, before: Any) -> bool:
    """Identical members are equal without a look; asking a shape for equality raises, and then it is not the same."""
    try:
        return bool(now == before)
    except Exception:
        return False


def _equal(a: Any, b: Any) -> bool:
    return bool(a.tobytes() == b.tobytes()) if hasattr(a, "tobytes") else bool(a == b)


def _restore(now: dict[Any, Any], then: dict[Any, Any]) -> None:
    """Key by key, never empty in between: another thread may be using the module."""
    for key in [k for k in now if k not in then]:
        del now[key]
    for key, value in then.items():
        if now.get(key, now) is not value:
            now[key] = value
