"""What an operation does, in one sentence, by the name that a row gives it."""

from math import prod

from ..table import Row
from ..units import exact
from .formula import times
from .sizes import base, is_stage, numbers

SENTENCES = {
    "linear": "multiplies its input's features by a matrix of weights",
    "matmul": "multiplies two matrices",
    "dot": "multiplies two vectors and sums up",
    "addmm": "multiplies two matrices and adds a third",
    "einsum": "multiplies and sums over letters that the result lacks",
    "scaled_dot_product_attention": "sums values by how well keys match queries",
    "multi_head_attention_forward": "projects to queries, keys and values, lets every head attend, projects the result",
    "add": "adds its inputs element by element",
    "sub": "subtracts element by element",
    "mul": "multiplies its inputs element by element",
    "div": "divides element by element",
    "relu": "sets what is below zero to zero",
    "relu6": "cuts off below 0 and above 6",
    "prelu": "multiplies what is below zero by a learned slope",
    "sigmoid": "squashes each element between 0 and 1",
    "tanh": "squashes each element between -1 and 1",
    "gelu": "multiplies each element by the normal distribution's share below it",
    "silu": "multiplies each element by its sigmoid",
    "glu": "multiplies one half of the features by the sigmoid of the other",
    "softmax": "turns scores into shares that sum to 1",
    "log_softmax": "turns scores into logarithms of shares",
    "softmin": "turns scores into shares, the smallest score the largest",
    "cat": "joins its inputs along one dimension",
    "stack": "joins its inputs along a new dimension",
    "repeat": "repeats its input's elements",
    "where": "takes each element from one of two tensors by a condition",
    "embedding": "looks up a learned vector for each index",
    "index_select": "takes the elements of some indices",
    "batch_norm": "shifts and scales each channel to mean 0 and deviation 1, then by what was learned",
    "instance_norm": "shifts and scales each channel of each image to mean 0 and deviation 1",
    "group_norm": "shifts and scales each group of channels to mean 0 and deviation 1",
    "layer_norm": "shifts and scales each position's features to mean 0 and deviation 1",
    "rms_norm": "scales each position's features to mean square 1",
    "local_response_norm": "divides each element by the strength of neighbouring channels at its place",
    "clone": "copies its input",
    "contiguous": "copies its input into the usual order in memory",
    "getitem": "takes out elements",
    "setitem": "writes into a part of a tensor",
    "pad": "puts elements around the map",
    "interpolate": "resizes the map",
    "pixel_shuffle": "turns channels into positions",
    "pixel_unshuffle": "turns blocks of positions into channels",
    "channel_shuffle": "exchanges channels between groups",
    "flip": "turns dimensions around",
    "roll": "moves elements along, the last ones to the front",
    "norm": "the root of the sum of squares",
}  # fmt: skip
SAME = {
    "concat": "cat", "concatenate": "cat", "upsample": "interpolate", "constant_pad_nd": "pad", "mm": "matmul",
    "bmm": "matmul", "mv": "matmul", "rmatmul": "matmul", "addmv": "addmm", "baddbmm": "addmm",
    "native_channel_shuffle": "channel_shuffle", "vector_norm": "norm", "rsub": "sub",
}  # fmt: skip
# Families, by names that begin so or are so.
WINDOWS = (
    ("conv_transpose", "spreads each input element over a window of weights and sums up"),
    ("conv", "multiplies a window of the map by weights, at every position, and sums up"),
    ("adaptive_avg_pool", "takes the mean of each window, as many windows as asked for"),
    ("adaptive_max_pool", "takes the largest of each window, as many windows as asked for"),
    ("max_pool", "takes the largest element of each window"),
    ("avg_pool", "takes the mean of each window"),
    ("lp_pool", "takes the power mean of each window, as a sum"),
)
VIEWS = """view reshape view_as reshape_as flatten unflatten squeeze unsqueeze permute transpose swapaxes swapdims
t adjoint movedim moveaxis expand expand_as broadcast_to select narrow split chunk unbind
iter detach deepcopy""".split()  # noqa: SIM905
TYPES = """to cpu type type_as float double half bfloat16 int long short char byte bool cfloat cdouble""".split()  # noqa: SIM905
OVER = {
    "mean": "the mean", "sum": "the sum", "prod": "the product", "amax": "the largest", "amin": "the smallest",
    "max": "the largest", "min": "the smallest", "median": "the median", "argmax": "the place of the largest",
    "argmin": "the place of the smallest", "all": "whether all are true", "any": "whether any is true",
    "logsumexp": "the logarithm of the sum of exponentials", "std": "the deviation", "var": "the variance",
    "std_mean": "deviation and mean", "var_mean": "variance and mean",
}  # fmt: skip


def does(row: Row) -> str:
    """A sentence; a function that is not known by name is said by what its shapes tell."""
    said = _said(row)
    if not row.inputs:
        said += ", here of learned tensors alone"
    return said if row.activations or 0 in row.output else f"{said}, in place"


def _said(row: Row) -> str:
    op = base(row.op)
    if is_stage(row):
        return f"runs {op}; explain the table of single operations for more"
    if sentence := SENTENCES.get(SAME.get(op, op)):
        return sentence
    if window := next((text for name, text in WINDOWS if op.startswith(name)), None):
        return window
    if op in OVER and not (op in ("max", "min") and len(row.inputs) > 1):
        return f"takes {OVER[op]} over {_over(row)}"
    if op in VIEWS:
        return "shows the same elements in another shape; here it has to copy them"
    if op in TYPES:
        return "gives its elements another type or device"
    if "dropout" in op:
        return f"sets elements to zero at random, with probability {row.setting.get('p', 0.5)}"
    if any(s == row.output for s in row.inputs) or not row.inputs:
        return f"computes {op} element by element"
    return f"computes {op}; no formula is known for its size"


def _over(row: Row) -> str:
    given = row.setting.get("dim", row.setting.get("axis"))
    dims = numbers(row, "dim") or ((given,) if isinstance(given, int) else ())
    shape = row.inputs[0] if row.inputs else ()
    if not shape:
        return "its dimensions"
    if not dims or any(not -len(shape) <= d < len(shape) for d in dims):
        return f"{exact(prod(shape) // max(1, prod(row.output)))} elements each"
    return f"dimension {' and '.join(str(d) for d in dims)}: {times(*(shape[d] for d in dims))} elements each"
