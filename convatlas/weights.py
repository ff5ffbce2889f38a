"""Weights in and out: our own as safetensors, other people's also from torch's files; nothing here can run code."""

import argparse
import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from . import files
from .errors import BadCheckpoint
from .paper import Foreign

State = Mapping[str, Tensor]
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")
PREFIXES = re.compile(r"^(?:module\.|_orig_mod\.)+")  # of data-parallel training and of torch.compile
PICKLE, ZIP = b"\x80", b"PK\x03\x04"  # how torch's old and new files begin
SHOWN = 4  # differences named before "and n more"


def save(net: nn.Module | State, path: Path) -> None:
    """Writes a network's parameters and buffers, or a dictionary of tensors, as safetensors: whole or not at all.

    Equal tensors give equal bytes. Raises SaveFailed.
    """
    files.write(path, content(net))


def content(net: nn.Module | State) -> bytes:
    """The bytes that `save` writes."""
    state = net.state_dict() if isinstance(net, nn.Module) else net
    # A copy of each, since the format knows neither strides nor two names for one tensor.
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
    }
    return safetensors.torch.save(copies)


def digest(state: State) -> str:
    """sha256 over names, types, shapes and values, whatever file they came from and in whatever order."""
    found = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def to_foreign(net: nn.Module | State, foreign: Foreign) -> dict[str, Tensor]:
    """A network's parameters and buffers under the other library's names, in our order; the tensors are the same ones.

    The library's own network loads it strictly, where both have auxiliary heads or neither has.
    """
    state = net.state_dict() if isinstance(net, nn.Module) else net
    return {foreign.their_name(name): tensor for name, tensor in state.items()}


