"""The account of any nn.Module: a row an operation, exact counts, no values and no weights touched."""

import traceback
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadInput, ConvAtlasError
from ..table import Table
from .field import Shape, start
from .leaves import shortcuts
from .rules import FREE, RULES
from .shape import ShapeTensor, new
from .untouched import uncollected, untouched
from .walk import Walk, one_line

WHOLE = "the network's own forward"
ODD = (torch.jit.ScriptModule, nn.modules.lazy.LazyModuleMixin)
Input = Shape | Tensor | Sequence[Shape | Tensor]


def account(net: nn.Module, input: Input, *, name: str = "") -> Table:
    """Walks shapes through the network's forward, in the mode that it is in, and gives a row an operation.

    `input`: (C,H,W) gets a batch of one; any other shape is taken whole; a list gives several inputs. A tensor (on the
    meta device, to cost nothing) stands for its shape and type, where another type than the weights' is wanted. The
    network is left as it was, and nothing is computed; it may be on any device. Training mode counts what a training
    step's forward does (dropout, auxiliary heads); put the network in evaluation mode for its cost in use.

    Raises BadInput with module path, operation and shapes where a shape does not fit, and where the forward needs the
    values of a tensor.
    """
    net = getattr(net, "_orig_mod", net)  # torch.compile's wrapper around the module itself
    modules = _modules(net)
    _check(modules)
    kind, place = _kind(modules.values())
    inputs = [_input(shape, kind, place) for shape in _several(input)]
    walk = Walk(modules, RULES, FREE)
    with uncollected(), untouched(modules.values()), torch.inference_mode(False), torch.enable_grad():
        try:
            with walk, shortcuts(walk):
                net(*inputs)
        except ConvAtlasError:
            raise
        except Exception as error:
            raise BadInput(f"at {_place(error, walk.paths)}: {type(error).__name__}: {one_line(str(error))}") from error
    shapes = tuple(x.dims for x in inputs)
    return Table(name or type(net).__name__, shapes, walk.rows(), sum(walk.waiting.values()), tuple(walk.uncounted))


def _modules(net: nn.Module) -> dict[str, nn.Module]:
    """`named_modules` in its order, each module once, without its cost (a quarter of an account)."""
    out: dict[str, nn.Module] = {}
    seen: set[int] = set()

    def visit(module: nn.Module, path: str) -> None:
        if id(module) in seen:
            return
        seen.add(id(module))
        out[path] = module
        for name, child in module._modules.items():
            if child is not None:
                visit(child, f"{path}.{name}" if path else name)

    visit(net, "")
    return out


def _check(modules: dict[str, nn.Module]) -> None:
    odd = {kind for kind in set(map(type, modules.values())) if issubclass(kind, ODD)}
    for path, module in modules.items():
        if module.__dict__.get("_compiled_call_impl") is not None or "_orig_mod" in module._modules:
            raise BadInput(f"at {path or WHOLE}: a compiled module cannot be walked; give the one before compiling")
        if type(module) not in odd:
            continue
        if isinstance(module, torch.jit.ScriptModule):
            raise BadInput(f"at {path or WHOLE}: scripted code cannot be walked; give the module that it was made from")
        if isinstance(module, nn.modules.lazy.LazyModuleMixin) and module.has_uninitialized_params():
            raise BadInput(f"at {path or WHOLE}: a lazy layer has no weights yet; run the network once, then account")


def _kind(modules: Collection[nn.Module]) -> tuple[torch.dtype, torch.device]:
    """Type and device of the first floating-point parameter, or else buffer."""
    owned = (t for part in ("_parameters", "_buffers") for m in modules for t in getattr(m, part).values())
    for t in owned:
        if t is not None and t.is_floating_point():
            return t.dtype, t.device
    return torch.get_default_dtype(), torch.device("cpu")


def _several(input: Any) -> list[Any]:
    if isinstance(input, Tensor) or (isinstance(input, (tuple, list)) and input and isinstance(input[0], int)):
        return [input]
    if isinstance(input, (tuple, list)) and input:
        return list(input)
    raise BadInput(f"input {input!r} is no shape; give (channels, height, width) as (3, 224, 224), or a list of shapes")


def _input(given: Any, kind: torch.dtype, place: torch.device) -> ShapeTensor:
    if isinstance(given, Tensor):
        shape, kind = tuple(given.shape), given.dtype
    else:
        shape = tuple(given) if isinstance(given, (tuple, list)) else ()
        if not shape or not all(isinstance(n, int) and n > 0 for n in shape):
            raise BadInput(f"input {given!r} is no shape; give whole numbers above zero, as in (3, 224, 224)")
        shape = (1, *shape) if len(shape) == 3 else shape
    x = new(shape, kind, place)
    x.fed, x.field = True, start(shape)
    return x


def _place(error: Exception, paths: dict[int, str]) -> str:
    """The innermost module in whose forward an error of the network's own code came up."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and id(owner) in paths:
            return f"{paths[id(owner)] or WHOLE} ({type(owner).__name__})"
    return WHOLE


__all__ = ["account"]
