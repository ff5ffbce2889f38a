"""The lecture's tables: their sums, the catalogue's own totals, and formulas."""

import pytest

from convatlas.catalogue import catalogue
from convatlas.lecture import tables
from convatlas.lecture.places import placed
from convatlas.lecture.words import words
from convatlas.networks.lecture import ALEXNET_LINES, VGG16_LINES

SAY = words("en")
LAYERED = ("lenet5", "zfnet", "resnet34", "nin", "nin_cifar")


def column(grid: tables.Grid, name: str) -> list[object]:
    (i,) = [i for i, c in enumerate(grid.columns) if c.name == name]
    return [row[i] for row in grid.rows]


@pytest.mark.parametrize("name", LAYERED)
@pytest.mark.parametrize("count", ["parameters", "MACs"])
def test_the_rows_of_a_network_sum_to_its_total(name: str, count: str) -> None:
    *rows, total = column(tables.layers(name, "", SAY), count)
    entry = catalogue().entry(name)
    assert total == sum(n for n in rows if isinstance(n, int))
    assert total == {"parameters": entry.params, "MACs": entry.macs}[count]


def test_lenet_as_its_paper_draws_it() -> None:
    grid = tables.layers("lenet5", "", SAY)
    drawn = ["32x32x1", "28x28x6", "14x14x6", "10x10x16", "5x5x16", "1x1x120", "84", "10", None]
    assert column(grid, "output") == drawn
    assert column(grid, "parameters")[1:-2] == [156, 12, 1516, 32, 48120, 10164]


def test_alexnet_line_by_line_as_the_lecture_lists_it() -> None:
    grid = tables.alexnet_lines(placed()["alexnet"], SAY)
    listed = {"input": "227x227x3", **ALEXNET_LINES}
    assert dict(zip(column(grid, "layer"), column(grid, "the lecture"), strict=True)) == listed
    assert column(grid, "here") == list(listed.values())


def test_conv1_of_alexnet_by_the_formula() -> None:
    grid = tables.alexnet_lines(placed()["alexnet"], SAY)
    side = (227 - 11) // 4 + 1
    assert column(grid, "here")[1] == f"{side}x{side}x96"
    assert column(grid, "parameters")[1] == 96 * 11 * 11 * 3 + 96
    assert column(grid, "MACs")[1] == side * side * 96 * 11 * 11 * 3


def test_vgg_16_beside_the_slide() -> None:
    grid = tables.vgg_lines(placed()["vgg-memory"], SAY)
    slide = [f"{int(weights):,}" for _, _, weights in VGG16_LINES]
    assert column(grid, "weights, slide")[1:-1] == slide
    assert column(grid, "weights, here")[1:-1] == slide
    kept = [int(str(n).replace(",", "")) for n in column(grid, "numbers kept, here")]
    assert sum(kept[:-1]) == kept[-1] == 15_237_608
    assert kept[1] == 224 * 224 * 64
    assert column(grid, "numbers kept, slide")[-1] == "24 M"
    assert column(grid, "weights, here")[-1] == "138,344,128"


@pytest.mark.parametrize(("name", "total"), [("inception_naive", 854_196_224), ("inception_reduced", 271_351_808)])
def test_each_product_of_a_module_is_what_was_counted(name: str, total: int) -> None:
    grid = tables.module(name, "", SAY)
    written = [tables.product(str(words)) for words in column(grid, "the lecture")[:-1]]
    assert column(grid, "its product")[:-1] == column(grid, "here")[:-1] == written
    assert column(grid, "its product")[-1] == column(grid, "here")[-1] == sum(written) == total


def test_the_lecture_counts_the_3x3_of_the_reduced_module_twice() -> None:
    grid = tables.module("inception_reduced", "", SAY)
    twice = dict(zip(column(grid, "convolution"), column(grid, "here"), strict=True))["3x3 conv, 192"]
    assert column(grid, "here")[-1] + twice == 358_055_936


def test_googlenet_beside_its_paper() -> None:
    grid = tables.googlenet_table()
    rows = {row[0]: row for row in grid.rows}
    assert rows["inception_3a"][2:] == ["159 k", 163_696, "128 M", 128_049_152]
    assert rows["conv1"][2:] == ["2.7 k", 9_472, "34 M", 118_013_952]
    assert rows["total"][3] == 6_998_552 == sum(row[3] for row in grid.rows[:-1])
    assert rows["total"][5] == sum(row[5] for row in grid.rows[:-1])


def test_the_bottleneck_by_the_formula() -> None:
    rows = tables.bottleneck(SAY).rows
    weights = [256 * 64, 64 * 64 * 9, 64 * 256]
    assert (
        [row[3] for row in rows if row[0] == "bottleneck"] == [*weights, sum(weights)] == [16384, 36864, 16384, 69632]
    )
    assert [row[4] for row in rows if row[0] == "bottleneck"] == [28 * 28 * n for n in (*weights, sum(weights))]
    assert [row[3] for row in rows if row[0] == "two 3x3 of 256"] == [9 * 256**2, 9 * 256**2, 2 * 9 * 256**2]


def test_small_kernels_by_the_formula() -> None:
    three, one = tables.fields(SAY).rows
    assert three[1:] == [7, 27 * 256**2, 27 * 256**2 * 28**2, 3]
    assert one[1:] == [7, 49 * 256**2, 49 * 256**2 * 28**2, 1]


def test_an_identity_shortcut_costs_nothing() -> None:
    plain, residual = tables.side_by_side(("plain34", "resnet34_a"), "").rows
    assert plain[1:4] == residual[1:4] == [34, 21_623_848, 3_644_493_824]
