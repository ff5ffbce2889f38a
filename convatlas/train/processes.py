"""Several processes that train one network together, as torchrun starts them; a single one needs none of this."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from ..errors import RunFailed, UsageError

T = TypeVar("T")
PATIENCE = "CONVATLAS_TIMEOUT"  # environment: seconds that a process waits for the others
SECONDS = 600.0


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
        # Networks that leave out paths by chance give some weights no gradient.
        unused = any(hasattr(m, gate) for m in net.modules() for gate in ("drop_path", "survival"))
        on = [device.index] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(net, device_ids=on, find_unused_parameters=unused)


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """The processes that torchrun started, of which this is one; NCCL joins those on GPUs and gloo all others.

    Raises RunFailed where another one did not answer in time, with how far each is.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    patience = timedelta(seconds=seconds())
    store, rank, of = next(iter(rendezvous("env://", timeout=patience)))
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=of, timeout=patience)
    here = Processes(rank, of, store)
    try:
        yield here
    except RuntimeError as error:
        if not is_lost(error):
            raise
        raise RunFailed(lost(here)) from error
    finally:
        dist.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """This process's own of several GPUs, as torchrun numbers the processes of a machine."""
    local = os.environ.get("LOCAL_RANK")
    if device.type == "cuda" and device.index is None and local is not None:
        device = torch.device("cuda", int(local) % torch.cuda.device_count())
        torch.cuda.set_device(device)
    return device


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
