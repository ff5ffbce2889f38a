"""A short way for torch's own layers: a module that is one operation is answered at its call, without its forward.

The long way of a layer, through its forward, the functional form and torch's dispatch to the walk, costs several times
what the rule does. So `nn.Module._call_impl`, which `__call__` calls, is exchanged while any walk is on: on the thread
of a walk a plain layer of torch's own class (no subclass, no hook, no forward of its own) goes to its rule at once; all
other calls, and all of other threads, go where they went before. (Exchanging `__call__` itself would make Python visit
every subclass, a tenth of a millisecond each time.)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from threading import Lock, get_ident
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules import module as hooks

from .field import slid
from .products import plan
from .shape import ShapeTensor, new
from .walk import Clash, Walk

# A module's own attributes: looking them up in its __dict__ is fast even while nn.Module has just been changed.
Own = dict[str, Any]
Given = tuple[Any, tuple[Any, ...]] | None  # a function, and what a layer's forward gives it behind the input
_disabled = torch._C.DisableTorchFunction
_depth = torch._C._len_torch_function_stack
_grad = torch.is_grad_enabled
_walks: dict[int, Walk] = {}
_lock = Lock()
_original: Any = nn.Module._call_impl


# ---- The three that make up most of a network, with nothing in between ----------------------------------------------


def _convolution(walk: Walk, own: Own, x: ShapeTensor, path: str) -> ShapeTensor | None:
    p, waiting, padding = own["_parameters"], walk.waiting, own["padding"]
    weight, bias = p["weight"], p["bias"]
    if (
        own["padding_mode"] != "zeros"
        or type(padding) is str
        or id(weight) not in waiting
        or not weight.is_contiguous()
    ):
        return None
    try:
        shape, macs, channel, slides, setting = plan(
            2, x.dims, weight.shape, own["stride"], padding, own["dilation"], own["groups"]
        )
    except (Clash, TypeError, ValueError):
        return None  # the long way says what is wrong
    params, waiting[id(weight)], learning = waiting[id(weight)], 0, weight.requires_grad
    needs = learning or x.needs
    if bias is not None:
        if bias.numel() != shape[channel] or id(bias) not in waiting:
            waiting[id(weight)] = params
            return None
        params += waiting[id(bias)]
        waiting[id(bias)] = 0
        needs = needs or bias.requires_grad
    out = new(shape, x.kind, x.place)
    out.fed = out.learned = True
    field = x.field
    out.field = field if slides == STILL or not field else slid(field, x.dims, channel, slides)
    out.needs = needs and _grad()
    walk.op, walk.setting = "conv2d", {**setting, "bias": bias is not None}
    walk.note(path, (x.dims,), params, out, macs, prod(shape), macs * (x.needs + learning) if out.needs else 0)
    if out.needs and not x.kept:
        walk.keep(x)
        walk.charge()
    return out


STILL = ((0, 1, 0), (0, 1, 0))


def _batch_norm(walk: Walk, own: Own, x: ShapeTensor, path: str) -> ShapeTensor | None:
    p, b, training = own["_parameters"], own["_buffers"], own["training"]
    weight, bias, mean, variance = p["weight"], p["bias"], b["running_mean"], b["running_var"]
    if training and not own["track_running_stats"]:
        mean = variance = None
    training = training or (mean is None and variance is None)
    channels, params, waiting = x.dims[1], 0, walk.waiting
    for t in (weight, bias, mean, variance):
        if t is not None and (type(t) is ShapeTensor or t.numel() != channels):
            return None
    if mean is not None and mean.dtype is not x.kind:
        return None
    out = new(x.dims, x.kind, x.place)
    out.fed, out.learned, out.field = True, x.learned, x.field
    needs = x.needs
    for t in (weight, bias):
        if t is not None and id(t) in waiting:
            params += waiting[id(t)]
            waiting[id(t)] = 0
            out.learned = True
            needs = needs or t.requires_grad
    walk.op, walk.setting = "batch_norm", {"eps": own["eps"], "training": training, "affine": weight is not None}
    walk.note(path, (x.dims,), params, out, 0, prod(x.dims), 0)
    if needs and _grad():
        out.needs = True
        if not x.kept:
            walk.keep(x)
        row, held = len(walk.notes) - 1, walk.held
        for t in (mean, variance):
            if t is not None and id(t) not in held:
                held[id(t)] = t, row
        if weight is not None and id(weight) not in waiting:
            walk.keep(weight)
        if training:
            walk.keep_bytes(2 * channels * x.kind.itemsize)
        walk.charge()
    return out


def _relu(walk: Walk, own: Own, x: ShapeTensor, path: str) -> ShapeTensor:
    walk.op, walk.setting, out = "relu", {}, x
    if own["inplace"]:
        walk.note(path, (x.dims,), 0, x, 0, 0, 0)
    else:
        out = new(x.dims, x.kind, x.place)
        out.fed, out.learned, out.field, out.needs = True, x.learned, x.field, x.needs and _grad()
        walk.note(path, (x.dims,), 0, out, 0, prod(x.dims), 0)
    if out.needs and not out.kept and _grad():
        walk.keep(out)
        walk.charge()
    return out


# ---- Others, by the function that their forward calls ---------------------------------------------------------------


def _in_place(function: Any) -> Callable[[Own], Given]:
    return lambda own: None if own["inplace"] else (function, ())


def _with(function: Any, *names: str) -> Callable[[Own], Given]:
    return lambda own: (function, tuple([own[name] for name in names]))


# Layers by what their call comes to, and the dimensions that the input must have (0: any).
SHORT: dict[type[nn.Module], tuple[Callable[[Walk, Own, ShapeTensor, str], Any], int]] = {
    nn.Conv2d: (_convolution, 4),
    nn.BatchNorm2d: (_batch_norm, 4),
    nn.ReLU: (_relu, 0),
}
BY_FUNCTION: dict[type[nn.Module], tuple[Callable[[Own], Given], int]] = {
    nn.Linear: (lambda own: (F.linear, (own["_parameters"]["weight"], own["_parameters"]["bias"])), 0),
    nn.MaxPool2d: (
        _with(F.max_pool2d, "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
        4,
    ),
    nn.AvgPool2d: (
        _with(F.avg_pool2d, "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
        4,
    ),
    nn.AdaptiveAvgPool2d: (_with(F.adaptive_avg_pool2d, "output_size"), 4),
    nn.Dropout: (_with(F.dropout, "p", "training", "inplace"), 0),
    nn.ReLU6: (_in_place(F.relu6), 0),
    nn.SiLU: (_in_place(F.silu), 0),
    nn.Sigmoid: (_with(torch.sigmoid), 0),
    nn.Tanh: (_with(torch.tanh), 0),
}


def _through(given: Callable[[Own], Given]) -> Callable[[Walk, Own, ShapeTensor, str], Any]:
    def short(walk: Walk, own: Own, x: ShapeTensor, path: str) -> Any:
        call = given(own)
        if call is None:
            return None
        walk.at = path
        try:
            return walk.__torch_function__(call[0], (), (x, *call[1]))
        finally:
            walk.at = None

    return short


LEAVES = {**SHORT, **{kind: (_through(given), rank) for kind, (given, rank) in BY_FUNCTION.items()}}
FORWARDS = {kind: kind.forward for kind in LEAVES}
NAMES = "conv2d batch_norm relu linear max_pool2d avg_pool2d adaptive_avg_pool2d dropout relu6 silu".split()  # noqa: SIM905
FUNCTIONS = {name: getattr(F, name) for name in NAMES}


def _call(module: Any, *args: Any, **kwargs: Any) -> Any:
    leaf = LEAVES.get(type(module))
    if leaf is not None and len(args) == 1 and not kwargs:
        x = args[0]
        if type(x) is ShapeTensor and x.fed and x.steps is None and (not leaf[1] or len(x.dims) == leaf[1]):
            walk = _walks.get(get_ident())
            own = module.__dict__
            if walk is not None and not (
                own["_forward_hooks"]
                or own["_forward_pre_hooks"]
                or own["_backward_hooks"]
                or own["_backward_pre_hooks"]
                or "forward" in own
            ):
                path = walk.paths.get(id(module))
                if path is not None and _depth() == walk.depth:
                    with _disabled():
                        out = leaf[0](walk, own, x, path)
                    if out is not None:
                        return out
    return _original(module, *args, **kwargs)


@contextmanager
def shortcuts(walk: Walk) -> Iterator[None]:
    """Takes the short way on this thread meanwhile, unless a layer, a function or a global hook has been changed."""
    global _original
    known = all(kind.forward is forward for kind, forward in FORWARDS.items())
    if not known or hooks._has_any_global_hook() or any(getattr(F, name) is not f for name, f in FUNCTIONS.items()):
        yield
        return
    me, walk.depth = get_ident(), _depth()
    outer = _walks.get(me)
    with _lock:
        if not _walks:
            _original, nn.Module._call_impl = nn.Module._call_impl, _call  # type: ignore
        _walks[me] = walk
    try:
        yield
    finally:
        with _lock:
            if outer is None:
                del _walks[me]
            else:
                _walks[me] = outer
            if not _walks:
                nn.Module._call_impl = _original  # type: ignore[method-assign]
