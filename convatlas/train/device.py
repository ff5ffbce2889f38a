"""Where a network runs, and what to say when it does not fit there."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from ..errors import RunFailed

LAYOUT = torch.channels_last  # of weights in memory; on a CPU faster than the default for grey images too


def name_of(device: torch.device) -> str:
    """ "cpu", or the kind of device with its product's name."""
    if device.type == "cuda":
        return f"cuda, {torch.cuda.get_device_name(device)}"
    return str(device)


@contextmanager
def private_random_state(*devices: torch.device) -> Iterator[None]:
    """Lets the caller seed torch at will on these devices; its global random state is put back at the end."""
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        for device in devices:
            if device.type != "cpu":
                index = device.index if device.index is not None else torch.accelerator.current_device_index()
                stack.enter_context(torch.random.fork_rng(devices=[index], device_type=device.type))
        if any(device.type == "cuda" for device in devices):
            # cuDNN may else take another algorithm after a resume, which changes bits.
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True))
        yield


def reseed(device: torch.device, seed: int) -> None:
    """Seeds the generators that a network on that device draws from, and no others."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        with torch.accelerator.device_index(device.index):  # seeding is of the current device
            torch.get_device_module(device).manual_seed(seed)


@contextmanager
def out_of_memory(device: torch.device, doing: str) -> Iterator[None]:
    """Turns the allocator's errors, of a GPU or of the system, into one RunFailed line."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunFailed(_too_big(device, doing)) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the allocator of a GPU or of the system had nothing left."""
    said = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "can't allocate memory" in said
        or "not enough memory" in said
    )


def _too_big(device: torch.device, doing: str) -> str:
    return (
        f"out of memory on {device} while {doing}; "
        "start anew with a smaller batch (--set batch=...) or input (--set size=...)"
    )