def load(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU. Raises BadCheckpoint with the path and the fault."""
    if _of_torch(_start(path)):
        raise BadCheckpoint(
            f"{path} is not safetensors but a torch file (a pickle), which is not read here; "
            "convert it with weights.read_foreign and weights.save"
        )
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # the file may be hostile, so any failure means that it is not what it should be
        raise BadCheckpoint(f"{path} is not a whole safetensors file: {one_line(error)}; {AGAIN}") from error


AGAIN = "copy or download it again"


def read_foreign(path: Path) -> dict[str, Tensor]:
    """The tensors of a torch file (.pth, .pt, .th) or of a safetensors file, on the CPU, in the file's order.

    A dictionary under a usual name ("state_dict", "model", "model_state_dict", ...) is unwrapped, and the prefixes of
    data-parallel training and of torch.compile are dropped. Torch files are read with weights_only=True, so that they
    cannot run code. Raises BadCheckpoint.
    """
    start = _start(path)
    if not _of_torch(start):
        return load(path)
    if start.startswith(ZIP):
        _refuse_bomb(path)
    try:
        # torchvision's and timm's training scripts add their arguments to a checkpoint; a Namespace only holds values.
        harmless = torch.serialization.safe_globals([argparse.Namespace])
        with harmless, warnings.catch_warnings(action="ignore"):  # of what is refused below anyway
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        forbidden = re.search(r"GLOBAL (\S+)", str(error))
        if forbidden:
            raise BadCheckpoint(
                f"{path} asks for {forbidden[1]}, which could run code, and was refused; "
                "only files of plain tensors are read, save its state_dict() alone"
            ) from error
        # torch's own message would advise to read the file in the unsafe way
        reason = "its pickle is damaged" if isinstance(error, pickle.UnpicklingError) else one_line(error)
        raise BadCheckpoint(f"{path} is not a whole torch file: {reason}; {AGAIN}") from error
    return plain(found, str(path))


def plain(content: object, where: str) -> dict[str, Tensor]:
    """The tensors of what a torch file held; `where` names it in messages. Raises BadCheckpoint for anything else."""
    while isinstance(content, dict):
        inner = next((content[w] for w in WRAPPERS if isinstance(content.get(w), dict)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, dict) or not content:
        raise BadCheckpoint(
            f"{where} holds {_kind(content)}, not a dictionary of tensors; save the network's state_dict()"
        )
    for name, value in content.items():
        if not isinstance(name, str) or not _plain(value):
            raise BadCheckpoint(
                f"{where} holds {_kind(value)} under {str(name)!r}, not a plain tensor; "
                "save the network's state_dict() alone"
            )
    return {PREFIXES.sub("", name): value for name, value in content.items()}


def fill(net: nn.Module, state: State, where: str) -> None:
    """Copies tensors into a network by name; `where` names their source in messages.

    Raises BadCheckpoint, before anything is copied, unless names, shapes and kinds of number all agree.
    """
    own = net.state_dict()
    refuse_different(own, state, where)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])


def refuse_different(expected: State, state: State, where: str) -> None:
    """Raises BadCheckpoint that shows both sides unless names, shapes and kinds of number all agree."""
    wanted, found = {n: _label(t) for n, t in expected.items()}, {n: _label(t) for n, t in state.items()}
    if wanted == found:
        return
    names = [*wanted, *(n for n in found if n not in wanted)]
    differing = (n for n in names if wanted.get(n) != found.get(n))
    lines = [
        _pair(f"{n} {wanted[n]}" if n in wanted else "", f"{n} {found[n]}" if n in found else "") for n in differing
    ]
    raise BadCheckpoint(f"{where} does not fit the network: {_some(lines)} {SIGNS}")


SIGNS = "(- expected, + found); give weights of the same network, classes and channels"


def fill_by_order(net: nn.Module, state: State, where: str) -> None:
    """Copies tensors into a network by the order of the entries, for files that name them otherwise.

    Every shape must agree, and the last part of every name (weight, bias, running_mean, ...), so that a file in another
    order is refused; safetensors files are in alphabetical order and mostly are. Counters of batches are ignored on
    either side. Raises BadCheckpoint before anything is copied.
    """
    own, given = _countless(net.state_dict()), _countless(state)
    lines = [
        _pair(f"{a} {_label(ta)}", f"{b} {_label(tb)}")
        for (a, ta), (b, tb) in zip(own, given, strict=False)
        if (_last(a), _label(ta)) != (_last(b), _label(tb))
    ]
    if len(own) != len(given):
        lines.insert(0, _pair(f"{len(own)} entries", f"{len(given)} entries"))
    if lines:
        raise BadCheckpoint(f"{where} does not fit the network entry by entry: {_some(lines)} {SIGNS}")
    with torch.no_grad():
        for (_, target), (_, tensor) in zip(own, given, strict=True):
            target.copy_(tensor)


def _countless(state: State) -> list[tuple[str, Tensor]]:
    return [(n, t) for n, t in state.items() if _last(n) != "num_batches_tracked"]


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _label(tensor: Tensor) -> str:
    """The shape, and the type where it is not of the floating kind: "(64, 3, 7, 7)", "() int64"."""
    shape = str(tuple(tensor.shape))
    return shape if tensor.is_floating_point() else f"{shape} {str(tensor.dtype).removeprefix('torch.')}"


def _pair(expected: str, found: str) -> str:
    return " ".join([f"- {expected}"] * bool(expected) + [f"+ {found}"] * bool(found))


def _some(lines: list[str]) -> str:
    more = f", and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return ", ".join(lines[:SHOWN]) + more


def _start(path: Path) -> bytes:
    """The first bytes, which tell the format. Raises BadCheckpoint where there is no file to read."""
    try:
        with Path(path).open("rb") as file:
            return file.read(9)
    except FileNotFoundError:
        raise BadCheckpoint(f"no weights at {path}; give the path of a .safetensors file") from None
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read: {error.strerror or error}; give the path of a file") from None


def _of_torch(start: bytes) -> bool:
    """Whether a file begins as torch's do; so may a safetensors file: its header's length, a brace."""
    return start.startswith((PICKLE, ZIP)) and not (start[4:8] == bytes(4) and start[8:9] == b"{")


def _refuse_bomb(path: Path) -> None:
    """Torch stores its records uncompressed; a file that says it unpacks to more than it holds is an attack."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(record.file_size for record in archive.infolist())
    except Exception as error:
        raise BadCheckpoint(f"{path} is not a whole torch file: {one_line(error)}; {AGAIN}") from error
    if unpacked > Path(path).stat().st_size:
        raise BadCheckpoint(f"{path} claims {unpacked} bytes of records, more than the file has; {AGAIN}")


def _plain(value: object) -> bool:
    """Whether it is a tensor whose numbers are all there: dense, not quantised, not on the meta device."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not value.is_quantized
        and value.device.type == "cpu"
    )


def _kind(thing: object) -> str:
    return f"an empty {type(thing).__name__}" if thing in ({}, [], ()) else f"a {type(thing).__name__}"


def one_line(error: Exception) -> str:
    """The first line of a library's message, without its full stop; the error's name where it has none."""
    first: Iterable[str] = (line.strip() for line in str(error).splitlines() if line.strip())
    return next(iter(first), type(error).__name__).rstrip(".")[:200]
