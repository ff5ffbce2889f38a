"""The account of an ONNX file: a row a node, from the file's own graph and shapes. Nothing in it is run.

Only the graph is read; external data is not opened. Shapes are onnx.shape_inference's. Receptive fields are left out.
Formulas: https://onnx.ai/onnx/operators/. Letters: N batch, C channels, g groups, k kernel.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from math import prod
from pathlib import Path
from typing import Any

from .errors import BadInput, MissingExtra
from .table import Row, Shape, Table
from .units import shape as times

# Operations that torch calls otherwise than its own name in small letters.
NAMES = {
    "Conv": "conv{n}d",
    "ConvInteger": "conv{n}d",
    "QLinearConv": "conv{n}d",
    "ConvTranspose": "conv_transpose{n}d",
    "MaxPool": "max_pool{n}d",
    "AveragePool": "avg_pool{n}d",
    "LpPool": "lp_pool{n}d",
    "GlobalAveragePool": "adaptive_avg_pool{n}d",
    "GlobalMaxPool": "adaptive_max_pool{n}d",
    "BatchNormalization": "batch_norm",
    "InstanceNormalization": "instance_norm",
    "LayerNormalization": "layer_norm",
    "GroupNormalization": "group_norm",
    "LRN": "local_response_norm",
    "Gemm": "linear",
    "Concat": "cat",
    "Clip": "clamp",
    "ReduceMean": "mean",
    "ReduceSum": "sum",
    "ReduceMax": "amax",
    "HardSwish": "hardswish",
    "HardSigmoid": "hardsigmoid",
    "LeakyRelu": "leaky_relu",
    "LogSoftmax": "log_softmax",
    "PRelu": "prelu",
    "Resize": "interpolate",
    "Upsample": "interpolate",
    "DepthToSpace": "pixel_shuffle",
}
# The same elements in another shape, as torch has them without a copy; Dropout does nothing in use.
VIEWS = """
Reshape Flatten Squeeze Unsqueeze Identity Dropout Transpose Slice Split Expand Shape Size Cast CastLike
"""
QUESTIONS = frozenset(("Shape", "Size"))  # depend on shapes alone, which are known
OWN_DOMAINS = ("", "ai.onnx")
WITHOUT_RULE = """
LSTM GRU RNN Einsum Attention LinearAttention FlexAttention DeformConv CausalConvWithState DFT STFT Det If Loop Scan
SequenceMap
"""
# Operands that set a node up, or are statistics, and so are no parameters.
SETTINGS = {
    "BatchNormalization": (3, 4),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "Pad": (1, 2, 3),
    "Clip": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
}
INDICES = frozenset((0, 7, 8, 9))  # undefined, int64, string, bool: shapes, axes and masks, not weights
SIZES = {2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 14: 8, 15: 16, 16: 2}
MOST_NODES = 1_000_000
MOST = 2**62  # elements beyond which a shape is a damaged or hostile file's


def account_onnx(path: str | Path, input: Shape | None = None) -> Table:
    """A row a node, MACs and parameters as `account` counts them, for an ONNX file that is never run.

    An open first dimension is 1. `input` is the shape of the first input, with or without its batch; it must be given
    where another dimension is open. Parameters are the constants that a node is the first to use, statistics of batch
    normalisation left out. Operations with products and without a rule (LSTM, Einsum, control flow) and nodes whose
    shape cannot be inferred stand in `uncounted`. Raises BadInput for what is no sound ONNX file, MissingExtra.
    """
    path = Path(path)
    model = _read(path)
    fed = _feed(model.graph, input, path)
    values = _infer(model, path)
    graph = Graph(values, [i.name for i in model.graph.input if i.name in fed])
    try:
        for tensor in values.pop("", ()):
            graph.hold(*tensor)
        for node in _nodes(model, path):
            graph.read(node)
    except BadInput:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error
    return Table(path.name, tuple(fed.values()), tuple(graph.rows), graph.unused(), tuple(graph.uncounted))


class Graph:
    """What is known while the nodes are read in their order."""

    def __init__(self, values: dict[str, Any], fed: Iterable[str]):
        self.values = values  # name -> (shape or None, element type)
        self.constant: dict[str, frozenset[str]] = {}  # name -> the weights that it is made of
        self.waiting: dict[str, int] = {}  # elements of weights that no node has used yet
        self.rows: list[Row] = []
        self.uncounted: dict[str, None] = {}
        self.fed = set(fed)

    def hold(self, name: str, shape: Shape | None, kind: int) -> None:
        """A constant; a single number and whole numbers that serve as shapes are no weights."""
        self.values[name] = (shape, kind)
        weight = bool(shape) and kind not in INDICES
        self.constant[name] = frozenset((name,)) if weight else frozenset()
        if weight:
            self.waiting[name] = prod(shape or ())

    def shape(self, name: str) -> Shape | None:
        return self.values.get(name, (None, 0))[0]

    def read(self, node: Any) -> None:
        names = [n for n in node.input if n]
        outputs = [n for n in node.output if n]
        if node.op_type in QUESTIONS and node.domain in OWN_DOMAINS:
            self.constant.update((n, frozenset()) for n in outputs)
        elif node.op_type in ("Constant", "ConstantOfShape") and all(n in self.constant for n in names):
            for n in outputs:
                self.hold(n, *self.values.get(n, (None, 0)))
        elif names and all(n in self.constant for n in names):
            made_of = frozenset().union(*(self.constant[n] for n in self._weights(node)))
            self.constant.update((n, made_of) for n in outputs)
        else:
            self._row(node, names, outputs)

    def _weights(self, node: Any) -> list[str]:
        settings = SETTINGS.get(node.op_type, ())
        return [n for i, n in enumerate(node.input) if n in self.constant and i not in settings]

    def _row(self, node: Any, names: list[str], outputs: list[str]) -> None:
        known = node.domain in OWN_DOMAINS and node.op_type not in WITHOUT_RULE.split()
        if known and node.op_type in VIEWS.split():
            return
        for i in SETTINGS.get(node.op_type, ()):
            if i < len(node.input):
                self.waiting.pop(node.input[i], None)
        owed = frozenset().union(*(self.constant[n] for n in self._weights(node)))
        params = sum(self.waiting.pop(n, 0) for n in owed)
        shapes = [self.shape(n) for n in outputs]
        macs = 0
        if not known:
            self.uncounted[f"{node.domain}.{node.op_type}" if node.domain else node.op_type] = None
        elif node.op_type in PRODUCTS:
            operands = [self.shape(n) for n in node.input]
            try:
                macs = PRODUCTS[node.op_type](node, operands, shapes[0])
            except (IndexError, TypeError):
                self.uncounted[f"{node.op_type} at {_path(node)} (unknown shape)"] = None
        elif shapes and shapes[0] is None:
            self.uncounted[f"shape of {node.op_type} at {_path(node)}"] = None
        counts = [prod(s) for s in shapes if s is not None]
        sizes = [SIZES.get(self.values[n][1], 4) for n in outputs if self.shape(n) is not None]
        inputs = tuple(s for n in names if n not in self.constant and (s := self.shape(n)) is not None)
        self.rows.append(
            Row(
                path=_path(node),
                op=self._op(node, inputs),
                inputs=inputs,
                output=(shapes[0] if shapes else None) or (),
                params=params,
                macs=macs,
                activations=sum(counts),
                activation_bytes=sum(n * size for n, size in zip(counts, sizes, strict=True)),
            )
        )

    def _op(self, node: Any, inputs: tuple[Shape, ...]) -> str:
        if node.op_type in ("MatMul", "MatMulInteger", "QLinearMatMul"):
            return "linear" if len(inputs) == 1 else "matmul"
        spatial = len(inputs[0]) - 2 if inputs else 2
        return NAMES.get(node.op_type, node.op_type.lower()).replace("{n}", str(spatial))

    def unused(self) -> int:
        return sum(self.waiting.values())


# ---- MACs: of the node, the shapes of its operands, and of its output ------------------------------------------------


def _convolution(weight: int) -> Callable[..., int]:
    """N * Cout * out * (Cin/g) * k; the weight is (Cout, Cin/g, k...)."""
    return lambda node, operands, out: prod(out) * prod(operands[weight][1:])


def _transposed(node: Any, operands: list[Any], out: Any) -> int:
    """N * Cin * in * (Cout/g) * k; the weight is (Cin, Cout/g, k...)."""
    return prod(operands[0]) * prod(operands[1][1:])


def _gemm(node: Any, operands: list[Any], out: Any) -> int:
    across = next((a.i for a in node.attribute if a.name == "transA"), 0)
    return prod(out) * int(operands[0][0 if across else 1])


def _matmul(node: Any, operands: list[Any], out: Any) -> int:
    return prod(out) * int(operands[0][-1])


PRODUCTS: dict[str, Callable[..., int]] = {
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
}


# ---- The file --------------------------------------------------------------------------------------------------------


def _read(path: Path) -> Any:
    try:
        import onnx
        import onnx.inliner
    except ImportError as error:
        raise MissingExtra("onnx", "onnx", f"{path}") from error
    if not path.is_file():
        raise _refused(f"no file at {path}; give an ONNX file")
    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own errors share no class with onnx's
        raise _damaged(path, error) from error
    if not all(isinstance(text, str) for text in _texts(model.graph)):
        raise _refused(f"{path} is no sound ONNX file: its names are no text")
    if not model.graph.node:
        raise _refused(f"{path} is no ONNX file, or one without a graph; give a model that torch.onnx.export wrote")
    if model.functions:
        if _expanded(model) > MOST_NODES:
            raise _refused(
                f"{path} calls its own functions without an end, or makes more than {MOST_NODES:,} nodes of them"
            )
        try:
            model = onnx.inliner.inline_local_functions(model)
        except Exception as error:
            raise _damaged(path, error) from error
    return model


def _texts(graph: Any) -> Iterator[Any]:
    """Protobuf hands on as bytes what is no UTF-8."""
    yield from (v.name for part in (graph.input, graph.output, graph.initializer) for v in part)
    for node in graph.node:
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
        yield from (text for p in node.metadata_props for text in (p.key, p.value))


def _expanded(model: Any) -> int:
    """Nodes after all functions are put in place of their calls; functions that call each other double at each step."""
    bodies = {(f.domain, f.name): f.node for f in model.functions}
    known: dict[tuple[str, str], int] = {}

    def size(nodes: Iterable[Any]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in bodies and key not in known:
                known[key] = MOST_NODES + 1  # what it is while its own body is looked at
                known[key] = size(bodies[key])
            total += known.get(key, 1)
            for a in node.attribute:
                total += sum(size(g.node) for g in (a.g, *a.graphs))
        return min(total, MOST_NODES + 1)

    return size(model.graph.node)


def _feed(graph: Any, given: Shape | None, path: Path) -> dict[str, Shape]:
    """Gives every open dimension of the inputs its number, in the graph itself."""
    held = {t.name for t in graph.initializer}
    fed: dict[str, Shape] = {}
    for value in graph.input:
        if value.name in held:
            continue
        dims = value.type.tensor_type.shape.dim
        shape: list[int | None] = [d.dim_value if d.HasField("dim_value") else None for d in dims]
        if shape and shape[0] is None:
            shape[0] = 1
        shown = " x ".join(str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in dims)
        if given is not None and not fed:
            whole = (shape[0], *given) if len(given) == len(shape) - 1 else tuple(given)
            fixed = [d.dim_value if d.HasField("dim_value") else None for d in dims]
            if len(whole) != len(shape) or any(f not in (None, n) for f, n in zip(fixed, whole, strict=True)):
                raise _refused(f"{path} takes {value.name} of {shown}; {times(given)} does not fit it")
            shape = list(whole)
        if any(n is None for n in shape):
            raise _refused(f"{path} takes {value.name} of {shown}, which is open; give its shape")
        known = tuple(n for n in shape if n is not None)
        if not all(n > 0 for n in known) or prod(known) > MOST:
            raise _refused(f"{path} takes {value.name} of {shown}, which is no shape; the file is damaged")
        for d, n in zip(dims, known, strict=True):
            d.dim_value = n
        fed[value.name] = known
    return fed


def _infer(model: Any, path: Path) -> dict[str, Any]:
    """Shape and type of every tensor by its name; under "" the constants. The file's own word on them is not taken."""
    import onnx

    graph = model.graph
    held = [(t.name, tuple(t.dims), int(t.data_type)) for t in graph.initializer]
    _check({name: (shape, kind) for name, shape, kind in held}, path)
    for tensor in graph.initializer:  # inference needs the numbers of shapes, which are few; the rest is ballast
        if prod(tensor.dims) > 64:
            for part in ("raw_data", "float_data", "double_data", "int32_data", "int64_data", "uint64_data"):
                tensor.ClearField(part)
    graph.ClearField("value_info")
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        raise _damaged(path, error) from error
    values: dict[str, Any] = {}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        kind = value.type.tensor_type
        closed = kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim)
        values[value.name] = (tuple(d.dim_value for d in kind.shape.dim) if closed else None, kind.elem_type)
    _check(values, path)
    values[""] = held
    return values


