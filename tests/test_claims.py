"""Every printed figure agrees, or differs for a reason that is given, or cannot be computed here."""

from collections import Counter

import pytest

from convatlas import catalogue
from convatlas.catalogue import table
from convatlas.claims import AGREES, COMPUTED, DIFFERS, OPEN, Claim, check, claims
from convatlas.errors import UnknownName
from convatlas.paper import Published
from convatlas.table import Row, Table

ALL = {c.id: c for c in claims()}


def test_every_printed_figure_agrees_or_has_a_reason() -> None:
    known = catalogue.catalogue()
    assert len(ALL) == sum(map(len, known.published.values()))
    assert Counter(c.verdict for c in ALL.values()).keys() == {AGREES, DIFFERS, OPEN}
    assert [c.id for c in ALL.values() if c.verdict == DIFFERS and not c.reason] == []
    assert [c.id for c in ALL.values() if c.metric == "statement" and not c.reason] == []
    assert [c.id for c in ALL.values() if c.metric in COMPUTED and c.computed is None] == []
    # An error means nothing without the way in which it was measured.
    measured = [c for c in ALL.values() if c.metric.endswith(("_error", "_accuracy"))]
    assert [c.id for c in measured if not c.protocol] == []


def test_every_layer_that_a_figure_names_is_there() -> None:
    known = catalogue.catalogue()
    named = {(p.network, p.layer) for printed in known.published.values() for p in printed if p.layer}
    assert [pair for pair in sorted(named) if not table(pair[0]).under(pair[1]).rows] == []


@pytest.mark.parametrize(
    ("network", "metric", "printed", "computed"),
    [
        ("inception_reduced", "macs", "3.58e8", 271_351_808),
        ("vgg16", "values", "24e6", 15_237_608),
        ("vgg16", "value_bytes", "96e6", 60_950_432),
        ("googlenet", "params", "5e6", 6_998_552),
        ("resnet101", "depth", "100", 101),
        ("resnet152", "weight_decay", "1e-5", 1e-4),
        ("zfnet", "channels", "1024", 384),
    ],
)
def test_what_the_lecture_has_wrong(network: str, metric: str, printed: str, computed: float) -> None:
    """Arithmetic by hand on the layer tables, and what the papers say, as the right side."""
    (found,) = [c for c in claims("lecture") if (c.network, c.metric, c.printed) == (network, metric, printed)]
    assert (found.computed, found.verdict) == (computed, DIFFERS)
    assert found.reason


def test_what_the_lecture_has_right() -> None:
    right = {c.printed for c in claims("lecture") if c.network == "alexnet_one_tower" and c.verdict == AGREES}
    assert {"34848", "55x55x96", "27x27x96", "27x27x256", "13x13x384", "13x13x256", "6x6x256", "4096", "1000"} <= right
    assert ALL["inception_naive.macs.lecture-notes-googlenet"].verdict == AGREES
    assert ALL["vgg16.weights.lecture-slides-vggnet"].computed == 138_344_128
    # the slide's column of VGG-16's weights adds up to its total
    column = [c for c in claims("lecture") if c.network == "vgg16" and c.metric == "weights"]
    assert sum(int(c.printed) for c in column[1:]) == int(column[0].printed)


def test_claims_of_one_paper_are_its_own_and_those_about_its_networks() -> None:
    found = claims("lenet")
    assert {c.network for c in found} == {"lenet5"}
    assert {c.paper for c in found} == {"lenet", "lecture"}
    assert [(c.id, c.printed, c.computed, c.verdict) for c in found][:2] == [
        ("lenet5.params.section-ii-b", "60000", 60_000, AGREES),
        ("lenet5.c1.params.section-ii-b", "156", 156, AGREES),
    ]
    with pytest.raises(UnknownName) as refusal:
        claims("resnte")
    assert str(refusal.value) == "no paper named 'resnte'; did you mean resnet, resnext, preresnet?"


ROWS = (
    Row("conv1", "conv2d", ((1, 3, 8, 8),), (1, 4, 8, 6), 112, 4 * 27 * 48, 192, 768, (3, 3), (1, 1)),
    Row("conv1", "relu", ((1, 4, 8, 6),), (1, 4, 8, 6), 0, 0, 0, 0, (3, 3), (1, 1)),
    Row("pool1", "max_pool2d", ((1, 4, 8, 6),), (1, 4, 4, 3), 0, 0, 48, 192, (4, 4), (2, 2), 0, 0, (-1, -1)),
    Row("fc", "linear", ((1, 48),), (1, 10), 490, 480, 10, 40),
)


@pytest.mark.parametrize(
    ("metric", "layer", "printed", "computed", "verdict"),
    [
        ("params", "", "600", 602, DIFFERS),  # "600" was printed to the last digit
        ("params", "", "6.0e2", 602, AGREES),
        ("weights", "", "588", 108 + 480, AGREES),
        ("weights", "conv1", "108", 108, AGREES),
        ("activations", "pool1", "48", 48, AGREES),
        ("values", "", "442", 192 + 192 + 48 + 10, AGREES),
        ("value_bytes", "", "1768", 4 * 442, AGREES),
        ("output", "conv1", "8x6x4", "8x6x4", AGREES),
        ("output", "fc", "10", "10", AGREES),
        ("channels", "pool1", "5", 4, DIFFERS),
        ("stride", "pool1", "2", 2, AGREES),
        ("field", "conv1", "3", 3, AGREES),
        ("padding", "pool1", "1", 1, AGREES),
        ("layers", "", "conv1 pool1 fc", "conv1 pool1 fc", AGREES),
        ("layers", "", "pool1 conv1 fc", "conv1 pool1 fc", DIFFERS),
        ("top1_error", "", "3.57", None, OPEN),
    ],
)
def test_metrics(metric: str, layer: str, printed: str, computed: float | str | None, verdict: str) -> None:
    (claim,) = judge(Published("lenet5", metric, printed, "a paper", layer, "10 crops", "because"))
    assert (claim.computed, claim.verdict) == (computed, verdict)


def judge(*printed: Published) -> list[Claim]:
    known = catalogue.catalogue()
    made = Table("lenet5", ((1, 3, 8, 8),), ROWS)
    return check(catalogue.Catalogue(known.papers, known.networks, known.recipes, {"lenet": printed}), lambda _: made)


def test_a_difference_without_a_reason_is_unexplained() -> None:
    first, second, third, fourth = judge(
        Published("lenet5", "params", "7", "Table 1"),
        Published("lenet5", "params", "8", "Table 1", reason="a slip"),
        Published("lenet5", "statement", "it is new", "page 2", reason="it is not", differs=True),
        Published("lenet5", "params", "1.0", "page 3", versus="lenet5"),
    )
    assert (first.verdict, second.verdict, third.verdict, fourth.verdict) == ("unexplained", DIFFERS, DIFFERS, AGREES)
    assert [c.id for c in (first, second, third, fourth)] == [
        "lenet5.params.table-1",
        "lenet5.params.table-1-2",
        "lenet5.statement.page-2",
        "lenet5.params-by-lenet5.page-3",
    ]
