"""A process with torch loaded that forks a training for each request, so that a test can kill it at any moment.

Requests and answers are lines of JSON on stdin and stdout: {"run": ..., ...} is answered by {"pid": ...} at the start
and by {"status": ...} (os.waitstatus_to_exitcode) at the end. Not a test module; tests/train/conftest.py starts it.
"""

import json
import os
import pathlib
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch._dynamo  # an optimiser imports it, which takes a second; here once for all trainings
from torch import Tensor, nn

from convatlas.cli import _fault
from convatlas.layers import initialise_torch
from convatlas.networks import NETWORKS
from convatlas.paper import Network, Recipe
from convatlas.train import Options, loop, train
from convatlas.train.checkpoint import Checkpoints
from convatlas.train.updating.step import Stepper


class Tiny(nn.Module):
    """All that makes a resume hard in a few hundred weights: batch norm's statistics, and dropout's random numbers."""

    def __init__(self, *, classes: int = 4, channels: int = 3, input: tuple[int, int] = (16, 16)):
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, stride=2)
        self.bn = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(self.bn(self.conv(x)).relu().mean(dim=(2, 3))))


class Wide(Tiny):
    """A checkpoint of 5 MB: 624,000 weights and their momentum."""

    def __init__(self, *, classes: int = 4, channels: int = 3, input: tuple[int, int] = (16, 16)):
        super().__init__(classes=classes, channels=channels, input=input)
        self.fc = nn.Sequential(nn.Linear(8, 48_000), nn.ReLU(), nn.Linear(48_000, classes))  # type: ignore[assignment]


WIDE = Network(Wide, initialise_torch, (3, 16, 16), 4, "small", smallest=4)
TINY = Network(Tiny, initialise_torch, (3, 16, 16), 4, "small", smallest=4)
RECIPE = Recipe(
    epochs=3.5, batch=8, lr=0.1, weight_decay=1e-3, schedule="plateau", factor=0.5, patience=1, augment=("flip",)
)
# Every piece of state that a training may have beside plain SGD's.
HARD = Recipe(
    epochs=3.5, batch=8, parts=2, optimiser="rmsprop", lr=0.01, momentum=0.9, epsilon=1.0, weight_decay=1e-3, clip=1.0,
    schedule="exponential", factor=0.9, every=0.5, warm_up=3, warm_up_lr=0.005, warm_up_error=0.9, label_smoothing=0.1,
    average=0.9, statistics=24, balance="sampler", augment=("pad-crop 2", "flip", "mixup 0.4"),
)  # fmt: skip
HALF = replace(HARD, optimiser="adamw", epsilon=1e-8, average=0.0, parts=1, precision="fp16", balance="weights")
COLOURS = replace(RECIPE, augment=("area 0.3-1", "flip", "colour 0.4", "pca-colour 0.1", "cutmix 1"))
RANDOM = replace(RECIPE, augment=("affine 10 0.1 0.2 5", "elastic 4 2", "randaugment 2 9"))
RECIPES = {"plain": RECIPE, "hard": HARD, "half": HALF, "colours": COLOURS, "random": RANDOM}
CALLS = ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "open", "truncate")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(number: int, act: Callable[[], None]) -> None:
    """Lets `act` happen just before the numbered one of the system calls with which saves make files whole."""
    left = number
    saving = False
    save = Checkpoints.save

    def watched_save(self: Checkpoints, moment: Any) -> None:
        nonlocal saving
        saving = True
        save(self, moment)
        saving = False

    Checkpoints.save = watched_save  # type: ignore[method-assign]

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= saving
            if saving and left == 0:
                act()
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, watched(getattr(os, name)))
    pathlib.Path.write_text = watched(pathlib.Path.write_text)  # type: ignore[method-assign]


def at_step(number: int, act: Callable[[], None]) -> None:
    """Lets `act` happen just before the update after so many finished ones."""
    step = Stepper.step

    def watched(self: Stepper, batch: Any, rate: float, done: int, *rest: Any) -> Any:
        if done == number:
            act()
        return step(self, batch, rate, done, *rest)

    Stepper.step = watched  # type: ignore[method-assign]


def at_validation(number: int, act: Callable[[], None]) -> None:
    """Lets `act` happen in the numbered validation, before its first batch."""
    left = number
    count = loop.count

    def watched(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            act()
        return count(*args, **kwargs)

    loop.count = watched  # type: ignore[attr-defined]


def work(request: dict[str, Any]) -> int:
    os.dup2(os.open(request["stderr"], os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
    network = request.get("network", "tiny")
    sys.argv = ["convatlas", "train", network, request["data"], "--out", request["run"], *request.get("typed", [])]
    if request.get("kill_at_call"):
        at_call(request["kill_at_call"], die)
    if request.get("kill_at_step"):
        at_step(request["kill_at_step"], die)
    if request.get("stop_in_validation"):
        at_validation(request["stop_in_validation"], lambda: os.kill(os.getpid(), signal.SIGTERM))
    if request.get("largest_file"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"], request["largest_file"]))
    os.environ.update(request.get("environment", {}))
    if request.get("stuck", "none") == os.environ.get("RANK"):  # this process never gets beyond its third step
        step = Stepper.step
        Stepper.step = lambda self, batch, rate, number, *rest: (  # type: ignore[method-assign, misc]
            step(self, batch, rate, number, *rest) if number < 3 else time.sleep(1000)
        )
    if request.get("slow"):  # seconds a batch, so that a signal meets a step and not the end
        forward = Tiny.forward

        def slow(self: Tiny, x: Tensor) -> Tensor:
            time.sleep(request["slow"])
            return forward(self, x)

        Tiny.forward = slow  # type: ignore[method-assign]
    name = request.get("recipe", "plain")
    if name == "half":  # so that within few steps the loss's scale grows, overflows and falls
        torch.amp.GradScaler = partial(torch.amp.GradScaler, growth_interval=2, growth_factor=32.0)  # type: ignore
    options = Options(
        device="cpu", workers=request.get("workers", 0), progress=False, save_seconds=request.get("save_seconds", 0.0),
        gradients=name in ("hard", "half"),
    )  # fmt: skip
    try:
        train(
            network, request["data"], pathlib.Path(request["run"]), recipe=RECIPES[name], resume=True, options=options
        )
    except BaseException as error:
        return _fault(error)
    return 0


def answer(**what: int) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    torch.set_num_threads(1)
    NETWORKS.update(tiny=TINY, wide=WIDE)
    answer(ready=1)
    for line in iter(sys.stdin.readline, "\n"):
        if not line:
            break
        request = json.loads(line)
        pids = [fork(request, place) for place in places(request.get("processes", 1))]
        answer(pid=pids[request.get("wanted", 0)])
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        answer(status=next((s for s in statuses if s), 0))


def fork(request: dict[str, Any], place: dict[str, str]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.environ.update(place)
            code = work(request)
        finally:
            os._exit(code)
    return pid


def places(of: int) -> list[dict[str, str]]:
    """What torchrun tells each of several processes."""
    if of == 1:
        return [{}]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(of), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(of)]


if __name__ == "__main__":
    main()
    os._exit(0)  # an orderly end of torch takes a second
