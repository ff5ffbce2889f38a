"""Weights in and out: our own as safetensors, other people's also from torch's files; nothing here can run code."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from . import files
from .errors import BadCheckpoint

State = Mapping[str, Tensor]
PICKLE, ZIP = b"\x80", b"PK\x03\x04"  # how torch's old and new files begin
SHOWN = 4  # differences named before "and n more"


def save(net: nn.Module | State, path: Path) -> None:
    """Writes a network's parameters and buffers, or a dictionary of tensors, as safetensors: whole or not at all.

    Equal tensors give equal bytes. Raises SaveFailed.
    """
    state = net.state_dict() if isinstance(net, nn.Module) else net
    # A copy of each, since the format knows neither strides nor two names for one tensor.
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
    }
    files.write(path, safetensors.torch.save(copies))


def load(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU. Raises BadCheckpoint with the path and the fault."""
    start = _start(path)
    if start.startswith((PICKLE, ZIP)):
        raise BadCheckpoint(
            f"{path} is not safetensors but a torch file (a pickle), which is not read here; "
            "convert it with weights.read_foreign and weights.save"
        )
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # the file may be hostile, so any failure means that it is not what it should be
        raise BadCheckpoint(f"{path} is not a whole safetensors file: {_one_line(error)}; {AGAIN}") from error


AGAIN = "copy or download it again"


def read_foreign(path: Path) -> dict[str, Tensor]:
    """The tensors of a torch file (.pth, .pt, .th) or of a safetensors file, on the CPU, in the file's order.

    A dictionary under "state_dict" is unwrapped and the prefix "module." of data-parallel training is dropped. Torch
    files are read with weights_only=True, so that they cannot run code. Raises BadCheckpoint.
    """
    start = _start(path)
    if not start.startswith((PICKLE, ZIP)):
        return load(path)
    if start.startswith(ZIP):
        _refuse_bomb(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # of what is refused below anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        forbidden = re.search(r"GLOBAL (\S+)", str(error))
        if forbidden:
            raise BadCheckpoint(
                f"{path} asks for {forbidden[1]}, which could run code, and was refused; "
                "only files of plain tensors are read, save its state_dict() alone"
            ) from error
        # torch's own message would advise to read the file in the unsafe way
        reason = "its pickle is damaged" if isinstance(error, pickle.UnpicklingError) else _one_line(error)
        raise BadCheckpoint(f"{path} is not a whole torch file: {reason}; {AGAIN}") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    return _tensors(content, path)


def fill(net: nn.Module, state: State, where: str) -> None:
    """Copies tensors into a network by name; `where` names their source in messages.

    Raises BadCheckpoint, before anything is copied, unless names, shapes and kinds of number all agree.
    """
    own = net.state_dict()
    wanted, found = {n: _label(t) for n, t in own.items()}, {n: _label(t) for n, t in state.items()}
    if wanted != found:
        names = [*wanted, *(n for n in found if n not in wanted)]
        differing = (n for n in names if wanted.get(n) != found.get(n))
        lines = [
            _pair(f"{n} {wanted[n]}" if n in wanted else "", f"{n} {found[n]}" if n in found else "") for n in differing
        ]
        raise BadCheckpoint(f"{where} does not fit the network: {_some(lines)} {SIGNS}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])


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
            return file.read(4)
    except FileNotFoundError:
        raise BadCheckpoint(f"no weights at {path}; give the path of a .safetensors file") from None
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read: {error.strerror or error}; give the path of a file") from None


def _refuse_bomb(path: Path) -> None:
    """Torch stores its records uncompressed; a file that says it unpacks to more than it holds is an attack."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(record.file_size for record in archive.infolist())
    except Exception as error:
        raise BadCheckpoint(f"{path} is not a whole torch file: {_one_line(error)}; {AGAIN}") from error
    if unpacked > Path(path).stat().st_size:
        raise BadCheckpoint(f"{path} claims {unpacked} bytes of records, more than the file has; {AGAIN}")


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, dict) or not content:
        raise BadCheckpoint(
            f"{path} holds {_kind(content)}, not a dictionary of tensors; save the network's state_dict()"
        )
    for name, value in content.items():
        if not isinstance(name, str) or not _plain(value):
            raise BadCheckpoint(
                f"{path} holds {_kind(value)} under {str(name)!r}, not a plain tensor; "
                "save the network's state_dict() alone"
            )
    return {name.removeprefix("module."): value for name, value in content.items()}


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


def _one_line(error: Exception) -> str:
    """The first line of a library's message, without its full stop; the error's name where it has none."""
    first: Iterable[str] = (line.strip() for line in str(error).splitlines() if line.strip())
    return next(iter(first), type(error).__name__).rstrip(".")[:200]
