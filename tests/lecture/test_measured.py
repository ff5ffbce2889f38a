"""What the page takes of an archive, and the accuracies that it takes from print."""

from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.errors import UsageError
from convatlas.lecture.measured import LABELS, command, joined, measured, printed, protocol, published
from convatlas.lecture.words import words
from convatlas.networks.canziani import BARS, CODE
from convatlas.result import this_machine

from .conftest import Archive, measurement

HERE = this_machine(threads=1)


def test_the_networks_are_those_of_the_papers_chart_in_its_order() -> None:
    assert list(LABELS) == list(BARS)


def test_no_archive_has_measured_nothing(tmp_path: Path) -> None:
    found = measured(tmp_path / "none")
    assert (found.entries, found.warnings, found.elsewhere) == ((), (), 0)
    assert found.missing == list(LABELS)


def test_networks_come_in_the_charts_order_with_the_papers_names(archive: Archive) -> None:
    found = measured(archive(measurement("vgg16", 200), measurement("alexnet", 10)))
    assert [(e.name, e.network, e.mark) for e in found.entries] == [
        ("AlexNet", "alexnet", "measurement"),
        ("VGG-16", "vgg16", "measurement"),
    ]
    assert [t.median_ms for t in found.entries[1].timings] == [200, 1600]
    assert found.missing == [n for n in LABELS if n not in ("alexnet", "vgg16")]


def test_the_newest_line_of_a_network_counts(archive: Archive) -> None:
    old = measurement("alexnet", 10, when="2026-11-23T10:00:00+00:00")
    new = measurement("alexnet", 12, when="2026-11-24T10:00:00+00:00")
    assert measured(archive(new, old)).entries[0].timings[0].median_ms == 12


def test_only_this_machine_counts(archive: Archive) -> None:
    other = replace(HERE, processor="Another Processor")
    found = measured(archive(measurement("alexnet", 1, machine=other), measurement("vgg16", 200)))
    assert [e.name for e in found.entries] == ["VGG-16"]
    assert found.elsewhere == 1


def test_the_engine_that_most_networks_have_counts_for_all(archive: Archive) -> None:
    """Times of two engines on one chart would compare engines, not networks."""
    lines = [measurement(name, 10) for name in ("alexnet", "vgg16")]
    found = measured(archive(*lines, measurement("alexnet", 5, engine="openvino", when="2026-11-24T11:00:00+00:00")))
    assert {r.engine for r in found.results} == {"torch"}
    assert [e.name for e in found.entries] == ["AlexNet", "VGG-16"]


def test_another_network_of_the_same_name_does_not_count(archive: Archive, tmp_path: Path) -> None:
    """A trained run of ten classes, another input, a network that is not on the chart."""
    lines = (
        measurement("alexnet", 10, source="runs/alexnet", classes=10),
        measurement("vgg16", 10, input=(3, 112, 112)),
        measurement("lenet5", 1),
    )
    assert measured(archive(*lines)).entries == ()


def test_a_file_that_is_no_archive_is_refused(archive: Archive) -> None:
    folder = archive()
    with pytest.raises(UsageError) as caught:
        measured(folder)
    file = folder / "measurements.jsonl"
    expected = f"{file} holds no result; give an archive that `convatlas measure` writes, one JSON a line"
    assert str(caught.value) == expected


def test_accuracies_are_the_printed_ones_to_two_decimals_where_there_are() -> None:
    assert {n: printed(n)[0].printed for n in ("alexnet", "vgg16", "resnet50_v15")} == {
        "alexnet": "54.61",
        "vgg16": "70.62",
        "resnet50_v15": "75.76",
    }
    assert {n: printed(n)[0].printed for n in ("googlenet", "resnet152_v15", "inception_v4")} == {
        "googlenet": "69",
        "resnet152_v15": "78",
        "inception_v4": "80",
    }


def test_every_published_entry_says_where_and_how() -> None:
    say = words("en")
    for e in published(say).entries:
        assert e.mark == "published"
        assert e.printed_top1 == pytest.approx(float(printed(e.network)[0].printed) / 100)
        assert e.protocol == protocol(e.network, say)
        assert CODE in e.protocol or "read off the chart" in e.protocol


def test_accuracy_and_time_are_joined_for_networks_that_have_both(archive: Archive) -> None:
    found = joined(measured(archive(measurement("vgg16", 200))).entries, words("en"))
    (e,) = found.entries
    assert (e.name, e.mark, e.printed_top1) == ("VGG-16", "published", 0.7062)
    assert e.timings[0].median_ms == 200


def test_the_command_names_networks_and_archive() -> None:
    assert (
        command(["alexnet", "vgg16"], Path("my results"))
        == "convatlas measure alexnet vgg16 --batch 1,2,4,8,16 --engines torch --archive 'my results'"
    )
    assert command(["alexnet"], Path("results/measurements.jsonl")).endswith("--archive results")
