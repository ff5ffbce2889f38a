"""Two networks side by side: alignment as a longest common subsequence, exact sums, and what a reader sees."""

import json
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from convatlas.account import account
from convatlas.beside import _common, beside
from convatlas.errors import BadInput
from convatlas.networks import build
from convatlas.table import Row, Table

LABELS = st.lists(st.sampled_from("abcd"), max_size=7)


@given(LABELS, LABELS)
def test_alignment_is_a_longest_common_subsequence(a: list[str], b: list[str]) -> None:
    pairs = _common(a, b)
    assert all(a[i] == b[j] for i, j in pairs)
    assert all(i < k and j < m for (i, j), (k, m) in pairwise(pairs))
    subsequences = [{c for n in range(len(x) + 1) for c in combinations(x, n)} for x in (a, b)]
    assert len(pairs) == max(map(len, subsequences[0] & subsequences[1]))


def built(name: str) -> Table:
    with torch.device("meta"):
        return account(build(name).eval(), (3, 224, 224), name=name)


def test_a_plain_network_and_its_residual_twin() -> None:
    """He et al., table 1: as many weights in the main path; the shortcuts add projections."""
    a, b = built("plain34"), built("resnet34")
    both = beside(a, b)
    assert [p.label for p in both.stages] == [r.path for r in a.stages().rows]
    assert all(p.a and p.b and p.a.output == p.b.output for p in both.stages)
    conv2 = next(p for p in both.stages if p.label == "conv2")
    assert conv2.ratio == 1.0  # its shortcuts are identities
    record = json.loads(both.as_json())
    assert record["ratios"]["macs"] == b.totals.macs / a.totals.macs
    assert record["a"]["totals"]["params"] == sum(s["a"]["params"] for s in record["stages"])
    assert record["b"]["totals"]["saved_bytes"] == sum(s["b"]["saved_bytes"] for s in record["stages"])


