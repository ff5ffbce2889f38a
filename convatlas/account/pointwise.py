"""Rules for functions whose output has the shape of their inputs, and for sums over dimensions. None does multiply-adds
by the convention: activation functions, arithmetic, comparisons, normalisation, dropout, softmax, means."""

from math import prod
from typing import Any

import torch
from torch import Tensor

from .field import UNKNOWN, Field, Shape, along, meet, spread, union
from .products import broadcast
from .shape import ShapeTensor, dense, dims, field_of, plain
from .walk import Rule, Walk

# Element-wise functions by the name that torch, Tensor or torch.nn.functional gives them; `name_` and the operators'
# __name__, __iname__ and __rname__ are the same function.
ARITHMETIC = """
add sub rsub subtract mul multiply floor_divide floordiv remainder mod fmod pow square neg negative sign
sgn ceil floor round trunc fix frac clamp clip clamp_min clamp_max maximum minimum fmax fmin lerp addcmul addcdiv
masked_fill nan_to_num relu relu6 threshold hardtanh copysign copy fill zero uniform normal random exponential
geometric cauchy log_normal bitwise_and bitwise_or bitwise_xor bitwise_not and or xor invert lshift rshift tril triu
"""
SMOOTH = """
div divide true_divide truediv sqrt rsqrt exp exp2 expm1 log log1p log2 log10 sin cos tan asin acos atan sinh cosh
tanh asinh acosh atanh sigmoid logit erf erfc erfinv reciprocal leaky_relu rrelu elu selu celu gelu silu mish softplus
softsign softshrink hardshrink tanhshrink hardsigmoid hardswish logsigmoid atan2 hypot xlogy sinc lgamma digamma expit
bernoulli logaddexp
"""
QUESTIONS = """
eq ne lt le gt ge greater greater_equal less less_equal not_equal logical_and logical_or logical_xor logical_not isnan
isinf isfinite isclose
"""


NUMBERS = frozenset((int, float, bool, str, type(None)))


def elementwise(kind: str, in_place: bool = False) -> Rule:
    """Tensors meet element by element. `kind`: "keep" gives the inputs' type, "smooth" a floating one, "real" the
    real one of complex numbers, "bool" bools."""

    def rule(walk: Walk, *args: Any, inplace: bool = False, **kwargs: Any) -> ShapeTensor:
        every = (*args, *kwargs.values()) if kwargs else args
        tensors = [walk.node(t) for t in every if type(t) not in NUMBERS and isinstance(t, Tensor)]
        x = tensors[0]
        shape, field = x.dims, x.field
        if len(tensors) == 2 and tensors[1].dims == shape:
            field = meet(field, tensors[1].field, shape)
        elif len(tensors) > 1:
            shape = broadcast(*[t.dims for t in tensors])
            field = union([(t.field, t.dims) for t in tensors], len(shape))
        if in_place or inplace:
            if shape != x.dims:
                raise ValueError
            return walk.overwrite(x, tensors, field)
        kinds = torch.bool if kind == "bool" else _kind(kind, tensors, every)
        out = walk.compute(tensors, shape, field, 0, kinds.to_real() if kind == "real" else kinds)
        for t in tensors:
            if t.steps is not None:
                out.steps = _layout(tensors, shape)
                break
        return out

    return rule


def _kind(kind: str, tensors: list[ShapeTensor], every: tuple[Any, ...]) -> torch.dtype:
    out = tensors[0].kind
    for t in tensors:
        if t.kind is not out:
            out = _promoted(tensors)
            break
    if not out.is_floating_point and not out.is_complex and (kind == "smooth" or any(type(v) is float for v in every)):
        return torch.get_default_dtype()
    return out


def _promoted(tensors: list[ShapeTensor]) -> torch.dtype:
    """Single numbers do not widen a tensor of the same category."""
    out = next((t for t in tensors if t.dims), tensors[0]).kind
    for t in tensors:
        if t.dims or (t.kind.is_floating_point and not out.is_floating_point) or not any(u.dims for u in tensors):
            out = torch.promote_types(out, t.kind)
    return out


def _layout(tensors: list[ShapeTensor], shape: Shape) -> Shape | None:
    """A permuted layout is kept by element-wise functions."""
    first = next((t for t in tensors if t.dims == shape), None)
    return plain(shape, first.steps) if first is not None and first.steps and dense(first) else None


def where(walk: Walk, condition: Tensor, *args: Any, **kwargs: Any) -> ShapeTensor:
    input, other = [*args, *kwargs.values()]  # one argument alone asks for positions, which needs values
    tensors = [walk.node(t) for t in (input, other, condition) if isinstance(t, Tensor)]
    shape = broadcast(*(t.dims for t in tensors))
    kind = _kind("keep", tensors[:-1] or tensors, (input, other))
    return walk.compute(tensors, shape, union([(t.field, t.dims) for t in tensors], len(shape)), 0, kind)


