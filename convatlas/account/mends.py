"""What a shape clash says: what came, what the operation expects, and the nearest mend, in one line.

A function here has the parameters of the torch function that it speaks for, behind the rows so far. What it does not
know it leaves to the words of torch or of the rule.
"""

from collections.abc import Callable, Sequence
from math import inf, prod
from typing import Any

from torch import Tensor

from ..errors import BadInput
from ..units import shape as times
from .field import Shape
from .meeting import AXES, Notes, Words, maker, meeting, named
from .meta import leaves
from .shape import dims


class Misfit(BadInput):
    """A refusal whose mend can still be bettered by looking for an input that fits."""

    def __init__(self, place: str, words: Words, rows: int):
        super().__init__(f"at {place}: {words.got}; {words.mend}")
        self.place, self.words, self.rows = place, words, rows


def misfit(place: str, op: str, given: tuple[Sequence[Any], dict[str, Any]], notes: Notes, reason: str) -> BadInput:
    """The error for a call whose shapes do not fit; `reason` in torch's words or the rule's."""
    args, kwargs = given
    words, speak = None, SPEAKERS.get(op, meeting if "do not meet" in reason else None)
    if speak is not None:
        try:
            words = speak(notes, *args, **kwargs)
        except Exception:  # an unusual call, or one that this does not understand
            words = None
    if words is not None:
        return Misfit(f"{place} ({op})", words, len(notes))
    shapes = " and ".join(times(dims(t)) or "a single number" for t in leaves((args, kwargs)) if isinstance(t, Tensor))
    return BadInput(f"at {place} ({op}): {shapes} cannot be taken: {reason}")


# ---- Where a map came from -------------------------------------------------------------------------------------------


def _or_channels(notes: Notes, t: Any, wanted: int) -> str:
    made = maker(notes, dims(t), ("conv",))
    if made:
        return f"out_channels={wanted} in {named(made)}"
    return f"give {wanted} from the layer before" if notes else f"give an input with {wanted} channels"


def _divisors(n: int) -> str:
    every = [d for d in range(1, n + 1) if n % d == 0]
    return ", ".join(map(str, every if len(every) < 8 else [*every[:4], "...", *every[-2:]]))


