"""What autograd keeps for the backward pass: by hand for the most frequent operations, else asked of torch itself.

A call is asked about once: torch runs it on meta tensors, with hooks on what it saves, and the answer is remembered by
function, shapes, layouts, types and which tensors want a gradient. What a function saves stands in torch's
tools/autograd/derivatives.yaml; a tensor is saved only where the gradient of another that wants one needs it.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .meta import leaves, run
from .shape import ShapeTensor, channels_last, channels_last_strides, dense, dims, plain
from .walk import Saves, Walk


class Answer(NamedTuple):
    nodes: tuple[int, ...]  # arguments that are kept, by their order
    fresh: int  # bytes of memory that is neither an argument's nor a result's
    results: tuple[int, ...]  # results that are kept
    needs: tuple[bool, ...]  # which results want a gradient
    layouts: tuple[tuple[Any, Any], ...]  # shape and strides of each result


REMEMBERED = 4096
_answers: dict[Any, Answer] = {}


def asked(walk: Walk, func: Any, out: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Bytes, layout and gradients of a call as torch has them. A call of shapes that are plain and want no gradient
    saves nothing, and is not asked about."""
    nodes: dict[int, ShapeTensor] = {}
    for t in leaves((tuple(args), kwargs)):
        if isinstance(t, Tensor):
            x = walk.node(t)
            nodes[id(x)] = x
    if not any(x.needs or x.steps is not None for x in nodes.values()):
        return
    try:
        key = func, torch.is_grad_enabled(), _frozen(args, walk, list(nodes)), _frozen(kwargs, walk, list(nodes))
        answer = _answers.get(key)
    except TypeError:
        key = None
        answer = None
    if answer is None:
        try:
            answer = _asked(walk, func, args, kwargs, list(nodes))
        except Exception:  # the rule knows its shapes, but torch has no meta kernel for it
            walk.uncounted[f"what {walk.op} saves"] = None
            return
        if key is not None:
            if len(_answers) >= REMEMBERED:
                _answers.clear()
            _answers[key] = answer
    _apply(walk, answer, list(nodes.values()), [t for t in leaves(out) if type(t) is ShapeTensor])


def _frozen(thing: Any, walk: Walk, order: list[int]) -> Any:
    """Something that can be looked up. Raises TypeError where there is none."""
    if isinstance(thing, Tensor):
        x = walk.node(thing)
        return order.index(id(x)), x.dims, x.steps, x.kind, x.needs
    if isinstance(thing, (tuple, list)):
        return type(thing), *(_frozen(part, walk, order) for part in thing)
    if isinstance(thing, dict):
        return tuple((name, _frozen(part, walk, order)) for name, part in thing.items())
    if isinstance(thing, slice):
        return "slice", thing.start, thing.stop, thing.step
    hash(thing)
    return type(thing), thing


def _asked(walk: Walk, func: Any, args: Sequence[Any], kwargs: dict[str, Any], order: list[int]) -> Answer:
    metas: dict[int, tuple[ShapeTensor, Tensor]] = {}
    result, saved = run(func, args, kwargs, walk.node, metas)
    places = {m.untyped_storage()._cdata: order.index(i) for i, (_, m) in metas.items()}
    outs = [t for t in leaves(result) if isinstance(t, Tensor)]
    made: dict[int, int] = {}
    for i, t in enumerate(outs):
        made.setdefault(t.untyped_storage()._cdata, i)
    nodes, results, fresh = set(), set(), {}
    for storage in saved:
        place = storage._cdata
        if place in places:
            nodes.add(places[place])
        elif place in made:
            results.add(made[place])
        else:
            fresh[place] = storage.nbytes()
    return Answer(
        tuple(sorted(nodes)),
        sum(fresh.values()),
        tuple(sorted(results)),
        tuple(t.requires_grad for t in outs),
        tuple((tuple(t.shape), t.stride()) for t in outs),
    )


def _apply(walk: Walk, answer: Answer, nodes: list[ShapeTensor], outs: list[ShapeTensor]) -> None:
    for i in answer.nodes:
        walk.keep(nodes[i])
    walk.keep_bytes(answer.fresh)
    for out, needs, (shape, steps) in zip(outs, answer.needs, answer.layouts, strict=False):
        out.needs = needs
        if out.base is None and out.dims == shape and not any(out is x for x in nodes):
            out.steps = plain(shape, steps)
    for i in answer.results:
        if i < len(outs):
            walk.keep(outs[i])


# ---- By hand ---------------------------------------------------------------------------------------------------------


