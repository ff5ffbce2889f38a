"""The account of any nn.Module: a row an operation, exact counts, no values and no weights touched."""

import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadInput, ConvAtlasError
from ..table import Table
from ..uncollected import uncollected
from .field import Shape, start
from .fitting import fitting
from .leaves import shortcuts
from .mends import Misfit
from .rules import FREE, RULES
from .running import Run, standing_in, values
from .shape import ShapeTensor, new
from .untouched import untouched
from .walk import Walk, one_line

WHOLE = "the network's own forward"
WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
ODD = (torch.jit.ScriptModule, nn.modules.lazy.LazyModuleMixin, *WRAPPERS)
Input = Shape | Tensor | Sequence[Shape | Tensor] | Mapping[str, Shape | Tensor]


def account(net: nn.Module, input: Input, *, name: str = "", device: str | None = None) -> Table:
    """Walks shapes through the network's forward, in the mode that it is in, and gives a row an operation.

    `input`: (C,H,W) gets a batch of one; any other shape is taken whole; a list gives several inputs, a dict inputs by
    the names of the forward's arguments. A tensor (on the meta device, to cost nothing) stands for its shape and type,
    where another type than the weights' is wanted. The network is left as it was, and nothing is computed; it may be
    on any device. Training mode counts what a training step's forward does (dropout, auxiliary heads); put the network
    in evaluation mode for its cost in use.

    `device="cpu"` is for a forward that reads values: it is run, on the given tensors or on zeros, beside the rules.

    Raises BadInput with module path, operation and shapes where a shape does not fit, with the nearest mend, and where
    the forward needs the values of a tensor.
    """
    net = _unwrapped(net)
    with uncollected():
        modules = _modules(net)
        _check(modules)
        kind, place = _kind(modules.values())
        given = _several(input)
        inputs = {key: _input(shape, kind, place) for key, shape in given.items()}
        shapes = tuple(x.dims for x in inputs.values())
        try:
            walk = _walked(net, modules, inputs) if device is None else _run(net, modules, inputs, given, device)
        except Misfit as error:
            raise BadInput(_bettered(error, net, modules, inputs)) from error.__cause__
        return Table(name or type(net).__name__, shapes, walk.rows(), sum(walk.waiting.values()), tuple(walk.uncounted))


Inputs = Mapping[int | str, Any]  # numbers for inputs by position


def _walked(net: nn.Module, modules: dict[str, nn.Module], inputs: Inputs) -> Walk:
    walk = Walk(modules, RULES, FREE)
    untouched_now = untouched(modules.values())
    with (
        untouched_now,
        torch.inference_mode(False),
        torch.enable_grad(),
        _placed(walk),
        walk,
        shortcuts(walk),
    ):
        _forward(net, inputs)
    return walk


def _run(net: nn.Module, modules: dict[str, nn.Module], inputs: Inputs, given: Inputs, device: str) -> Walk:
    """The forward on values, recorded by the same rules."""
    if device != "cpu":
        raise BadInput(f"device {device!r} cannot run an account; give device='cpu', or none for shapes alone")
    with untouched(modules.values()), torch.inference_mode(False), torch.enable_grad(), standing_in(modules):
        walk = Run(modules, RULES, FREE)
        real = {key: walk.enter(x, values(given[key], x)) for key, x in inputs.items()}
        try:
            with _placed(walk), walk:
                _forward(net, real)
        finally:
            walk.leave()
    return walk


def _forward(net: nn.Module, inputs: Inputs) -> None:
    net(
        *[x for key, x in inputs.items() if isinstance(key, int)], **{k: x for k, x in inputs.items() if type(k) is str}
    )


@contextmanager
def _placed(walk: Walk) -> Iterator[None]:
    """An error of the network's own code becomes one line with its place."""
    try:
        yield
    except ConvAtlasError:
        raise
    except Exception as error:
        raise BadInput(f"at {_place(error, walk.paths)}: {type(error).__name__}: {one_line(str(error))}") from error


def _bettered(error: Misfit, net: nn.Module, modules: dict[str, nn.Module], inputs: Inputs) -> str:
    """The error's text, with an input that fits where the input's size decides and such a one is found."""
    if error.words.gap is None:
        return str(error)

    def probe(shapes: list[Shape]) -> float | None:
        trial = {}
        for (key, x), shape in zip(inputs.items(), shapes, strict=True):
            trial[key] = new(shape, x.kind, x.place)
            trial[key].fed = True
        try:
            _walked(net, modules, trial)
        except Misfit as found:
            return found.words.gap
        except BadInput:
            return None
        return 0

    found = fitting([x.dims for x in inputs.values()], error.words.gap, probe)
    if found is None:
        return str(error)
    mend = found if error.words.gap == -inf else f"{error.words.mend}; {found}"
    return f"at {error.place}: {error.words.got}; {mend}"


def _unwrapped(net: nn.Module) -> nn.Module:
    """The module itself inside torch.compile's wrapper and those for several devices."""
    while True:
        inner = net.module if isinstance(net, WRAPPERS) else getattr(net, "_orig_mod", net)
        if inner is net:
            return net
        net = inner


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
        if isinstance(module, WRAPPERS):
            raise BadInput(f"at {path}: a {type(module).__name__} spreads over devices; give the module that it wraps")
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


def _several(input: Any) -> dict[int | str, Any]:
    if isinstance(input, Tensor) or (isinstance(input, (tuple, list)) and input and isinstance(input[0], int)):
        return {0: input}
    if isinstance(input, (tuple, list)) and input:
        return dict(enumerate(input))
    if isinstance(input, Mapping) and input and all(isinstance(key, str) for key in input):
        return dict(input)
    raise BadInput(
        f"input {input!r} is no shape; give (channels, height, width) as (3, 224, 224), a list of shapes, or a dict of "
        "shapes by the names of the forward's arguments"
    )


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