def _each(value: Any, n: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * n if len(values) == 1 else values


# ---- Windows ---------------------------------------------------------------------------------------------------------


def _convolution(
    notes: Notes,
    input: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Words | None:
    x, w = dims(input), dims(weight)
    n = len(w) - 2
    if len(x) - n not in (1, 2):
        return _rank(x, n)
    if w[0] % groups:
        return Words(
            f"got a weight of {times(w)} for {groups} groups, expects a number of outputs that {groups} divides",
            f"set groups to a divisor of {w[0]} ({_divisors(w[0])})",
        )
    if x[-n - 1] != w[1] * groups:
        return _channels(notes, input, w, n, groups)
    if bias is not None and dims(bias) != (w[0],):
        return Words(f"got a bias of {times(dims(bias))}, expects {w[0]} (weight {times(w)})", f"give a bias of {w[0]}")
    if isinstance(padding, str):
        padding = 0 if padding == "valid" else None
    return None if padding is None else _small(input, n, (w[2:], padding, dilation))


def _transposed(notes: Notes, input: Tensor, weight: Tensor, *_: Any, **__: Any) -> Words | None:
    x, w = dims(input), dims(weight)
    n = len(w) - 2
    if len(x) - n not in (1, 2):
        return _rank(x, n)
    return _channels(notes, input, (w[1], w[0], *w[2:]), n, 1, w) if x[-n - 1] != w[0] else None


def _rank(x: Shape, n: int) -> Words:
    axes = ", ".join(AXES[n])
    mend = "leave out the flatten before it" if len(x) == 2 and n > 1 else f"reshape it to (batch, channels, {axes})"
    return Words(f"got {times(x)}, expects {n + 1} dimensions (channels, {axes}), or {n + 2} with the batch", mend)


def _channels(notes: Notes, t: Tensor, w: Shape, n: int, groups: int, shown: Shape | None = None) -> Words:
    x = dims(t)
    came, wanted = x[-n - 1], w[1] * groups
    many = f", {groups} groups" if groups > 1 else ""
    got = f"got {came} channels ({times(x)}), expects {wanted} (weight {times(shown or w)}{many})"
    if not notes and x[-1] == wanted:
        turned = times((*x[: -n - 1], wanted, *x[-n - 1 : -1]))
        return Words(got, f"the channels stand last here: permute the input to {turned}")
    mend = f"set in_channels={came}"
    if came % groups:
        mend += f" and groups to a divisor of it ({_divisors(came)})"
    return Words(got, f"{mend}, or {_or_channels(notes, t, wanted)}")


def _small(t: Tensor, n: int, window: tuple[Any, Any, Any]) -> Words | None:
    kernel, padding, dilation = (_each(v, n) for v in window)
    space = dims(t)[-n:]
    padded = tuple(length + 2 * p for length, p in zip(space, padding, strict=True))
    spans = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    if all(a >= b for a, b in zip(padded, spans, strict=True)):
        return None
    with_padding = f", {times(padded)} with its padding" if padded != space else ""
    spread = f" ({times(kernel)} with dilation {times(tuple(dict.fromkeys(dilation)))})" if spans != kernel else ""
    return Words(
        f"got a map of {times(space)} ({times(dims(t))}){with_padding}, smaller than the window of "
        f"{times(spans)}{spread}",
        "give a larger input",
        -inf,
    )


def _max_pool(n: int) -> Callable[..., Words | None]:
    def speak(
        notes: Notes, input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        *_: Any, **__: Any,
    ) -> Words | None:  # fmt: skip
        x, kernel, before = dims(input), _each(kernel_size, n), _each(padding, n)
        if len(x) - n not in (1, 2):
            return _rank(x, n)
        for k, p in zip(kernel, before, strict=True):
            if 2 * p > k:
                return Words(
                    f"got a padding of {p} for a window of {k}, expects at most half of it", f"set padding={k // 2}"
                )
        return _small(input, n, (kernel, before, dilation))

    return speak


def _avg_pool(n: int) -> Callable[..., Words | None]:
    other = _max_pool(n)

    def speak(
        notes: Notes, input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, *_: Any, **__: Any
    ) -> Words | None:
        return other(notes, input, kernel_size, stride, padding)

    return speak


def _pad(notes: Notes, input: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> Words | None:
    if mode not in ("reflect", "circular"):
        return None
    n = len(pad) // 2
    space, most = dims(input)[-n:], "one less than" if mode == "reflect" else "as much as"
    return Words(
        f"got a map of {times(space)} ({times(dims(input))}) to pad by {max(pad)} in mode {mode!r}, "
        f"which takes {most} a side at most",
        "give a larger input",
        -inf,
    )


# ---- Features, channels of normalisation -----------------------------------------------------------------------------


def _linear(notes: Notes, input: Tensor, weight: Tensor, bias: Any = None) -> Words | None:
    x, w = dims(input), dims(weight)
    came, wanted = x[-1], w[-1]
    if came == wanted:
        return None
    got = f"got {came} features ({times(x)}), expects {wanted} (weight {times(w)})"
    for d in range(1, len(x) - 1):
        if prod(x[d:]) == wanted:
            return Words(got, f"put a flatten({d}) before it: {'*'.join(map(str, x[d:]))} = {wanted}")
    if wanted in x[1:-1]:
        return Words(got, f"move dimension {x.index(wanted, 1)} to the end (movedim), or set in_features={came}")
    if len(x) == 1 and came % wanted == 0:
        return Words(got, "flatten from dimension 1 on, so that the batch stays: flatten(1)")
    made = maker(notes, dims(input), ("linear",))
    if made:
        return Words(got, f"set in_features={came}, or out_features={wanted} in {named(made)}")
    return Words(got, f"set in_features={came}", came - wanted if notes and len(x) == 2 else None)


def _per_channel(name: str) -> Callable[..., Words | None]:
    def speak(notes: Notes, input: Tensor, *args: Any, **kwargs: Any) -> Words | None:
        x = dims(input)
        others = [t.numel() for t in leaves((args, kwargs)) if isinstance(t, Tensor)]
        wanted = next((n for n in others if n != x[1]), None)
        if wanted is None:
            return None
        return Words(
            f"got {x[1]} channels ({times(x)}), expects {wanted}",
            f"set {name}={x[1]}, or {_or_channels(notes, input, wanted)}",
        )

    return speak


def _group_norm(notes: Notes, input: Tensor, num_groups: int, *args: Any, **kwargs: Any) -> Words | None:
    x = dims(input)
    if x[1] % num_groups:
        return Words(
            f"got {x[1]} channels ({times(x)}) for {num_groups} groups, expects a multiple of {num_groups}",
            f"set num_groups to a divisor of {x[1]} ({_divisors(x[1])})",
        )
    return _per_channel("num_channels")(notes, input, *args, **kwargs)


def _layer_norm(notes: Notes, input: Tensor, normalized_shape: Any, *_: Any, **__: Any) -> Words:
    x, over = dims(input), tuple(normalized_shape)
    tail = x[len(x) - len(over) :]
    mend = f"set normalized_shape={tail[0] if len(tail) == 1 else tail}"
    if len(over) == 1 and over[0] in x[1:-1]:
        mend = f"move dimension {x.index(over[0], 1)} to the end (movedim), or {mend}"
    return Words(f"got {times(x)}, expects a shape that ends in {times(over)}", mend)


def _multi_head(notes: Notes, query: Tensor, key: Tensor, value: Tensor, embed_dim: int, *_: Any, **__: Any) -> Any:
    q = dims(query)
    if q[-1] == embed_dim:
        return None
    return Words(
        f"got {q[-1]} features ({times(q)}), expects {embed_dim}",
        f"set embed_dim={q[-1]}, or give {embed_dim} from the layer before",
    )


# ---- Products --------------------------------------------------------------------------------------------------------


def _matmul(notes: Notes, input: Tensor, other: Tensor, **_: Any) -> Words | None:
    a, b = dims(input), dims(other)
    rows = b[-2] if len(b) > 1 else b[0]
    if a[-1] == rows:
        return meeting(notes, input, other, over=2) if len(a) > 2 and len(b) > 2 else None
    mend = f"make the last size of the left {rows}, or of the right's last but one {a[-1]}"
    if len(b) > 1 and b[-1] == a[-1]:
        mend = "transpose the right one"
    elif len(a) > 1 and a[-2] == rows:
        mend = "transpose the left one"
    return Words(f"got {times(a)} and {times(b)}, expects {a[-1]} rows on the right and {rows} came", mend)


def _added(notes: Notes, input: Tensor, a: Tensor, b: Tensor, **_: Any) -> Words | None:
    return _matmul(notes, a, b)


def _attention(notes: Notes, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Words | None:
    q, k, v = dims(query), dims(key), dims(value)
    shapes = f"got query, key and value of {times(q)}, {times(k)} and {times(v)}"
    if q[-1] != k[-1]:
        return Words(f"{shapes}, expects query and key to end alike: {q[-1]} and {k[-1]}", "project both to one size")
    if k[-2] != v[-2]:
        return Words(
            f"{shapes}, expects as many values as keys: {v[-2]} and {k[-2]}", "take both from one sequence of tokens"
        )
    return None


def _view(notes: Notes, input: Tensor, *sizes: Any, **others: Any) -> Words | None:
    x, given = dims(input), sizes or tuple(others.values())
    wanted = tuple(given[0]) if isinstance(given[0], (tuple, list)) else tuple(given)
    rest, sample = abs(prod(wanted)), prod(x[1:])
    if rest and (prod(x) % rest == 0 if -1 in wanted else prod(x) == rest):
        return Words(f"got {times(x)} in a layout that no view shows as {times(wanted)}", "use reshape, which copies")
    got = f"got {times(x)}, which has {prod(x):,} elements, expects {times(wanted)}"
    if len(wanted) == 2 and wanted[0] in (-1, x[0]) and wanted[1] > 0:
        return Words(got, f"take {sample} in place of {wanted[1]}, or flatten(1)", sample - wanted[1])
    if len(wanted) > 1 and wanted[0] > 0 and wanted[0] != x[0] and -1 not in wanted:
        return Words(got, f"begin with the batch of {x[0]}, or with -1, in place of {wanted[0]}")
    return Words(got, f"take sizes whose product is {prod(x):,}, or divides it where one is -1")


def _arithmetic(notes: Notes, *given: Any, **_: Any) -> Words | None:
    words = meeting(notes, *given)
    a, b = (dims(t) for t in given)
    if words is None and a != b:  # they meet, so that it is the writing in place that fails
        return Words(
            f"got {times(b)} to write into {times(a)} in place, which cannot grow", "write x = x + y, not x += y"
        )
    return words


def _several(notes: Notes, tensors: Sequence[Tensor], dim: int = 0, *_: Any, **others: Any) -> Words | None:
    first, dim = tensors[0], others.get("axis", dim)
    for i, t in enumerate(tensors):
        a, b = list(dims(first)), list(dims(t))
        if len(a) != len(b):
            return Words(
                f"got {times(dims(first))} and {times(dims(t))} (tensor {i}), expects equal numbers of dimensions",
                f"unsqueeze or flatten one of the two to have {max(len(a), len(b))} or {min(len(a), len(b))}",
            )
        a[dim] = b[dim]
        if a != b:
            return meeting(notes, first, t, joined=range(len(a))[dim], number=i)
    return None


def _stack(notes: Notes, tensors: Sequence[Tensor], *_: Any, **__: Any) -> Words | None:
    for i, t in enumerate(tensors):
        if dims(t) != dims(tensors[0]):
            return meeting(notes, tensors[0], t, number=i) if t.ndim == tensors[0].ndim else None
    return None


SPEAKERS: dict[str, Callable[..., Words | None]] = {
    **{f"conv{n}d": _convolution for n in AXES},
    **{f"conv_transpose{n}d": _transposed for n in AXES},
    **{f"max_pool{n}d": _max_pool(n) for n in AXES},
    **{f"max_pool{n}d_with_indices": _max_pool(n) for n in AXES},
    **{f"avg_pool{n}d": _avg_pool(n) for n in AXES},
    **dict.fromkeys(("batch_norm", "instance_norm"), _per_channel("num_features")),
    **dict.fromkeys(("layer_norm", "rms_norm"), _layer_norm),
    **dict.fromkeys(("matmul", "mm", "bmm", "mv"), _matmul),
    **dict.fromkeys(("addmm", "addmv", "baddbmm"), _added),
    **dict.fromkeys(("view", "reshape"), _view),
    **dict.fromkeys(("cat", "concat", "concatenate"), _several),
    **dict.fromkeys(("add", "sub", "mul", "div"), _arithmetic),
    "pad": _pad,
    "linear": _linear,
    "group_norm": _group_norm,
    "prelu": _per_channel("num_parameters"),
    "multi_head_attention_forward": _multi_head,
    "scaled_dot_product_attention": _attention,
    "stack": _stack,
}