def prelu(walk: Walk, input: Tensor, weight: Tensor) -> ShapeTensor:
    slopes = prod(dims(weight))
    if slopes != 1 and slopes != dims(input)[1]:
        raise ValueError
    return walk.compute((input, weight), dims(input), field_of(input))


def glu(walk: Walk, input: Tensor, dim: int = -1) -> ShapeTensor:
    """Halves a dimension."""
    shape = list(dims(input))
    dim %= len(shape)
    if shape[dim] % 2:
        raise ValueError
    shape[dim] //= 2
    field = field_of(input)
    return walk.compute((input,), tuple(shape), UNKNOWN if field and any(a.dim == dim for a in field) else field)


def dropout(walk: Walk, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> ShapeTensor:
    """No row outside training, or where nothing is dropped: it is the identity. No random number is drawn."""
    x = walk.node(input)
    if not training or not p:
        return x
    return walk.overwrite(x, (x,), x.field) if inplace else walk.compute((x,), x.dims, x.field)


def dropped_in_place(walk: Walk, input: Tensor, p: float = 0.5, training: bool = True) -> ShapeTensor:
    return dropout(walk, input, p, training, True)


# ---- Normalisation -------------------------------------------------------------------------------------------------


def normalised(dim: int | None) -> Rule:
    """Output like the input. Where `dim` names the channels, one-dimensional weights and statistics must match them.

    Batch statistics of a single value per channel are accepted, though training would refuse them: the costs are known.
    """

    def rule(walk: Walk, input: Tensor, *args: Any, **kwargs: Any) -> ShapeTensor:
        shape = dims(input)
        others = [t for t in (*args, *kwargs.values()) if type(t) not in NUMBERS and isinstance(t, Tensor)]
        if dim is not None:
            channels = shape[dim]
            for t in others:
                if t.numel() != channels:
                    raise ValueError
        return walk.compute((input, *others), shape, field_of(input))

    return rule


def batch_norm(
    walk: Walk,
    input: Tensor,
    a: Any = None,
    b: Any = None,
    weight: Any = None,
    bias: Any = None,
    *rest: Any,
    **named: Any,
) -> ShapeTensor:
    """torch and torch.nn.functional give weights and statistics in different orders; all have one number a channel."""
    if "running_mean" in named:
        a, b = named["running_mean"], named["running_var"]
    shape = dims(input)
    channels = shape[1]
    for t in (a, b, weight, bias):
        if t is not None and t.numel() != channels:
            raise ValueError
    rest = (*rest, *(False, 0.1, 1e-5)[len(rest) :])
    training, eps = rest[0], rest[2]
    weight = named.get("weight", weight)
    walk.setting = {
        "eps": named.get("eps", eps),
        "training": named.get("training", training),
        "affine": weight is not None,
    }
    return walk.compute((input, a, b, weight, named.get("bias", bias)), shape, field_of(input))


def layer_norm(walk: Walk, input: Tensor, normalized_shape: Any, *args: Any, **kwargs: Any) -> ShapeTensor:
    shape, over = dims(input), tuple(normalized_shape)
    others = [t for t in (*args, *kwargs.values()) if isinstance(t, Tensor)]
    if shape[len(shape) - len(over) :] != over or any(dims(t) != over for t in others):
        raise ValueError
    return walk.compute((input, *others), shape, field_of(input))


def group_norm(walk: Walk, input: Tensor, num_groups: int, *args: Any, **kwargs: Any) -> ShapeTensor:
    if dims(input)[1] % num_groups:
        raise ValueError
    return _CHANNELS(walk, input, *args, **kwargs)


_CHANNELS = normalised(1)


def softmax(walk: Walk, input: Tensor, dim: Any = None, *args: Any, dtype: Any = None, **_: Any) -> ShapeTensor:
    """Along a spatial axis every element sees all of them."""
    x = walk.node(input)
    if dim is None:
        raise ValueError
    dim = range(len(x.dims))[dim]
    field: Field = x.field
    if field and any(a.dim == dim for a in field):
        field = (
            UNKNOWN if any(a.mixed for a in field) else tuple(spread(a, x.dims) if a.dim == dim else a for a in field)
        )
    kind = dtype or next((a for a in args if isinstance(a, torch.dtype)), None)
    return walk.compute((x,), x.dims, field, 0, kind)


# ---- Over dimensions -----------------------------------------------------------------------------------------------


def reduced(kind: str = "keep", pair: str = "") -> Rule:
    """A mean, a sum, a maximum over some dimensions or all. `pair` names the type of the two results that some give."""

    def rule(walk: Walk, input: Tensor, dim: Any = None, keepdim: bool = False, *_: Any, **options: Any) -> Any:
        x = walk.node(input)
        dim = options.get("axis", dim)
        if isinstance(dim, (Tensor, bool)) or not isinstance(keepdim, bool):
            raise TypeError
        rank = len(x.dims)
        over = (
            range(rank)
            if dim is None or dim == ()
            else [range(rank)[d] for d in ((dim,) if isinstance(dim, int) else dim)]
        )
        gone = set(over)
        shape = tuple(1 if d in gone else n for d, n in enumerate(x.dims) if keepdim or d not in gone)
        out_kind = {"index": torch.int64, "bool": torch.bool}.get(kind) or options.get("dtype")
        if out_kind is None and kind == "sum" and not x.kind.is_floating_point:
            out_kind = torch.int64
        out = walk.compute((x,), shape, along(x.field, x.dims, gone, keepdim), 0, out_kind)
        if not pair or (dim is None and pair != "both"):
            return out
        if pair == "both":
            return out, walk.beside(out, shape)
        second = walk.beside(out, shape, torch.int64)
        return getattr(torch.return_types, pair)((out, second))

    return rule


def extreme(name: str) -> Rule:
    """max and min: of two tensors element by element, else over a dimension."""
    two, one = elementwise("keep"), reduced("keep", name)

    def rule(walk: Walk, input: Tensor, *args: Any, **kwargs: Any) -> Any:
        paired = (args and isinstance(args[0], Tensor)) or "other" in kwargs
        return (two if paired else one)(walk, input, *args, **kwargs)

    return rule


def spreads(walk: Walk, input: Tensor, dim: Any = None, *args: Any, **options: Any) -> Any:
    """std and var, whose second argument may be the correction."""
    if isinstance(dim, bool):
        dim = None
    keep = options.get("keepdim", False) or (len(args) > 1 and args[1] is True)
    return reduced()(walk, input, dim, keep)


def norm(walk: Walk, input: Tensor, p: Any = 2, dim: Any = None, keepdim: bool = False, **_: Any) -> Any:
    return reduced()(walk, input, dim, keepdim)


def means(pair: str) -> Rule:
    """var_mean and std_mean: two results."""

    def rule(walk: Walk, input: Tensor, dim: Any = None, *_: Any, **options: Any) -> Any:
        return reduced("keep", "both")(
            walk, input, None if isinstance(dim, bool) else dim, options.get("keepdim", False)
        )

    return rule


EVERY = [
    *((name, "keep") for name in ARITHMETIC.split()),
    *((name, "smooth") for name in SMOOTH.split()),
    *((name, "bool") for name in QUESTIONS.split()),
    ("abs", "real"),
    ("absolute", "real"),
]
RULES: dict[str, Rule] = {
    **{name: elementwise(kind) for name, kind in EVERY},
    **{f"{name}_": elementwise("keep", True) for name, _ in EVERY},
    **{f"__{name}__": elementwise(kind) for name, kind in EVERY},
    **{f"__r{name}__": elementwise(kind) for name, kind in EVERY},
    **{f"__i{name}__": elementwise("keep", True) for name, _ in EVERY},
    **{
        f"{kind}dropout{n}": dropout
        for kind in ("", "alpha_", "feature_", "feature_alpha_")
        for n in ("", "1d", "2d", "3d")
    },
    **{f"{kind}dropout_": dropped_in_place for kind in ("", "alpha_", "feature_", "feature_alpha_")},
    "where": where,
    "prelu": prelu,
    "glu": glu,
    "batch_norm": batch_norm,
    "instance_norm": normalised(1),
    "group_norm": group_norm,
    "layer_norm": layer_norm,
    "rms_norm": layer_norm,
    "local_response_norm": normalised(None),
    "softmax": softmax,
    "log_softmax": softmax,
    "softmin": softmax,
    "mean": reduced(),
    "sum": reduced("sum"),
    "prod": reduced("sum"),
    "amax": reduced(),
    "amin": reduced(),
    "logsumexp": reduced(),
    "all": reduced("bool"),
    "any": reduced("bool"),
    "argmax": reduced("index"),
    "argmin": reduced("index"),
    "max": extreme("max"),
    "min": extreme("min"),
    "median": reduced("keep", "median"),
    "std": spreads,
    "var": spreads,
    "var_mean": means("var_mean"),
    "std_mean": means("std_mean"),
    "norm": norm,
    "vector_norm": norm,
}