def nothing(walk: Walk, func: Any, out: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Sums, copies and joins need only shapes to go back."""


def layout_only(walk: Walk, func: Any, out: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Saves nothing; asked only where the layout is not plain."""
    if any(type(t) is ShapeTensor and t.steps is not None for t in leaves(args)):
        asked(walk, func, out, args, kwargs)


def result(walk: Walk, func: Any, out: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    if out.needs:
        walk.keep(out)


def convolved(walk: Walk, func: Any, out: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Input and weight, whichever gradient is wanted. "same" may first pad a copy. The CPU's kernels keep channels
    last, meta kernels do not."""
    if len(args) < 2 or isinstance(kwargs.get("padding"), str) or any(type(a) is str for a in args):
        asked(walk, func, out, args, kwargs)
    elif out.needs:
        walk.keep(args[0])
        walk.keep(args[1])
    if len(args) > 1 and len(out.dims) == 4:
        x, weight = args[0], args[1]
        steps = walk.node(weight).steps
        turned = type(x) is ShapeTensor and channels_last(x.dims, x.steps)
        if turned or (steps and channels_last(dims(weight), steps)):
            out.steps = plain(out.dims, channels_last_strides(out.dims))


def written(walk: Walk, func: Any, out: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """__setitem__: a list or tensor of indices is kept, slices need not be."""
    if any(isinstance(i, Tensor) for i in leaves(args[1:2])):
        asked(walk, func, out, args, kwargs)


def multiplied(walk: Walk, func: Any, out: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Each factor where the other wants a gradient. A number as factor is not kept."""
    if len(args) != 2 or kwargs:
        asked(walk, func, out, args, kwargs)
    elif out.needs:
        a, b = args
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            if a.requires_grad:
                walk.keep(b)
            if b.requires_grad:
                walk.keep(a)


def projected(walk: Walk, func: Any, out: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """linear: the input for the weight's gradient, the weight for the input's."""
    x = args[0] if args else None
    if type(x) is not ShapeTensor or x.steps is not None or len(x.dims) < 2 or len(args) < 2:
        asked(walk, func, out, args, kwargs)
    elif out.needs:
        if args[1].requires_grad:
            walk.keep(x)
        if x.needs:
            walk.keep(args[1])


# The order of batch_norm's arguments in torch.nn.functional and in torch.
FUNCTIONAL = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
PLAIN = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")


def batch_normalised(walk: Walk, func: Any, out: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Input, weight and running statistics; when training also the batch's mean and inverse deviation per channel.

    In evaluation the CPU keeps no statistics of the batch, though meta kernels allocate them.
    """
    x = walk.node(args[0])
    if x.steps is not None and dense(x):
        out.steps = x.steps
    if out.needs:
        given = [t for t in leaves((tuple(args[1:]), kwargs)) if isinstance(t, Tensor)]
        small = next((t.dtype for t in given), x.kind)
        normalised(walk, x, _bound(FUNCTIONAL if func is F.batch_norm else PLAIN, args, kwargs), small)


def _bound(names: Sequence[str], args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**dict(zip(names, args, strict=False)), **kwargs}


def normalised(walk: Walk, x: ShapeTensor, given: dict[str, Any], kind: torch.dtype) -> None:
    walk.keep(x)
    for name in ("running_mean", "running_var", "weight"):
        walk.keep(given.get(name))
    if given.get("training"):
        walk.keep_bytes(2 * x.dims[1] * kind.itemsize)


def largest(walk: Walk, func: Any, out: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """max_pool2d: the input, and where each maximum stood (int64)."""
    x = args[0]
    if type(out) is not ShapeTensor or type(x) is not ShapeTensor or x.steps is not None or len(x.dims) != 4:
        asked(walk, func, out, args, kwargs)
    elif out.needs:
        walk.keep(x)
        walk.keep_bytes(8 * prod(out.dims))


def dropped(walk: Walk, func: Any, out: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """dropout: its mask, of the input's type; nothing where nothing is dropped."""
    if out is not args[0]:
        asked(walk, func, out, args, kwargs)


BY_HAND: dict[str, Saves] = {
    **{f"conv{n}d": convolved for n in (1, 2, 3)},
    "linear": projected,
    "batch_norm": batch_normalised,
    "relu": result,
    "relu_": result,
    "sigmoid": result,
    "tanh": result,
    "max_pool2d": largest,
    "__setitem__": written,
    **dict.fromkeys(("mul", "__mul__", "__rmul__"), multiplied),
    **dict.fromkeys(("__iadd__", "add_", "__isub__", "sub_", "clone", "contiguous", "to", "type_as"), nothing),
    **dict.fromkeys(("mean", "add", "__add__", "__radd__", "sub", "__sub__", "cat", "concat", "stack"), layout_only),
}
