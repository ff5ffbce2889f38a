"""Parameters, multiply-adds and elements by formula. Letters as in the rules: k kernel, g groups, N batch."""

from collections.abc import Iterable, Iterator
from itertools import combinations
from math import prod

from ..table import Row, Shape
from ..units import exact
from .formula import Line, batch, elements, equal, first, times
from .sizes import groups_of, is_stage, numbers

PRODUCTS = ("matmul", "mm", "bmm", "mv", "dot", "addmm", "addmv", "baddbmm", "rmatmul")
NORMS = ("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm")
MULTI_HEAD = "multi_head_attention_forward"
UNSAID = "the table does not have what a formula needs"
ELSEWHERE = "its weights were counted in an earlier row, or are no parameters"


def parameter_lines(row: Row) -> list[Line]:
    owned = list(_parameters(row))
    if not row.params:
        return [("parameters", f"0: {ELSEWHERE}")] if owned and row.setting.get("affine") is not False else []
    shown = first(row.params, owned)
    if shown is None and row.inputs and (owned or is_stage(row) or row.op.startswith("conv")):
        return [("parameters", f"{exact(row.params)}: {UNSAID}")]
    if shown is None:
        shown = first(row.params, (elements(row.output[i:]) for i in range(len(row.output))))
        return [("parameters", f"{shown or exact(row.params)}, a learned tensor that comes in here")]
    short = row.setting.get("bias") and len(owned) > 1 and shown.partition(" = ")[0] != owned[0]
    return [("parameters", shown + ("; the others were counted in an earlier row" if short else ""))]


def _parameters(row: Row) -> Iterator[str]:
    """All that the operation can own, then parts of it: a shared or computed weight is counted elsewhere."""
    op, shape, out = row.op, row.inputs[0] if row.inputs else (), row.output
    bias = row.setting.get("bias") is not False
    if op.startswith("conv") and (weight := _kernel(row)):
        n = len(numbers(row, "kernel"))
        channels = out[-n - 1]
        groups = groups_of(row)
        if op.startswith("conv_transpose"):
            weight = f"{shape[-n - 1]} * {times(*numbers(row, 'kernel'), channels // groups)}"
            yield from (f"{weight} + {channels}", weight) if bias else (weight,)
        else:
            yield from _with_bias(channels, weight, bias)
    elif op == "linear":
        yield from _with_bias(out[-1], f"{_features(row)}", bias)
    elif op in NORMS and out and row.setting.get("affine") is not False:
        over = numbers(row, "normalized_shape") or out[1:2]
        if op == "batch_norm" or row.params:
            yield from (f"2 * {times(*over)}", times(*over))
    elif op == MULTI_HEAD:
        wide = out[-1]
        yield from (f"4 * {wide} * ({wide} + 1)", f"4 * {wide}*{wide}")
    elif op == "embedding" and row.params:
        yield f"{row.params // out[-1]} * {out[-1]}"
    elif op in PRODUCTS and row.params:
        yield from (f"{s[-1]} * {out[-1]}" for s in row.inputs)


def _with_bias(channels: int, weight: str, bias: bool) -> Iterable[str]:
    alone = f"{channels} * {weight}"
    return (f"{channels} * ({weight} + 1)", alone, f"{channels}") if bias else (alone,)


