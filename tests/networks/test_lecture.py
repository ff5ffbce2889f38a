"""The lecture's figures: each of its statements that numbers can settle is settled by numbers."""

from collections import Counter

from convatlas.catalogue import catalogue, table
from convatlas.networks.lecture import ALEXNET_LINES, PUBLISHED, VGG16_LINES


def reason(network: str, words: str) -> str:
    (found,) = [p for p in PUBLISHED if p.network == network and words in p.printed]
    return found.reason


def test_where_memory_and_parameters_of_vgg_16_are() -> None:
    found = table("vgg16")
    values = 3 * 224 * 224 + found.totals.activations
    early = sum(found.under(layer).totals.activations for layer in ("conv1_1", "conv1_2"))
    late = sum(found.under(layer).totals.params for layer in ("fc6", "fc7", "fc8"))
    said = reason("vgg16", "most memory")
    assert f"{100 * early / values:.0f} % of the values" in said
    assert f"{100 * late / found.totals.params:.0f} % of the parameters" in said
    assert round(values / 1e6, 2) == 15.24


def test_small_kernels_see_as_far_as_a_large_one() -> None:
    three, one = table("three_3x3").totals, table("one_7x7").totals
    assert three.field == one.field == (7, 7)
    channels = table("one_7x7").input[0][1]
    assert (three.params, one.params) == (27 * channels**2, 49 * channels**2)
    assert sum(r.op == "relu" for r in table("three_3x3").rows) == 3


def test_the_reduced_module_by_its_six_terms() -> None:
    places = 28 * 28
    terms = [64 * 256, 64 * 256, 128 * 256, 192 * 9 * 64, 96 * 25 * 64, 64 * 256]
    assert table("inception_reduced").totals.macs == places * sum(terms) == 271_351_808
    assert places * (sum(terms) + terms[3]) == 358_055_936


def test_zfnet_without_the_stride_of_conv2_would_be_another_network() -> None:
    """With conv2 at stride 1 and padding 2 on 227 pixels: 55, 55, 27, 27, 27, 27, 13, so fc6 sees 512x13x13."""
    convolutions = [(3, 96, 7), (96, 256, 5), (256, 512, 3), (512, 1024, 3), (1024, 512, 3)]
    linear = [(512 * 13 * 13, 4096), (4096, 4096), (4096, 1000)]
    total = sum(i * o * k * k + o for i, o, k in convolutions) + sum(i * o + o for i, o in linear)
    assert f"{total:,}" in reason("zfnet", "only conv1")


def test_googlenet_counted_with_one_layer_a_module() -> None:
    stages = Counter(r.path.split(".")[0].split("_")[0] for r in table("googlenet").stages().rows)
    assert stages["inception"] == 9
    assert "13, not 22" in reason("googlenet", "are one layer")
    assert 1 + 2 + stages["inception"] + 1 == 13


def test_the_comparison_of_operations_and_parameters() -> None:
    known = catalogue().networks
    macs = [f"{known[n].macs / 1e9:.1f}" for n in ("googlenet", "vgg16", "alexnet")]
    params = [f"{known[n].params / 1e6:.1f}" for n in ("googlenet", "vgg16", "alexnet")]
    said = reason("googlenet", "most efficient")
    assert f"{macs[0]}, {macs[1]} and {macs[2]} G" in said
    assert f"{params[0]}, {params[1]} and {params[2]} M" in said


def test_the_lists_are_whole() -> None:
    assert len(ALEXNET_LINES) + 1 == 14  # with the input
    assert sum(int(weights) for *_, weights in VGG16_LINES) == 138_344_128
    # The slide's rounded column, which its own total of 24 M does not fit.
    assert round((150e3 + sum(float(kept) for _, kept, _ in VGG16_LINES)) / 1e6, 1) == 15.2
