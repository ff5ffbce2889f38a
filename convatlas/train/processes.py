"""Several processes that train one network together, as torchrun starts them; a single one needs none of this."""

import os
import socket
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from ..errors import ConvAtlasError, RunFailed, UsageError

T = TypeVar("T")
PATIENCE = "CONVATLAS_TIMEOUT"  # environment: seconds that a process waits for the others
SECONDS = 600.0
TOLD = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")  # environment: what torchrun tells each process


@dataclass(frozen=True)
class Processes:
    """This process among those that train together. With one alone every method gives back what it got."""

    rank: int = 0
    of: int = 1
    store: Any = None  # where each writes down how far it is

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and talks."""
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        return self.rank, self.of

    def sum(self, tensor: Tensor) -> Tensor:
        """Adds up a tensor over all processes, in place."""
        if self.of > 1:
            dist.all_reduce(tensor)
        return tensor

    def told(self, thing: T) -> T:
        """What the first process has, for all."""
        if self.of == 1:
            return thing
        box = [thing]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gathered(self, thing: T) -> list[T]:
        """What each process has, by rank."""
        if self.of == 1:
            return [thing]
        found: list[Any] = [None] * self.of
        dist.all_gather_object(found, thing)
        return found

    def at(self, where: str) -> None:
        """Notes how far this process is, to be read by the others when it is waited for in vain."""
        if self.store is not None:
            self.store.set(f"convatlas/{self.rank}", f"{where} ({socket.gethostname()}, process {os.getpid()})")

    def together(self, net: nn.Module, device: torch.device) -> nn.Module:
        """The network with its gradients averaged over all processes at each backward pass."""
        if self.of == 1:
            return net
        on = [device.index] if device.type == "cuda" and device.index is not None else None
        # Some weights may have no gradient: of paths left out by chance, of heads that images for a share would need.
        # It also keeps the gradients where they lie in the buffers that are summed up. DDP would else order them anew
        # after the first step, after a resume at another step, and of three processes and more that changes bits.
        return nn.parallel.DistributedDataParallel(net, device_ids=on, find_unused_parameters=True)


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """The processes that torchrun started, of which this is one; may be entered again after it was left.

    NCCL joins those on GPUs; what is no tensor goes over gloo, whose waiting ends with an error and not with the
    process. Raises RunFailed where another one did not come or did not answer in time, with how far each is.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    patience = timedelta(seconds=seconds())
    try:
        shared, rank, of = _store(*(os.environ.get(name, "") for name in TOLD), patience)
        store = dist.PrefixStore(_fresh_name(shared, rank, of), shared)  # type: ignore[attr-defined]
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=of, timeout=patience)
    except (RuntimeError, TimeoutError) as error:
        raise RunFailed(
            f"not all of the {os.environ['WORLD_SIZE']} processes came ({PATIENCE} is {seconds():g} s): "
            f"{' '.join(str(error).split())[:160]}; start all of them again"
        ) from error
    here = Processes(rank, of, store)
    try:
        with warnings.catch_warnings():
            # torch's advice to leave out what `together` asks for.
            warnings.filterwarnings("ignore", "find_unused_parameters=True was specified")
            yield here
    except ConvAtlasError:
        raise
    except RuntimeError as error:
        if not is_lost(error):
            raise
        raise RunFailed(lost(here)) from error
    finally:
        dist.destroy_process_group()


@cache
def _store(address: str, port: str, rank: str, of: str, patience: timedelta) -> tuple[Any, int, int]:
    """What the processes share, and this one's number; opened once, as another one may be ahead in the next training.

    Raises UsageError where not everything was told that torchrun tells.
    """
    missing = [name for name, told in zip(TOLD, (address, port, rank, of), strict=True) if not told]
    if missing:
        raise UsageError(
            f"WORLD_SIZE is {of}, but {', '.join(missing)} not set; start the processes with torchrun, or unset "
            "WORLD_SIZE for one alone"
        )
    return next(iter(rendezvous("env://", timeout=patience)))


def _fresh_name(store: Any, rank: int, of: int) -> str:
    """A name that these processes have in common, and none that were here before: their addresses are still stored.

    torchrun keeps its store when it starts processes again, on some machines for the first time, so that they cannot
    count. Each tells a number of its own; the first one's is the name, and it says whose numbers it has heard.
    """
    own, deadline = uuid.uuid4().hex, time.monotonic() + seconds()
    others = [f"convatlas/number/{other}" for other in range(1, of)]
    if rank:
        store.set(f"convatlas/number/{rank}", own)
    while time.monotonic() < deadline:
        if rank:
            heard = store.get("convatlas/heard").decode().split() if store.check(["convatlas/heard"]) else []
            if own in heard:
                store.set(f"convatlas/follows/{rank}", heard[0])
                return heard[0]
        else:
            numbers = [store.get(name).decode() for name in others if store.check([name])]
            store.set("convatlas/heard", " ".join((own, *numbers)))
            follow = [f"convatlas/follows/{other}" for other in range(1, of)]
            if all(store.check([name]) and store.get(name).decode() == own for name in follow):
                return own
        time.sleep(0.01)
    raise TimeoutError("no answer from at least one")


def own_device(device: torch.device) -> torch.device:
    """This process's own of several GPUs, as torchrun numbers the processes of a machine. Raises UsageError."""
    local, here = os.environ.get("LOCAL_RANK"), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.type != "cuda" or local is None:
        return device
    if device.index is not None and here > 1:
        raise UsageError(
            f"--device {device} is one GPU for {here} processes, and each needs its own; give --device cuda"
        )
    if here > (there := torch.cuda.device_count()):
        raise UsageError(
            f"{here} processes are on a machine with {there} GPU{'s' * (there != 1)}, and each needs its own; "
            f"give torchrun --nproc-per-node {there}, or use --device cpu"
        )
    if device.index is None:
        device = torch.device("cuda", int(local))
    torch.cuda.set_device(device)
    return device


def speaks() -> bool:
    """Whether this process is the first one of those that torchrun started, which prints what all have found."""
    return os.environ.get("RANK", "0") == "0"


def seconds() -> float:
    given = os.environ.get(PATIENCE, str(SECONDS))
    try:
        value = float(given)
        if not value > 0:
            raise ValueError
    except ValueError:
        raise UsageError(f"{PATIENCE} is {given!r}; give the seconds to wait for another process, above 0") from None
    return value


def is_lost(error: RuntimeError) -> bool:
    """Whether a collective ended because another process hangs or is gone."""
    said = str(error).lower()
    return isinstance(error, dist.DistBackendError | dist.DistStoreError) or any(
        sign in said for sign in ("timed out", "timeout", "connection closed", "connection reset", "gloo")
    )


def lost(here: Processes) -> str:
    places = []
    for rank in range(here.of):
        place = "not known"
        try:
            if here.store.check([f"convatlas/{rank}"]):
                place = here.store.get(f"convatlas/{rank}").decode()
        except RuntimeError:  # the store is gone with the process that held it
            pass
        places.append(f"process {rank + 1}: {place}")
    return (
        f"process {here.rank + 1} of {here.of} waited in vain for another one ({PATIENCE} is {seconds():g} s); "
        f"last seen: {'; '.join(places)}; start all again with --resume, or let torchrun do it with --max-restarts"
    )