def _kernel(row: Row) -> str:
    """What one output element of a convolution multiplies: 11*11*3."""
    kernel = numbers(row, "kernel")
    if kernel and not row.inputs and not row.op.startswith("conv_transpose"):
        return times(*kernel, row.macs // (prod(row.output) * prod(kernel)))
    if not kernel or not row.inputs or len(row.inputs[0]) <= len(kernel):
        return ""
    share = row.inputs[0][-len(kernel) - 1] // groups_of(row)
    return times(*kernel, share)


def _features(row: Row) -> int:
    """What one output element of a linear layer multiplies; a learned input's shape is not in the row."""
    return row.inputs[0][-1] if row.inputs else row.macs // max(1, prod(row.output))


def mac_lines(row: Row) -> list[Line]:
    if not row.macs:
        return []
    shown = first(row.macs, _macs(row)) or f"{exact(row.macs)}: {UNSAID}"
    return [("MACs", shown)]


def _macs(row: Row) -> Iterator[str]:
    op, out, shape = row.op, row.output, row.inputs[0] if row.inputs else ()
    if op.startswith("conv") and (window := _kernel(row)):
        n = len(numbers(row, "kernel"))
        if op.startswith("conv_transpose"):
            share = out[-n - 1] // groups_of(row)
            channels = times(*shape[-n:], shape[-n - 1])
            yield f"{batch(shape[: -n - 1])}{channels} * {times(*numbers(row, 'kernel'), share)}"
        else:
            yield f"{batch(out[: -n - 1])}{times(*out[-n:], out[-n - 1])} * {window}"
    elif op == "linear":
        yield f"{batch(out[:-1])}{out[-1]} * {_features(row)}"
    elif op in PRODUCTS:
        inner = (n for s in row.inputs for n in (s[-1], *s[-2:-1]))
        yield from (f"{elements(out)} * {k}" for k in inner)
    elif op == "scaled_dot_product_attention" and len(row.inputs) > 2:
        q, k, v = row.inputs[:3]
        yield f"{batch(q[:-2])}{q[-2]}*{k[-2]} * ({q[-1]} + {v[-1]})"
    elif op == MULTI_HEAD and row.inputs:
        yield from _multi_head(row)
    elif op == "einsum":
        yield from _einsum(row)


def _multi_head(row: Row) -> Iterator[str]:
    """Projections of queries, keys and values, and of the result; then queries with keys, weights with values."""
    q = row.inputs[0]
    k, v = (row.inputs[1], row.inputs[2]) if len(row.inputs) > 2 else (q, q)
    if min(len(q), len(k), len(v)) < 2:
        return
    n, wide = batch(q[1:2] if len(q) == 3 else ()), q[-1]
    for source in (k[0], k[0] + 1, k[0] + 2):
        if q[0] == k[0] == v[0] and q[-1] == k[-1] == v[-1]:
            yield f"{n}(4 * {q[0]}*{wide}*{wide} + 2 * {q[0]}*{source}*{wide})"
        else:
            ins = f"2 * {q[0]}*{wide}*{wide} + {k[0]}*{k[-1]}*{wide} + {v[0]}*{v[-1]}*{wide}"
            yield f"{n}({ins} + 2 * {q[0]}*{source}*{wide})"


def _einsum(row: Row) -> Iterator[str]:
    """Operands are contracted from left to right; a step's products are the sizes of all its letters."""
    terms, _, wanted = str(row.setting.get("equation", "")).replace(" ", "").partition("->")
    letters = terms.split(",")
    for chosen in combinations(range(len(letters)), len(row.inputs)):
        known = [(letters[i], s) for i, s in zip(chosen, row.inputs, strict=True)] + [(wanted, row.output)]
        if any(len(term) != len(s) for term, s in known):
            continue
        pairs = {pair for term, s in known for pair in zip(term, s, strict=True)}
        size = dict(pairs)
        if len(size) == len(pairs) and set("".join(letters)) <= size.keys():
            yield _steps(letters, wanted, size)


def _steps(letters: list[str], wanted: str, size: dict[str, int]) -> str:
    have, steps = letters[0], []
    for i, term in enumerate(letters[1:], 1):
        later = set("".join(letters[i + 1 :]) + wanted)
        alone = {c for c in have + term if c not in later and (c in have) != (c in term)}
        together = [c for c in dict.fromkeys(have + term) if c not in alone]
        if set(together) - later:
            steps.append(times(*(size[c] for c in together if size[c] != 1)))
        have = "".join(c for c in together if c in later)
    return " + ".join(steps) or "0"


def backward_lines(row: Row, learned_before: bool) -> list[Line]:
    """Each factor that wants a gradient costs another such product."""
    if not row.macs:
        return []
    if not row.backward_macs:
        return [("backward MACs", "0: no gradient goes through it")]
    weighted = row.op.startswith("conv") or row.op == "linear"
    each = "its input and its weight" if weighted else "its factors"
    one = "of its weight; nothing before it learns" if weighted and not learned_before else "the other is not wanted"
    shown = equal(f"2 * {exact(row.macs)}", row.backward_macs)
    if shown:
        return [("backward MACs", f"{shown}: the gradients of {each}")]
    if row.backward_macs == row.macs:
        return [("backward MACs", f"{exact(row.macs)}, once the forward's: one gradient, {one}")]
    return [("backward MACs", f"{exact(row.backward_macs)}: of the gradients that are wanted")]


def activation_lines(row: Row) -> list[Line]:
    if not row.activations:
        return [("activations", "0: it writes over a tensor that is there")] if prod(row.output) else []
    shown = equal(elements(_spaced(row.output)), row.activations) or exact(row.activations)
    each = row.activation_bytes // row.activations
    if each * row.activations != row.activation_bytes:
        return [("activations", f"{shown} values, {exact(row.activation_bytes)} bytes")]
    unit = "byte" if each == 1 else "bytes"
    return [("activations", f"{shown} values, {each} {unit} each = {exact(row.activation_bytes)} bytes")]


def _spaced(shape: Shape) -> Shape:
    """Height and width before the channels, as the convolution's products have them."""
    return (shape[0], *shape[2:], shape[1]) if len(shape) > 3 else shape
