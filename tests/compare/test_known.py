"""Catalogue networks and published figures in a comparison."""

from decimal import Decimal

import pytest

from convatlas.catalogue import catalogue
from convatlas.compare import Limits, choose, compare
from convatlas.errors import UnknownName, UsageError

from .conftest import Runs, evaluation


def test_a_catalogue_network_has_its_account_and_its_weights_in_fp32() -> None:
    (entry,) = compare(["resnet50"]).entries
    # He et al. 2016: 25,557,032 parameters in torchvision's; 3.86 G multiply-adds of the layers with weights.
    assert (entry.params, entry.weights_bytes, entry.macs) == (25_557_032, 102_228_128, 3_857_973_248)
    assert (entry.name, entry.mark, entry.input, entry.class_count) == ("resnet50", "catalogue", (3, 224, 224), 1000)
    assert entry.accuracy is None and entry.printed_top1 is None and entry.curves == ()


def test_published_of_a_network_are_all_its_printed_top1_figures() -> None:
    found = {e.name: (e.printed_top1, e.protocol) for e in compare(["published:resnet18"]).entries}
    # Errors of 30.43 and 28.22 in fb.resnet.torch's README, an accuracy of 69.758 in torchvision's list of weights.
    crops = [(f"facebookarchive/fb.resnet.torch: validation, {how}") for how in ("1 crop of 224 from 256", "10 crops")]
    assert found["resnet18, facebookarchive/fb.resnet.torch"] == (pytest.approx(1 - 0.3043), crops[0])
    assert found["resnet18, facebookarchive/fb.resnet.torch, 2"] == (pytest.approx(1 - 0.2822), crops[1])
    assert found["resnet18, torchvision 0.29, IMAGENET1K_V1"][0] == 0.69758
    assert "resnet18, Canziani et al. 2017, Figure 1" in found
    assert len(found) == len(compare(["published:resnet18"]).entries)


def test_published_alone_is_one_figure_a_network_as_the_list_has_it() -> None:
    known = catalogue()
    entries = compare(["published"]).entries
    assert len({e.name for e in entries}) == len(entries) > 40
    for e in entries:
        errors = known.errors(e.network)
        assert errors is not None and e.mark == "published" and e.protocol
        if errors.top1 is not None:  # else the list has a top-5 error alone
            assert e.protocol.startswith(errors.source) or e.protocol.endswith(f"{errors.source}: {errors.protocol}")
            assert e.printed_top1 == pytest.approx(float(1 - Decimal(errors.top1) / 100))


def test_marks_have_a_column_and_equal_names_are_told_apart(run_folder: Runs) -> None:
    compared = compare([run_folder("resnet18", evaluation(350)), "resnet18", "published", "published:nin_cifar"])
    names = [e.name for e in compared.entries]
    assert names[:2] == ["resnet18", "resnet18 (catalogue)"] and "resnet18 (published)" in names
    assert len(set(names)) == len(names)
    shown = compared.as_text()
    head = shown.splitlines()[0].split()
    assert "mark" in head and head[-4:] == ["published", "where", "and", "how"]
    row = next(line for line in shown.splitlines() if line.startswith("nin_cifar, Table 1 "))
    assert "89.59 % printed" in row and "Table 1: test, no augmentation" in row
    assert "published accuracies were taken in different ways; compare only those of the same protocol" in shown
    assert "mark" not in compare([run_folder("b", evaluation(350))]).as_text().splitlines()[0]


def test_what_has_no_accuracy_is_never_picked_and_listed(run_folder: Runs) -> None:
    choice = choose(compare([run_folder("a", evaluation(350)), "resnet18", "published:nin_cifar"]), Limits(max_mb=500))
    assert choice.pick == "a" and [c.name for c in choice.candidates] == ["a"]
    assert "resnet18: accuracy; `convatlas train resnet18 DATA`" in choice.as_text()


def test_without_any_accuracy_there_is_nothing_to_choose() -> None:
    for limits in (Limits(), Limits(min_accuracy=0.9)):
        with pytest.raises(UsageError) as caught:
            choose(compare(["resnet18", "published:nin_cifar"]), limits)
        assert str(caught.value) == (
            "nothing to choose from: no accuracy was measured of any of these; give run folders too, which "
            "`convatlas train NETWORK DATA --out RUN` makes"
        )
    assert not compare(["resnet18"]).comparable


def test_an_unknown_network() -> None:
    with pytest.raises(UnknownName) as caught:
        compare(["published:resnet19"])
    assert str(caught.value).startswith("no network named 'resnet19'; did you mean resnet1")
