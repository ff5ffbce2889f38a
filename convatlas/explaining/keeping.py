"""What autograd keeps of an operation for the backward pass, and why. Sums that come to the row's bytes only."""

from collections.abc import Iterator
from itertools import combinations
from math import prod

from ..table import Row
from ..units import exact
from .counts import NORMS, PRODUCTS
from .formula import Line, elements, equal
from .sizes import base, numbers

Part = tuple[str, str]  # bytes as a formula, and what they are kept for
OUTPUT = "its output, from which its gradient is worked out"
BY_OUTPUT = "relu sigmoid tanh softmax log_softmax softmin exp sqrt rsqrt reciprocal elu hardsigmoid".split()  # noqa: SIM905
NOTHING = "its gradient needs shapes only"
FREE = """add sub rsub cat concat concatenate stack mean sum clone contiguous to type_as reshape flatten repeat flip
roll pad constant_pad_nd getitem setitem pixel_shuffle pixel_unshuffle channel_shuffle neg negative float double half
index_select permute view interpolate upsample floor ceil round zero fill lt le gt ge eq ne""".split()  # noqa: SIM905


def saved_lines(row: Row, anything: bool) -> list[Line]:
    """`anything`: whether the whole table keeps something at all."""
    if not row.saved_bytes:
        return [("saved", f"0: {_why_nothing(row, anything)}")]
    for each in _bytes_each(row):
        parts = list(_parts(row, each))
        for count in range(len(parts), 0, -1):
            for chosen in combinations(parts, count):
                shown = equal(" + ".join(text for text, _ in chosen), row.saved_bytes)
                if shown:
                    return [("saved", f"{shown} bytes: {'; '.join(why for _, why in chosen)}")]
    whole = row.op == "linear" or row.op.startswith("conv")
    why = "the whole tensor of which its input is a part" if whole else "what its gradient needs"
    return [("saved", f"{exact(row.saved_bytes)} bytes: {why}")]


def _why_nothing(row: Row, anything: bool) -> str:
    if not anything or (row.macs and not row.backward_macs):
        return "no gradient goes through it"
    if row.op in FREE or row.op.startswith("adaptive_avg"):
        return NOTHING
    if row.op.startswith("conv") or row.op in ("linear", *PRODUCTS):
        once = row.backward_macs == row.macs
        return "what it needs is kept already" + (", or its weight wants no gradient" if once else "")
    return "what it needs is kept already, or no gradient goes through it"


def _bytes_each(row: Row) -> list[int]:
    own = row.activation_bytes // row.activations if row.activations else 4
    return list(dict.fromkeys((own, 4, 2, 8)))


def _parts(row: Row, each: int) -> Iterator[Part]:
    op, out = base(row.op), f"{elements(row.output)} * {each}"
    ins = [f"{elements(s)} * {each}" for s in row.inputs]
    if op.startswith("conv") or op == "linear":
        yield from ((text, "its input, for the weight's gradient") for text in ins[:1])
        yield from ((text, "its weight, which is computed, for the input's gradient") for text in ins[1:2])
    elif op in NORMS:
        yield from ((text, "its input, to work out its gradient") for text in ins[:1])
        yield from _statistics(row, each)
    elif op.startswith(("max_pool", "adaptive_max_pool", "fractional_max_pool")):
        yield from ((text, "its input") for text in ins[:1])
        yield f"{elements(row.output)} * 8", "where each maximum stood"
    elif op in BY_OUTPUT:
        yield out, OUTPUT
    elif "dropout" in op:
        yield out, "its mask: which elements it let pass"
        yield f"{elements(row.output)} * 1", "its mask: which elements it let pass"
    elif op == "scaled_dot_product_attention":
        names = ("its queries", "its keys", "its values", "its mask")
        yield from zip(ins, names, strict=False)
        yield out, OUTPUT
        if ins:
            yield f"{elements(row.inputs[0][:-1])} * {each}", "the logarithm of each query's sum of weights"
    elif op in PRODUCTS or op in ("mul", "div", "einsum"):
        yield from ((text, "a factor, for the other's gradient") for text in ins)
    elif op == "embedding":
        yield from ((f"{elements(s)} * 8", "its indices, to know whose gradient is whose") for s in row.inputs[:1])
    else:
        yield from ((text, "its input, to work out its gradient") for text in ins)
        if not any(prod(s) == prod(row.output) for s in row.inputs):
            yield out, OUTPUT


def _statistics(row: Row, each: int) -> Iterator[Part]:
    """Means and deviations: running ones and the batch's per channel, or those of every normalised group."""
    if row.op == "batch_norm":
        text = f"2 * {row.output[1]} * {each}"
        if row.setting.get("training"):
            yield text, "the batch's mean and inverse deviation of each channel"
        yield text, "running mean and variance"
        return
    shape = row.inputs[0] if row.inputs else row.output
    over = numbers(row, "normalized_shape")
    groups: object = row.setting.get("num_groups")
    if over:
        yield f"2 * {elements(shape[: len(shape) - len(over)])} * {each}", "mean and inverse deviation of each group"
    elif isinstance(groups, int):
        yield f"2 * {elements((shape[0], groups))} * {each}", "mean and inverse deviation of each group"
