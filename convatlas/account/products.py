"""Rules for the operations that are counted: convolutions, linear layers, matrix products, attention.

1 MAC = one multiply-add of a product of the input with weights, or of two tensors. Biases and scalings are not counted.
Letters: N batch, C channels, g groups, k kernel, s stride, p padding, d dilation.
"""

import inspect
from functools import lru_cache
from math import prod
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .field import UNKNOWN, Field, Shape, blurred, contracted, slid
from .shape import ShapeTensor, dims, field_of
from .walk import Clash, Rule, Walk


def several(value: Any, n: int) -> tuple[int, ...]:
    """One number for each axis, from a number or a sequence of one or n."""
    if type(value) is tuple and len(value) == n:
        return value
    if isinstance(value, int):
        return (value,) * n
    values = tuple(value)
    return values * n if len(values) == 1 else values


def convolution(n: int) -> Rule:
    """n spatial axes: out = (in + 2p - d(k-1) - 1) / s + 1; MACs = N * Cout * out * (Cin/g) * k."""

    def rule(
        walk: Walk,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> ShapeTensor:
        shape = dims(input)
        try:
            out, macs, channel, slides, setting = plan(n, shape, weight.shape, stride, padding, dilation, groups)
        except TypeError:  # lists cannot be looked up
            tuples = (tuple(v) if isinstance(v, list) else v for v in (stride, padding, dilation))
            out, macs, channel, slides, setting = plan(n, shape, weight.shape, *tuples, groups)
        if bias is not None and bias.numel() != out[channel]:
            raise ValueError
        field = field_of(input)
        if field:
            field = slid(field, shape, channel, slides)
        if type(weight) is ShapeTensor and weight.field is not None:
            field = UNKNOWN
        walk.setting = {**setting, "bias": bias is not None}
        return walk.compute((input, weight, bias), out, field, macs, None, backward(walk, macs, input, weight))

    return rule


def backward(walk: Walk, macs: int, *factors: Tensor) -> int:
    """A product's gradient for each of its factors costs as much as the product."""
    return macs * sum(map(walk.wants, factors))


@lru_cache(4096)
def plan(n: int, shape: Shape, weight: Shape, stride: Any, padding: Any, dilation: Any, groups: int) -> tuple[Any, ...]:
    """Output shape, MACs, the dimension of the channels, (span, stride, padding before) for each spatial axis, setting.

    Remembered, since networks repeat their blocks; the span is d(k-1).
    """
    cout, share, *kernel = weight
    channel = _channels(shape, share * groups, n)
    if cout % groups:
        raise Clash(f"{groups} groups do not divide {cout} outputs")
    steps = several(stride, n)
    spans = [d * (k - 1) for d, k in zip(several(dilation, n), kernel, strict=True)]
    before, both = _padding(padding, spans, n)
    size = []
    for i, (length, span) in enumerate(zip(shape[channel + 1 :], spans, strict=True)):
        size.append((length + both[i] - span - 1) // steps[i] + 1)
        if length + both[i] <= span:
            raise Clash(
                f"the window of {span + 1} is larger than the padded map of {length + both[i]}; give a larger input"
            )
    out = (*shape[:channel], cout, *size)
    setting = {
        "kernel": tuple(kernel),
        "stride": steps,
        "padding": padding if isinstance(padding, str) else tuple(before),
        "dilation": several(dilation, n),
        "groups": groups,
    }
    return out, prod(out) * share * prod(kernel), channel, tuple(zip(spans, steps, before, strict=True)), setting


def _channels(shape: Shape, expected: int, n: int) -> int:
    """The dimension of the channels, which may stand first where there is no batch."""
    channel = len(shape) - n - 1
    if channel not in (0, 1):
        raise ValueError
    if shape[channel] != expected:
        raise Clash(
            f"the weight expects {expected} channels and {shape[channel]} came; "
            f"give {expected} channels, or build the layer for {shape[channel]}"
        )
    return channel


def _padding(padding: Any, spans: list[int], n: int) -> tuple[Any, Any]:
    """Pixels before the map, and on both sides together. "same" puts the odd one at the end."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        return [span // 2 for span in spans], spans
    before = several(padding, n)
    return before, [2 * p for p in before]


def transposed(n: int) -> Rule:
    """out = (in - 1)s - 2p + d(k-1) + output padding + 1; MACs = N * Cin * in * (Cout/g) * k."""

    def rule(
        walk: Walk,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        *rest: Any,
        **named: Any,
    ) -> ShapeTensor:
        options = {"output_padding": 0, "groups": 1, "dilation": 1}
        options |= dict(zip(options, rest, strict=False)) | named
        shape, (cin, share, *kernel) = dims(input), dims(weight)
        channel = _channels(shape, cin, n)
        s, p, d = several(stride, n), several(padding, n), several(options["dilation"], n)
        more = several(options["output_padding"], n)
        spans = [d[i] * (kernel[i] - 1) for i in range(n)]
        size = [(shape[channel + 1 + i] - 1) * s[i] - 2 * p[i] + spans[i] + more[i] + 1 for i in range(n)]
        if min(size) < 1:
            raise ValueError
        field: Field = field_of(input)
        if field:
            slides = [(span, step, span - before) for span, step, before in zip(spans, s, p, strict=True)]
            field = tuple(
                blurred(a, shape, a.dim) if a.dim > channel and s[a.dim - channel - 1] > 1 else a for a in field
            )
            field = slid(field, shape, channel, slides)
        out = (*shape[:channel], share * int(options["groups"]), *size)
        walk.setting = {
            "kernel": tuple(kernel), "stride": s, "padding": p, "dilation": d,
            "output_padding": more, "groups": int(options["groups"]), "bias": bias is not None,
        }  # fmt: skip
        macs = prod(shape) * share * prod(kernel)
        return walk.compute((input, weight, bias), out, field, macs, None, backward(walk, macs, input, weight))

    return rule


def linear(walk: Walk, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> ShapeTensor:
    """(..., in) and (out, in) -> (..., out); MACs = all of ... * in * out."""
    shape, (fan_out, fan_in) = dims(input), dims(weight)
    if shape[-1] != fan_in:
        raise Clash(
            f"the weight expects {fan_in} features and {shape[-1]} came; "
            f"give an input whose last map has {fan_in} elements, or build the layer for {shape[-1]}"
        )
    field = contracted(field_of(input), shape, (len(shape) - 1,)) if field_of(weight) is None else UNKNOWN
    macs, walk.setting = prod(shape) * fan_out, {"bias": bias is not None}
    back = backward(walk, macs, input, weight)
    return walk.compute((input, weight, bias), (*shape[:-1], fan_out), field, macs, None, back)


def matmul(walk: Walk, input: Tensor, other: Tensor) -> ShapeTensor:
    """(..., m, k) and (..., k, n) -> (..., m, n), batches broadcast; MACs = all of ... * m * k * n."""
    return product(walk, (input, other), input, other)


def product(walk: Walk, sources: tuple[Any, ...], a: Tensor, b: Tensor) -> ShapeTensor:
    left, right = dims(a), dims(b)
    m, n = left[-2:-1], right[-1:] if len(right) > 1 else ()
    k = right[-2] if len(right) > 1 else right[0]
    if left[-1] != k:
        raise Clash(
            f"a matrix product needs {left[-1]} rows on the right and {k} came; transpose or reshape one of the two"
        )
    batch = broadcast(left[:-2], right[:-2])
    out = (*batch, *m, *n)
    macs = prod(out) * k
    return walk.compute(sources, out, _product_field(a, b, out), macs, None, backward(walk, macs, a, b))


def _product_field(a: Tensor, b: Tensor, out: Shape) -> Field:
    one, two = field_of(a), field_of(b)
    if one is None and two is None:
        return None
    t = a if two is None else b
    shape, field = dims(t), one if two is None else two
    if (one is not None and two is not None) or len(shape) != len(out) or shape[:-2] != out[:-2]:
        return UNKNOWN
    return contracted(field, shape, (len(shape) - 1 if t is a else len(shape) - 2,))


def broadcast(*shapes: Shape) -> Shape:
    """The shape in which tensors meet. Raises Clash where they do not."""
    rank = max(map(len, shapes))
    out = [1] * rank
    for shape in shapes:
        for d, n in enumerate(shape, rank - len(shape)):
            if n != out[d]:
                if out[d] != 1 and n != 1:
                    raise Clash(
                        f"{out[d]} and {n} along dimension {d} do not meet; they must be equal, or one of them 1"
                    )
                out[d] = n if out[d] == 1 else out[d]
    return tuple(out)


def strict_product(rank: int) -> Rule:
    """mm, bmm and mv: no broadcasting."""

    def rule(walk: Walk, input: Tensor, mat2: Tensor, **_: Any) -> ShapeTensor:
        left, right = dims(input), dims(mat2)
        if len(left) != rank or (len(right) > 2 and left[:-2] != right[:-2]):
            raise ValueError
        return product(walk, (input, mat2), input, mat2)

    return rule


def added_product(walk: Walk, input: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> ShapeTensor:
    """addmm, addmv and baddbmm: beta * input + alpha * (a @ b)."""
    out = product(walk, (a, b, input), a, b)
    if field_of(input) is not None:
        out.field = UNKNOWN
    return out


def reversed_matmul(walk: Walk, other: Tensor, input: Tensor) -> ShapeTensor:
    return matmul(walk, input, other)


def einsum(walk: Walk, equation: str, *operands: Any) -> ShapeTensor:
    """Operands are contracted from left to right, as torch does by default; a step without a sum counts nothing.

    MACs of a step = the product of the sizes of all letters that take part in it.
    """
    tensors = list(operands[0]) if isinstance(operands[0], (list, tuple)) else list(operands)
    terms, arrow, wanted = equation.replace(" ", "").partition("->")
    letters = terms.split(",")
    if "..." in equation or not arrow or len(letters) != len(tensors):
        return _other_einsum(walk, equation, tensors)
    size: dict[str, int] = {}
    for term, t in zip(letters, tensors, strict=True):
        for letter, n in zip(term, dims(t), strict=True):
            if size.setdefault(letter, n) != n:
                raise ValueError
    macs, back, have, wanting = 0, 0, letters[0], walk.wants(tensors[0])
    for i, term in enumerate(letters[1:], 1):
        later = set("".join(letters[i + 1 :]) + wanted)
        alone = {c for c in have + term if c not in later and (c in have) != (c in term)}
        together = set(have + term) - alone
        if together - later:
            step = prod(size[c] for c in together)
            macs, back = macs + step, back + step * (wanting + walk.wants(tensors[i]))
        wanting = wanting or walk.wants(tensors[i])
        have = "".join(sorted(together & later))
    field: Field = UNKNOWN if any(field_of(t) is not None for t in tensors) else None
    walk.setting = {"equation": equation}
    return walk.compute(tensors, tuple(size[c] for c in wanted), field, macs, None, back)


def _other_einsum(walk: Walk, equation: str, tensors: list[Tensor]) -> ShapeTensor:
    """An ellipsis or an implicit output, spelled out."""
    terms, arrow, wanted = equation.replace(" ", "").partition("->")
    letters = terms.split(",")
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in equation]
    extra = max(len(dims(t)) - len(term.replace("...", "")) for term, t in zip(letters, tensors, strict=True))
    dots = "".join(spare[:extra])
    full = []
    for term, t in zip(letters, tensors, strict=True):
        own = len(dims(t)) - len(term.replace("...", ""))
        full.append(term.replace("...", dots[len(dots) - own :] if own else ""))
    if not arrow:
        every = "".join(letters).replace(".", "")
        wanted = dots + "".join(sorted(c for c in set(every) if every.count(c) == 1))
    return einsum(walk, f"{','.join(full)}->{wanted.replace('...', dots)}", tensors)


def attention(
    walk: Walk, query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, *_: Any, **__: Any
) -> ShapeTensor:
    """(..., L, E), (..., S, E), (..., S, V) -> (..., L, V); MACs = all of ... * L * S * (E + V)."""
    q, k, v = dims(query), dims(key), dims(value)
    if q[-1] != k[-1] or k[-2] != v[-2]:
        raise ValueError
    out = (*q[:-1], v[-1])
    fed = any(field_of(t) is not None for t in (query, key, value))
    scores, mix = prod(q[:-1]) * k[-2] * q[-1], prod(q[:-1]) * k[-2] * v[-1]
    asks, answers = walk.wants(query), walk.wants(key)
    back = scores * (asks + answers) + mix * ((asks or answers) + walk.wants(value))
    return walk.compute((query, key, value, attn_mask), out, UNKNOWN if fed else None, scores + mix, None, back)


MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)


def multi_head(walk: Walk, *args: Any, **kwargs: Any) -> tuple[ShapeTensor, ShapeTensor | None]:
    """(L,N,E) -> (L,N,E) and the weights (N,L,S) or (N,heads,L,S): projections, attention, output projection."""
    a = MULTI_HEAD.bind(*args, **kwargs)
    a.apply_defaults()
    given = a.arguments
    query, key, value = (given[name] for name in ("query", "key", "value"))
    q, k, v = dims(query), dims(key), dims(value)
    batch, wide = (q[1] if len(q) == 3 else 1), q[-1]
    extra = (given["bias_k"] is not None) + bool(given["add_zero_attn"])
    source = k[0] + extra
    learned = any(walk.wants(given[n]) for n in ("in_proj_weight", "q_proj_weight"))
    macs = back = 0
    for t, length, width in ((query, q[0], wide), (key, k[0], k[-1]), (value, v[0], v[-1])):
        share = batch * length * width * wide  # its projection
        macs, back = macs + share, back + share * (walk.wants(t) + learned)
    within = learned or any(map(walk.wants, (query, key, value)))
    share = batch * q[0] * source * wide  # query with keys, and weights with values
    macs, back = macs + 2 * share, back + 4 * share * within
    share = batch * q[0] * wide * wide  # output projection
    macs, back = macs + share, back + share * (within + walk.wants(given["out_proj_weight"]))
    tensors = [query, key, value] + [
        t for t in given.values() if isinstance(t, Tensor) and not _among(t, (query, key, value))
    ]
    fed = any(field_of(t) is not None for t in (query, key, value))
    walk.setting = {"heads": int(given["num_heads"]), "dropout": float(given["dropout_p"])}
    out = walk.compute(tensors, q, UNKNOWN if fed else None, macs, None, back)
    if not given["need_weights"]:
        return out, None
    heads = () if given["average_attn_weights"] else (given["num_heads"],)
    return out, walk.beside(out, (*((batch,) if len(q) == 3 else ()), *heads, q[0], source))


def _among(t: Tensor, others: tuple[Tensor, ...]) -> bool:
    return any(t is o for o in others)


RULES: dict[str, Rule] = {
    **{f"conv{n}d": convolution(n) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": transposed(n) for n in (1, 2, 3)},
    "linear": linear,
    "matmul": matmul,
    "__matmul__": matmul,
    "__rmatmul__": reversed_matmul,
    "mm": strict_product(2),
    "bmm": strict_product(3),
    "mv": strict_product(2),
    "dot": strict_product(1),
    "addmm": added_product,
    "addmv": added_product,
    "baddbmm": added_product,
    "einsum": einsum,
    "scaled_dot_product_attention": attention,
    "multi_head_attention_forward": multi_head,
}
