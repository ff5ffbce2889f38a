"""ONNX files of onnx's own test data and of torch's exporter, against torchvision's networks and formulas."""

from math import prod
from pathlib import Path

import pytest
import torch
from torch import nn

from convatlas.account import account
from convatlas.errors import BadInput
from convatlas.onnx_account import account_onnx

onnx = pytest.importorskip("onnx")
helper = onnx.helper
FLOAT, INT64 = 1, 7
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def of_torchvision(name: str) -> nn.Module:
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        return models.get_model(name, weights=None).eval()


def graph(tmp_path: Path, *nodes: object, input: tuple = ("n", 3, 8, 8), **weights: tuple[int, ...]) -> Path:
    """A file of these nodes, from x to y; weights by shape, without values."""
    held = []
    for name, shape in weights.items():
        tensor = onnx.TensorProto(name=name, data_type=FLOAT, dims=shape)
        tensor.raw_data = bytes(4 * prod(shape))
        held.append(tensor)
    x = helper.make_tensor_value_info("x", FLOAT, list(input))
    y = helper.make_tensor_value_info("y", FLOAT, None)
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    model = helper.make_model(helper.make_graph(list(nodes), "g", [x], [y], held), opset_imports=domains, ir_version=8)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def refusal(path: Path, input: tuple[int, ...] | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        account_onnx(path, input)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path.parent), "FOLDER")


# ---- Whole networks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "name"), [("squeezenet", "squeezenet1_1"), ("vgg19", "vgg19"), ("densenet121", "densenet121")]
)
def test_onnxs_own_models_have_torchvisions_counts(file: str, name: str) -> None:
    net = of_torchvision(name)
    ours = account_onnx(LIGHT / f"light_{file}.onnx")
    theirs = account(net, (3, 224, 224))
    # Caffe's batch normalisation has no scale and shift that learn, and a scaling layer after it: each stands twice.
    twice = sum(2 * m.num_features for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    assert ours.totals.params == theirs.totals.params + twice
    assert ours.totals.macs == theirs.totals.macs
    assert ours.uncounted == ()
    maps = [r.output for r in theirs.rows if r.op == "conv2d"]
    assert [r.output for r in ours.rows if r.op == "conv2d"][
        : len(maps)
    ] == maps  # densenet121's classifier is one more


def test_all_of_onnxs_light_models_are_counted_whole() -> None:
    files = sorted(LIGHT.glob("*.onnx"))
    assert len(files) == 9
    for file in files:
        table = account_onnx(file)
        assert table.input == ((1, 3, 224, 224),)
        assert table.uncounted == () and table.totals.macs > 10**8


@pytest.mark.parametrize("optimise", [True, False])
def test_an_export_of_torch_has_the_walks_counts(tmp_path: Path, optimise: bool) -> None:
    """The optimiser folds batch normalisation into the convolutions, so its parameters are the file's own."""
    pytest.importorskip("onnxscript")
    models = pytest.importorskip("torchvision.models")
    with torch.random.fork_rng(devices=[]):
        net = models.resnet18(weights=None).eval()
    path = tmp_path / "resnet18.onnx"
    torch.onnx.export(net, (torch.zeros(1, 3, 224, 224),), str(path), dynamo=True, optimize=optimise, verbose=False)
    ours, theirs = account_onnx(path), account(net, (3, 224, 224))
    held = onnx.load(str(path), load_external_data=False).graph.initializer
    assert ours.totals.macs == theirs.totals.macs
    if optimise:
        assert ours.totals.params == sum(prod(t.dims) for t in held if t.data_type == FLOAT)
    else:
        assert ours.totals.params == theirs.totals.params
    assert ours.under("layer2.0").totals.macs == theirs.under("layer2.0").totals.macs
    assert (tmp_path / "resnet18.onnx.data").exists() == bool(held[0].external_data)


# ---- Formulas --------------------------------------------------------------------------------------------------------


def test_convolutions_by_formula(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], group=3, dilations=[2, 2], strides=[2, 1], name="c")
    (row,) = account_onnx(graph(tmp_path, node, w=(6, 1, 3, 3), b=(6,))).rows
    assert (row.path, row.op, row.inputs, row.output) == ("c", "conv2d", ((1, 3, 8, 8),), (1, 6, 2, 4))
    assert (row.macs, row.params, row.activations, row.activation_bytes) == (6 * 2 * 4 * 9, 6 * 9 + 6, 48, 192)


def test_transposed_convolutions_by_formula(tmp_path: Path) -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], group=3)
    (row,) = account_onnx(graph(tmp_path, node, w=(3, 4, 2, 2))).rows
    assert (row.op, row.output, row.macs) == ("conv_transpose2d", (1, 12, 16, 16), 3 * 64 * 4 * 4)


def test_products_by_formula(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["g"], transB=1),
        helper.make_node("MatMul", ["g", "v"], ["m"]),
        helper.make_node("Transpose", ["m"], ["t"]),
        helper.make_node("MatMul", ["m", "t"], ["y"]),
    ]
    table = account_onnx(graph(tmp_path, *nodes, w=(10, 192), b=(10,), v=(10, 5)), (5, 3, 8, 8))
    assert [(r.op, r.params, r.macs) for r in table.rows] == [
        ("linear", 1930, 5 * 192 * 10),
        ("linear", 50, 5 * 10 * 5),
        ("matmul", 0, 5 * 5 * 5),
    ]


