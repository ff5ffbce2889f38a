"""The figures of Canziani et al.'s chart: read off it as the code printed them, and of networks that we have."""

from convatlas.catalogue import catalogue
from convatlas.networks import NETWORKS, PUBLISHED
from convatlas.networks.canziani import BARS, CHART, CODE, CROP, PRINTED, READ_OFF

FOURTEEN = "AlexNet BN-AlexNet BN-NIN ENet GoogLeNet ResNet-18 VGG-16 VGG-19 ResNet-34 ResNet-50 ResNet-101 ResNet-152"
FOURTEEN += " Inception-v3 Inception-v4"


def by_source(source: str) -> dict[str, float]:
    known = catalogue()
    return {n: p.value for n in BARS for p in known.printed(n) if (p.source, p.metric) == (source, "top1_accuracy")}


def test_all_fourteen_networks_but_the_unpublished_enet() -> None:
    assert len(BARS) == len(FOURTEEN.split()) - 1
    assert "enet" not in BARS
    assert set(BARS) <= set(NETWORKS)


def test_the_bars_rise_as_the_chart_sorts_them() -> None:
    values = [float(v) for v in BARS.values()]
    assert values == sorted(values)


def test_what_was_read_off_the_chart_is_what_the_code_printed_within_a_point() -> None:
    """Ten figures stand in the README of the code that the paper names: these here and those in other papers' files."""
    read, exact = by_source(CHART), by_source(CODE)
    assert len(read) == 13
    assert set(exact) == set(PRINTED) | {"alexnet", "alexnet_bn", "nin_bn", "vgg16", "vgg19"}
    assert all(abs(read[name] - value) < 1 for name, value in exact.items())


def test_every_accuracy_says_how_it_was_taken() -> None:
    for p in PUBLISHED["canziani"]:
        if p.metric == "top1_accuracy":
            assert (p.source, p.protocol) in {(CODE, CROP), (CHART, READ_OFF)}


def test_the_resnets_are_those_whose_stride_is_on_the_3x3() -> None:
    """fb.resnet.torch's; 4.089 G multiply-adds as torchvision has it for the same network, not the paper's 3.858."""
    assert round(catalogue().entry("resnet50_v15").macs / 1e9, 3) == 4.089
    assert {"resnet50_v15", "resnet101_v15", "resnet152_v15"} <= set(BARS)
    assert not {"resnet50", "resnet101", "resnet152"} & set(BARS)


def test_what_the_statement_says_of_the_vggs_operations() -> None:
    (found,) = [p for p in PUBLISHED["canziani"] if p.network == "vgg16" and p.metric == "statement"]
    known = catalogue().networks
    operations = [f"{2 * known[name].macs / 1e9:.1f}" for name in ("vgg16", "vgg19")]
    assert found.reason.startswith(f"{operations[0]} and {operations[1]} G")
    assert max(known[name].macs for name in BARS) == known["vgg19"].macs
    assert sorted(BARS, key=lambda name: -known[name].macs)[:2] == ["vgg19", "vgg16"]


def test_what_the_statement_says_of_crops_is_what_the_papers_printed() -> None:
    (found,) = [p for p in PUBLISHED["canziani"] if p.network == "googlenet" and p.metric == "statement"]
    printed = {p.printed for name in ("googlenet", "vgg16") for p in catalogue().printed(name)}
    assert {"10.07", "8.70", "9.15", "9.33"} <= printed
    assert all(figure in found.reason for figure in ("10.07", "8.70", "9.15", "9.33"))
