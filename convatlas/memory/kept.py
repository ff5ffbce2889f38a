"""Memory that this process keeps between the steps or calls of a network on the CPU."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
MMAP_MAX, TRIM = 65536, 128 * 1024  # glibc's defaults


@contextmanager
def kept_memory() -> Iterator[None]:
    """Lets this process keep the memory that it frees, which the next step asks for again.

    glibc hands large blocks back to the kernel at once, which then clears every page anew: 10 to 25 % of a training
    step on a CPU. Elsewhere nothing happens.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        tune, give_back = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):
        yield
        return
    tune(M_MMAP_MAX, 0)
    tune(M_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        tune(M_MMAP_MAX, MMAP_MAX)
        tune(M_TRIM_THRESHOLD, TRIM)
        give_back(0)


@contextmanager
def returned_memory() -> Iterator[None]:
    """The other way round, within `kept_memory`: what is run here finds memory as it is without that."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        tune, give_back = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):
        yield
        return
    tune(M_MMAP_MAX, MMAP_MAX)
    tune(M_TRIM_THRESHOLD, TRIM)
    give_back(0)
    try:
        yield
    finally:
        tune(M_MMAP_MAX, 0)
        tune(M_TRIM_THRESHOLD, 2**31 - 1)