def test_a_weight_is_counted_once_and_unused_ones_apart(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["wt"], perm=[0, 1, 3, 2]),
        helper.make_node("Conv", ["x", "wt"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["h", "s", "s2", "mean", "var"], ["n"]),
        helper.make_node("Conv", ["n", "w"], ["y"]),
    ]
    sizes = {"w": (3, 3, 3, 3), "lost": (7, 7), **dict.fromkeys(("s", "s2", "mean", "var"), (3,))}
    table = account_onnx(graph(tmp_path, *nodes, **sizes))
    assert [r.params for r in table.rows] == [81, 6, 0]
    assert (table.unused, table.totals.params) == (49, 81 + 6 + 49)


def test_what_has_no_rule_is_said(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Einsum", ["x", "x"], ["e"], equation="nchw,ndhw->ncd"),
        helper.make_node("Relu", ["e"], ["r"]),
        helper.make_node("Gelu2", ["r"], ["y"], domain="com.example"),
    ]
    table = account_onnx(graph(tmp_path, *nodes))
    assert table.uncounted == ("Einsum", "com.example.Gelu2")
    assert [r.op for r in table.rows] == ["einsum", "relu", "gelu2"]


def test_a_shape_that_cannot_be_inferred_is_said(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["i"]),
        helper.make_node("Cast", ["i"], ["c"], to=FLOAT),
        helper.make_node("MatMul", ["c", "c"], ["y"], name="m"),
    ]
    assert "MatMul at m (unknown shape)" in account_onnx(graph(tmp_path, *nodes)).uncounted


def test_external_data_is_not_read(tmp_path: Path) -> None:
    path = graph(tmp_path, helper.make_node("Conv", ["x", "w"], ["y"]), w=(6, 3, 3, 3))
    model = onnx.load(str(path))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../nowhere")
    path.write_bytes(model.SerializeToString())
    assert account_onnx(path).totals.params == 6 * 27


# ---- Refusals --------------------------------------------------------------------------------------------------------

RELU = helper.make_node("Relu", ["x"], ["y"])


def test_inputs_that_do_not_fit(tmp_path: Path) -> None:
    path = graph(tmp_path, RELU, input=("n", 3, "h", 8))
    assert account_onnx(path, (3, 9, 8)).input == ((1, 3, 9, 8),)
    assert refusal(path) == "FOLDER/m.onnx takes x of n x 3 x h x 8, which is open; give its shape"
    assert refusal(path, (4, 9, 8)) == "FOLDER/m.onnx takes x of n x 3 x h x 8; 4x9x8 does not fit it"
    assert refusal(graph(tmp_path, RELU, input=(1, 0, 8))) == (
        "FOLDER/m.onnx takes x of 1 x 0 x 8, which is no shape; the file is damaged"
    )


def test_files_that_are_no_model(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.onnx") == "no file at FOLDER/none.onnx; give an ONNX file"
    path = tmp_path / "m.onnx"
    path.write_bytes(b"")
    assert refusal(path) == (
        "FOLDER/m.onnx is no ONNX file, or one without a graph; give a model that torch.onnx.export wrote"
    )
    path.write_text("a text\n" * 9)
    assert refusal(path).startswith("FOLDER/m.onnx is no sound ONNX file: ")


def test_damaged_graphs(tmp_path: Path) -> None:
    lost = helper.make_node("Relu", ["z\nz"], ["y"])
    assert refusal(graph(tmp_path, lost)) == (
        "FOLDER/m.onnx: Relu needs z z, which no node before it gives; the file is damaged"
    )
    path = graph(tmp_path, helper.make_node("Conv", ["x", "w"], ["y"]), w=(6, 3, 3, 3))
    model = onnx.load(str(path))
    model.graph.initializer[0].dims[0] = -5
    path.write_bytes(model.SerializeToString())
    assert refusal(path) == "FOLDER/m.onnx: w has the shape -5x3x3x3; the file is damaged"


def test_functions_without_an_end(tmp_path: Path) -> None:
    """Forty functions that each call the next twice would be a trillion nodes; one may call itself."""
    path = graph(tmp_path, helper.make_node("f0", ["x"], ["y"], domain="d"))
    for steps in ([(i, i + 1) for i in range(40)], [(0, 0)]):
        model = onnx.load(str(path))
        model.opset_import.append(helper.make_opsetid("d", 1))
        for i, j in steps:
            calls = [helper.make_node(f"f{j}", [a], [b], domain="d") for a, b in (("a", "b"), ("b", "c"))]
            model.functions.append(
                helper.make_function("d", f"f{i}", ["a"], ["c"], calls, [helper.make_opsetid("d", 1)])
            )
        twin = tmp_path / "f.onnx"
        twin.write_bytes(model.SerializeToString())
        assert refusal(twin) == (
            "FOLDER/f.onnx calls its own functions without an end, or makes more than 1,000,000 nodes of them"
        )


def test_files_cut_short_and_with_wrong_bytes(tmp_path: Path) -> None:
    whole = (LIGHT / "light_squeezenet.onnx").read_bytes()
    path = tmp_path / "m.onnx"
    for i in range(60):
        bad = bytearray(whole[: len(whole) * (i + 1) // 60] if i % 2 else whole)
        bad[(i * 7919) % len(bad)] ^= 1 + i % 255
        path.write_bytes(bad)
        try:
            account_onnx(path).as_text()
        except BadInput as error:
            assert "\n" not in str(error)