def _check(values: dict[str, Any], path: Path) -> None:
    for name, (shape, _) in values.items():
        if shape and (min(shape) < 0 or prod(shape) > MOST):
            raise _refused(f"{path}: {name} has the shape {times(shape)}; the file is damaged")


def _nodes(model: Any, path: Path) -> list[Any]:
    """In an order in which every node comes after those that it needs, as the format asks."""
    seen = {v.name for v in (*model.graph.input, *model.graph.initializer)}
    seen |= {t.values.name for t in model.graph.sparse_initializer}
    for node in model.graph.node:
        missing = next((n for n in node.input if n and n not in seen), None)
        if missing is not None:
            raise _refused(
                f"{path}: {node.op_type} needs {missing}, which no node before it gives; the file is damaged"
            )
        seen.update(node.output)
    return list(model.graph.node)


def _path(node: Any) -> str:
    """The module that torch's exporters noted, or the node's name, or that of its output."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            try:
                scopes = ast.literal_eval(entry.value)
                return str(scopes[-2])
            except (ValueError, SyntaxError, IndexError, TypeError, MemoryError, RecursionError):
                break
    if node.name.startswith("/"):
        return ".".join(node.name.strip("/").split("/")[:-1])
    return str(node.name or next(iter(node.output), ""))


def _damaged(path: Path, error: Exception) -> BadInput:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _refused(f"{path} is no sound ONNX file: {(lines or [type(error).__name__])[0].rstrip('.')}")


def _refused(message: str) -> BadInput:
    """A file's own names stand in it, and may hold anything."""
    line = "".join(c if c.isprintable() else " " for c in message)
    return BadInput(line if len(line) < 400 else f"{line[:400]}...")
