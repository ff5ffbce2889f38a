"""Predicted against measured peaks of a training step and of inference, on the CPU.

    python benchmarks/memory.py [NETWORK:BATCH ...] [--size 224] [--threads 1] [--resident]

Measured are the allocations themselves: torch's profiler notes every allocation and release of the CPU allocator,
oneDNN's workspaces among them; their running sum is added to the bytes of what was there before, read from the real
tensors. SGD with momentum and weight decay; the step is the second one, so that momentum exists. With --resident each
step also runs in a fresh process without the profiler, and the growth of its resident peak (VmHWM) is printed.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from harness import machine_line
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torchvision import models

from convatlas.memory import memory

CASES = ("vgg16:2", "vgg16:8", *(f"{net}:{n}" for net in ("googlenet", "resnet50", "densenet121") for n in (4, 16)))
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}  # freed pages go back at once


def build(name: str) -> nn.Module:
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    return models.get_model(name, weights=None, **options)


class Setting:
    """A network, its optimiser with its state, images and labels."""

    def __init__(self, name: str, batch: int, side: int):
        self.net = build(name)
        self.optimiser = torch.optim.SGD(self.net.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
        self.images, self.labels = torch.randn(batch, 3, side, side), torch.zeros(batch, dtype=torch.int64)

    def train(self) -> None:
        self.net.train()
        self.optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(self.net(self.images), self.labels).backward()
        self.optimiser.step()

    def infer(self) -> None:
        with torch.no_grad():
            self.net(self.images)

    def held(self, training: bool) -> int:
        kept = (
            [t for s in self.optimiser.state.values() for t in s.values() if isinstance(t, Tensor)] if training else []
        )
        return total([*self.net.parameters(), *self.net.buffers(), *kept, self.images, self.labels])


def total(tensors: Iterable[Tensor]) -> int:
    return sum(t.nbytes for t in tensors)


def highest(call: Callable[[], object]) -> int:
    """The largest running sum of allocations and releases."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def measured(name: str, batch: int, side: int) -> tuple[int, int]:
    setting = Setting(name, batch, side)
    setting.train()
    setting.optimiser.zero_grad(set_to_none=True)
    training = setting.held(True) + highest(setting.train)
    setting.optimiser.zero_grad(set_to_none=True)
    setting.net.eval()
    return training, setting.held(False) + highest(setting.infer)


def status(field: str) -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) * 1024


def resident(name: str, batch: int, side: int, training: bool) -> int:
    """Growth of the resident peak from before the network was built; a small step loads the libraries' code first."""
    torch.set_num_threads(1)
    small = Setting("resnet18", 2, 64)
    small.train()
    del small
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    base = status("VmRSS")
    setting = Setting(name, batch, side)
    if not training:
        setting.net.eval()
    for _ in range(2):
        setting.train() if training else setting.infer()
    return status("VmHWM") - base


def in_a_fresh_process(*arguments: object) -> int:
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import memory; print(memory.resident(*{arguments!r}))"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **RETURNED}, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resident", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{machine_line()}; {options.threads} threads; MB\n")
    print("| network | batch | what | predicted | measured | ratio | resident |\n|---|--:|---|--:|--:|--:|--:|")
    for case in options.cases:
        name, batch = case.split(":")
        n = int(batch)
        with torch.device("meta"):
            net = build(name)
        peak = memory(net, (3, options.size, options.size), batches=(n,)).peaks[0]
        found = measured(name, n, options.size)
        for what, ours, real in zip(("training", "inference"), (peak.training, peak.inference), found, strict=True):
            grown = in_a_fresh_process(name, n, options.size, what == "training") if options.resident else 0
            shown = f"{grown / 1e6:,.1f}" if grown else ""
            print(f"| {name} | {n} | {what} | {ours / 1e6:,.1f} | {real / 1e6:,.1f} | {ours / real:.4f} | {shown} |")


if __name__ == "__main__":
    main()