def branch(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


class Inception(nn.Module):
    """The lecture's module on 256 channels of 28x28, with 1x1 reductions to 64 channels or without."""

    def __init__(self, reduced: bool):
        super().__init__()
        small = [nn.Conv2d(256, 64, 1)] if reduced else []
        inner = 64 if reduced else 256
        self.add_module("1x1", nn.Conv2d(256, 128, 1))
        self.add_module("3x3", branch(*small, nn.Conv2d(inner, 192, 3, padding=1)))
        self.add_module(
            "5x5", branch(*([nn.Conv2d(256, 64, 1)] if reduced else []), nn.Conv2d(inner, 96, 5, padding=2))
        )
        self.add_module("pool", branch(nn.MaxPool2d(3, 1, 1), *([nn.Conv2d(256, 64, 1)] if reduced else [])))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([layer(x) for layer in self.children()], 1)


def test_the_lectures_inception_module() -> None:
    """854 M multiply-adds without reductions, 271 M with them. Kept are the input once, 256*28*28*4 = 802,816
    bytes, and with reductions two maps of 64 channels and the pooled one: 802,816 * (1 + 2/4 + 1) = 2,007,040."""
    both = beside(*(account(Inception(r), (256, 28, 28), name=f"inception {r}") for r in (False, True)))
    assert [p.label for p in both.stages] == ["1x1", "3x3", "5x5", "pool", ""]
    assert both.as_text() == (
        "A: inception False (1x256x28x28), B: inception True (1x256x28x28)\n\n"
        "stage      output A     output B     params A  params B  MACs A  MACs B  values A  values B  MACs B/A\n"
        "─────────  ───────────  ───────────  ────────  ────────  ──────  ──────  ────────  ────────  ────────\n"
        "1x1        1x128x28x28  1x128x28x28    32.9 k    32.9 k  25.7 M  25.7 M     100 k     100 k      1.00\n"
        "3x3        1x192x28x28  1x192x28x28     443 k     127 k   347 M  99.5 M     151 k     201 k     0.287\n"
        "5x5        1x96x28x28   1x96x28x28      614 k     170 k   482 M   133 M    75.3 k     125 k     0.277\n"
        "pool       1x256x28x28  1x64x28x28          0    16.4 k       0  12.8 M     201 k     251 k\n"
        "(forward)  1x672x28x28  1x480x28x28         0         0       0       0     527 k     376 k\n\n"
        "total                       A            B    B/A\n"
        "────────────────  ───────────  ───────────  ─────\n"
        "parameters          1,089,952      346,720  0.318\n"
        "MACs              854,196,224  271,351,808  0.318\n"
        "backward MACs     854,196,224  478,478,336  0.560\n"
        "activations         1,053,696    1,053,696   1.00\n"
        "activation bytes    4,214,784    4,214,784   1.00\n"
        "saved bytes           802,816    2,007,040   2.50\n"
        "receptive field           5x5          5x5   1.00\n\n"
        "params: parameters; values: activations; B/A: of the second network to the first.\n"
        "Convention: 1 MAC = one multiply-add of a convolution, linear layer, matrix product or attention; "
        "biases, normalisation,\n"
        "activation functions, pooling and additions are not counted."
    )


def chain(*layers: tuple[str, nn.Module]) -> nn.Module:
    net = nn.Sequential()
    for name, layer in layers:
        net.add_module(name, layer)
    return net


def test_three_small_windows_and_a_large_one() -> None:
    """Simonyan & Zisserman, section 2.3: three 3x3 layers see 7x7 with 27 C^2 weights for 49 C^2."""
    small = chain(*((f"conv{i}", nn.Conv2d(64, 64, 3, padding=1, bias=False)) for i in (1, 2, 3)))
    large = chain(("conv", nn.Conv2d(64, 64, 7, padding=3, bias=False)))
    both = beside(*(account(net, (64, 56, 56)) for net in (small, large)))
    assert [(p.label, p.a is None, p.b is None) for p in both.stages] == [
        ("conv1", False, True), ("conv2", False, True), ("conv3", False, True), ("conv", True, False),
    ]  # fmt: skip
    assert all(p.ratio is None for p in both.stages)
    assert json.loads(both.as_json())["ratios"]["params"] == 49 / 27
    assert both.a.totals.field == both.b.totals.field == (7, 7)
    line = both.as_text().splitlines()[4]
    assert line.split() == ["conv1", "1x64x56x56", "36.9", "k", "116", "M", "201", "k"]


def test_long_labels_are_cut_in_front_to_120_columns() -> None:
    rows = tuple(
        Row(f"{'very_long_name_of_a_stage_' * 5}{i}", "conv2d", ((64, 3, 224, 224),), (64, 512, 112, 112), 1, 2, 3, 12)
        for i in range(3)
    )
    text = beside(Table("a" * 150, ((64, 3, 224, 224),), rows), Table("b", ((1, 3, 8, 8),), rows[1:])).as_text()
    assert max(map(len, text.splitlines())) == 120
    assert "stage_1 " in text and "…" in text


def test_other_forms_have_the_same_figures() -> None:
    net = chain(("conv<1>", nn.Conv2d(3, 8, 3)))
    both = beside(account(net, (3, 9, 9), name="a|b"), account(net, (3, 9, 9), name="c"))
    assert "| conv<1> | 1x8x7x7 | 1x8x7x7 | 224 | 224 | 10.6 k | 10.6 k | 392 | 392 | 1.00 |" in both.as_markdown()
    assert "<td>conv&lt;1&gt;</td>" in both.as_html() and both.as_html().count("<table>") == 2
    assert both._repr_html_() == both.as_html()


def test_what_was_not_counted_is_said_for_its_side() -> None:
    row = Row("x", "fft", ((1, 4),), (1, 4), 0, 0, 4, 16)
    a, b = (
        Table("a", ((1, 4),), (row,), uncounted=("torch.fft.fft",)),
        Table("b", ((1, 4),), (row,), convention="other"),
    )
    notes = beside(a, b).as_text().splitlines()
    assert "Not counted in A, no rule for: torch.fft.fft." in notes
    assert notes[-1] == "Convention of B: other."


def test_deeper_stages() -> None:
    a, b = built("plain18"), built("resnet18")
    both = beside(a, b, depth=2)
    assert any(p.a and p.b and "." in p.label for p in both.stages)
    assert sum(p.b.macs for p in both.stages if p.b) == b.totals.macs


def test_no_depth() -> None:
    t = Table("a", ((1, 4),), ())
    with pytest.raises(BadInput) as error:
        beside(t, t, depth=0)
    assert str(error.value) == "depth 0 is none; give 1 for the stages, 2 for what is inside them"
    assert beside(t, t).as_text().startswith("A: a (1x4), B: a (1x4)")
