"""One batch size tried in this process: `python -m convatlas.experiments.trial BATCH`, told more on stdin as JSON.

Prints {"fits", "peak", "reason"}. It may be ended by the system for want of memory, which is why it is a process.
"""

import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..paper import Recipe
from ..record import from_json

if TYPE_CHECKING:
    import torch

SMALL = 2  # images of the step that loads the libraries' code before memory is counted
UPDATES = 2  # the optimiser's state appears in the first


@dataclass(frozen=True)
class Asked:
    network: str
    input: tuple[int, int, int]
    classes: int
    recipe: Recipe
    device: str
    budget: int  # bytes


def main() -> None:
    asked = from_json(Asked, sys.stdin.read())
    print(json.dumps(tried(asked, int(sys.argv[1]))), flush=True)


def tried(asked: Asked, batch: int) -> dict[str, Any]:
    """Whether two updates with that batch go through, and what they took at most, in bytes."""
    import torch

    device = torch.device(asked.device)
    _step(asked, device, SMALL, 1)
    base = _begin(device, asked.budget)
    try:
        _step(asked, device, batch, UPDATES)
    except (torch.OutOfMemoryError, MemoryError) as error:
        return {"fits": False, "peak": _peak(device, base), "reason": _short(error)}
    except (RuntimeError, ValueError) as error:
        if _want_of_memory(str(error)):
            return {"fits": False, "peak": _peak(device, base), "reason": "the allocator refused"}
        if "more than 1 value per channel" in str(error):
            return {"fits": False, "peak": _peak(device, base), "reason": "batch norm cannot learn from one image"}
        raise
    return {"fits": True, "peak": _peak(device, base), "reason": ""}


def _short(error: BaseException) -> str:
    return "the allocator refused" if str(error) else type(error).__name__


def _want_of_memory(said: str) -> bool:
    words = ("can't allocate memory", "not enough memory", "out of memory", "could not create a memory object")
    return any(w in said for w in words) or "could not create a primitive" in said


def _step(asked: Asked, device: "torch.device", batch: int, updates: int) -> None:
    import torch

    from ..networks import build
    from .setting import Stepping

    channels, height, width = asked.input
    net = build(asked.network, classes=asked.classes, channels=channels, input=(height, width))
    stepping = Stepping(net, asked.recipe, device)
    images = torch.rand(batch, *asked.input)
    if channels == 3:
        images = images.to(memory_format=torch.channels_last)
    labels = torch.arange(batch) % asked.classes
    for group in stepping.optimiser.param_groups:
        group["lr"] = 0.0  # the values do not matter, and none may overflow
    for _ in range(updates):
        stepping.step(images, labels)


def _begin(device: "torch.device", budget: int) -> int:
    """Starts counting; on the CPU the address space may from now on grow by the budget. Gives what is there already."""
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_reserved(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    space = _status("VmSize")
    if space:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (space + budget, hard))
    return _status("VmRSS")


def _peak(device: "torch.device", base: int) -> int:
    import torch

    if device.type == "cuda":
        return max(0, torch.cuda.max_memory_reserved(device) - base)
    if here := _status("VmHWM"):
        return max(0, here - base)
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _status(field: str) -> int:
    """Bytes of a field of Linux' /proc/self/status; 0 where there is none."""
    try:
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    except (OSError, StopIteration):
        return 0
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
