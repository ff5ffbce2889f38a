"""LeNet-5 against the figures that its paper prints, and its layers against direct formulas."""

from math import tanh

import numpy as np
import pytest
import torch
from torch import nn

from convatlas.networks import build
from convatlas.networks.lenet import CONNECTIONS, Distances, ScaledTanh, SparseConv, Subsample, codes

# Section II.B of the paper: trainable parameters a layer.
PRINTED = {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164, "output": 0}


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_parameters_a_layer_are_those_printed() -> None:
    net = build("lenet5")
    assert {name: parameters(layer) for name, layer in net.named_children()} == PRINTED
    assert parameters(net) == 60_000
    assert net.output.codes.numel() == 840  # 10 fixed vectors of 84


def test_parameters_of_the_modern_form() -> None:
    # 6*25+6, 16*6*25+16, 120*400+120, 84*120+84, 10*84+10: the widely quoted 61,706
    net = build("lenet5_relu")
    assert [parameters(layer) for _, layer in net.named_children()] == [156, 0, 2_416, 0, 48_120, 10_164, 850]
    assert parameters(net) == 61_706


def test_feature_maps_have_the_sizes_of_figure_2() -> None:
    x = torch.zeros(1, 1, 32, 32)
    shapes = []
    for layer in build("lenet5"):
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120,), (84,), (10,)]


# Table I as it is printed: a row a map of S2, a column a map of C3.
TABLE_I = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
"""


def test_connections_are_table_one() -> None:
    rows = TABLE_I.split()
    columns = [{s2 for s2 in range(6) if rows[s2][c3] == "X"} for c3 in range(16)]
    assert [set(maps) for maps in CONNECTIONS] == columns
    assert sum(map(len, columns)) * 25 + 16 == PRINTED["c3"]


def test_sparse_convolution_is_the_masked_dense_one() -> None:
    """An independent construction: a dense kernel with zeros where Table I has no connection."""
    sparse = SparseConv().double()
    kernels = [k for conv in (sparse.three, sparse.four, sparse.six) for k in conv.weight.detach()]
    weight, bias = torch.zeros(16, 6, 5, 5, dtype=torch.float64), torch.zeros(16, dtype=torch.float64)
    for c3, (maps, kernel) in enumerate(zip(CONNECTIONS, kernels, strict=True)):
        for place, s2 in enumerate(maps):
            weight[c3, s2] = kernel[place]
    bias = torch.cat([conv.bias.detach() for conv in (sparse.three, sparse.four, sparse.six)])
    x = torch.randn(2, 6, 14, 14, dtype=torch.float64)
    torch.testing.assert_close(sparse(x), nn.functional.conv2d(x, weight, bias))


def test_subsampling_is_the_printed_sum() -> None:
    layer = Subsample(3)
    nn.init.normal_(layer.coefficient)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 4, 6)
    y = layer(x)
    assert y.shape == (2, 3, 2, 3)
    for n, c, i, j in np.ndindex(2, 3, 2, 3):
        four = x[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].sum()
        torch.testing.assert_close(y[n, c, i, j], four * layer.coefficient[c, 0, 0] + layer.bias[c, 0, 0])


def test_squashing_function() -> None:
    values = [-3.0, -1.0, 0.0, 0.25, 1.0, 40.0]
    squashed = ScaledTanh()(torch.tensor(values, dtype=torch.float64)).tolist()
    assert squashed == pytest.approx([1.7159 * tanh(2 * a / 3) for a in values])
    assert squashed[4] == pytest.approx(1, abs=1e-4)  # appendix A: f(1) = 1 and f(-1) = -1


def test_output_is_minus_the_squared_distance_by_ten() -> None:
    layer = Distances(10)
    x = torch.randn(4, 84)
    squares = [
        [sum((a - b) ** 2 for a, b in zip(row, code, strict=True)) for code in codes(10).tolist()] for row in x.tolist()
    ]
    torch.testing.assert_close(layer(x), -torch.tensor(squares) / 10, rtol=1e-5, atol=1e-4)
    assert layer(codes(10)).argmax(dim=1).tolist() == list(range(10))
    assert layer(codes(10)).diagonal().tolist() == [0] * 10


@pytest.mark.parametrize("classes", [2, 10, 26, 1000])
def test_codes_are_signs_and_far_apart(classes: int) -> None:
    code = codes(classes)
    assert code.shape == (classes, 84)
    assert set(code.unique().tolist()) == {-1, 1}
    assert torch.equal(code, codes(classes))
    apart = (84 - code @ code.T) / 2  # places in which two codes differ
    assert apart.fill_diagonal_(84).min() >= 8


def test_bitmaps_show_upright_digits_with_a_blank_foot() -> None:
    pictures = codes(10).view(10, 12, 7)
    assert (pictures[:, 10:] == -1).all()
    assert torch.equal(pictures[0, :10], pictures[0, :10].flip(0))  # a zero is the same upside down
    assert torch.equal(pictures[0], pictures[0].flip(1))
    assert torch.equal(pictures[8], pictures[8].flip(1))


def test_initialisation_is_uniform_by_fan_in() -> None:
    net = build("lenet5")
    three, four, six = net.c3.conv.three, net.c3.conv.four, net.c3.conv.six
    for parameter, fan_in in [
        (net.c1.conv.weight, 25),
        (net.s2.sum.coefficient, 4),
        (three.weight, 75),
        (four.weight, 100),
        (six.weight, 150),
        (net.c5.conv.weight, 400),
        (net.f6.linear.weight, 120),
        (net.f6.linear.bias, 120),
    ]:
        bound = 2.4 / fan_in
        assert 0.6 * bound < parameter.abs().max().item() <= bound


def test_cross_entropy_is_the_printed_loss_without_its_constant() -> None:
    """Equation 9: the right class's penalty plus log(exp(-j) + sum of exp(-penalty)), here with exp(-j) = 0."""
    logits = build("lenet5")(torch.randn(3, 1, 32, 32)).double()
    labels = torch.tensor([0, 4, 9])
    penalty = -logits
    expected = penalty[range(3), labels] + (-penalty).exp().sum(dim=1).log()
    torch.testing.assert_close(nn.functional.cross_entropy(logits, labels), expected.mean())
