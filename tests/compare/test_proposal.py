"""Which networks are proposed for which data, how long, and by which command."""

import json
import shlex
from dataclasses import replace
from itertools import pairwise

import pytest

from convatlas import catalogue
from convatlas.compare.prediction import FEATURES, Calibration, Point, Ratio, predict_step
from convatlas.compare.proposal import Facts, Proposal, Prospect, _to_try, command, least_passes, propose, settings
from convatlas.errors import UsageError
from convatlas.record import changed
from convatlas.result import Machine
from convatlas.train.checks import check_recipe

CLASSES = tuple("abcdefghij")
PHOTOS = Facts("photos", "my photos/", 1200, 134, CLASSES, 3, 400, 1, 5.0)
DIGITS = Facts("digits", "digits", 1293, 144, tuple("0123456789"), 1, 8, 0, 0.0)
CIFAR = Facts("cifar", "cifar", 45_000, 5_000, CLASSES, 3, 32, 0, 0.0)
FACTS = (PHOTOS, DIGITS, CIFAR, replace(PHOTOS, train=1_200_000), replace(DIGITS, train=30), replace(PHOTOS, side=90))
HOUR = 3600.0
# A machine of 50 GMACs/s whose training steps take three times a forward pass, predicted without an error.
CALIBRATION = Calibration(
    machine=Machine("Processor X", 2, 8_000_000_000, "Linux x86_64", "cpu", 1),
    versions={"torch": "2.14.1"},
    engine="torch",
    when="today",
    seconds=60.0,
    processor=1.0,
    prices={name: 2e-8 if name.startswith("MACs") else 0.0 for name in FEATURES},
    points=(Point("resnet18", (3, 224, 224), 1, 36.0, 35.0, 37.0, 36.3, 36.3),),
    ratios=tuple(Ratio(kind, 3.0, 3.0, 3.0, ("resnet18",)) for kind in ("without batch norm", "with batch norm")),
    update_ms=0.0,
    error_median=0.0,
    error_90=0.0,
)


def proposal(facts: Facts, seconds: float, calibration: Calibration = CALIBRATION, **more: float) -> Proposal:
    """With each network's account at its own input for every size, which the rules do not look at."""
    options = [(s, catalogue.table(s.network)) for s in settings(facts)]
    return propose(facts, seconds, options, calibration, **more)


def all_of(found: Proposal) -> list[Prospect]:
    return [*found.to_try, *found.fits, *found.too_long]


def test_small_images_go_to_networks_for_small_images() -> None:
    names = {s.network for s in settings(DIGITS)}
    assert {"lenet5", "resnet20_cifar", "wrn28_10_cifar"} <= names
    assert {s.size for s in settings(DIGITS)} == {32}
    assert names.isdisjoint({"resnet18", "vgg16", "bottleneck_block"})


def test_photos_go_to_networks_for_photos_at_two_sizes_and_to_a_first_look() -> None:
    found = settings(PHOTOS)
    assert {s.size for s in found if s.network == "resnet18"} == {112, 224}
    assert [s.network for s in found if s.size == 32] == ["lenet5_relu"]
    assert not any(s.network.endswith("_cifar") for s in found)


def test_photos_are_not_enlarged_by_more_than_half() -> None:
    assert {s.size for s in settings(replace(PHOTOS, side=100)) if s.network == "resnet18"} == {112}
    assert {s.size for s in settings(replace(PHOTOS, side=150)) if s.network == "resnet18"} == {112, 224}


@pytest.mark.parametrize(("images", "passes"), [(30, 20), (9_999, 20), (10_000, 10), (99_999, 10), (100_000, 5)])
def test_few_images_are_seen_more_often(images: int, passes: int) -> None:
    assert least_passes(images) == passes


@pytest.mark.parametrize(("images", "batch"), [(50_000, 128), (5_120, 128), (5_119, 64), (1_293, 32), (30, 16)])
def test_an_epoch_has_40_updates_or_the_batch_is_16(images: int, batch: int) -> None:
    found = {s.network: s.batch for s in settings(replace(CIFAR, train=images))}
    assert found["resnet20_cifar"] == batch


@pytest.mark.parametrize("facts", FACTS, ids=lambda f: f"{f.name}-{f.train}-{f.side}")
def test_every_command_is_a_recipe_that_can_be_trained(facts: Facts) -> None:
    found = settings(facts)
    assert found
    for setting in found:
        words = shlex.split(command(setting, 7, facts))
        assert words[:4] == ["convatlas", "train", setting.network, facts.source]
        known = catalogue.catalogue()
        name = words[words.index("--recipe") + 1] if "--recipe" in words else known.networks[setting.network].recipe
        recipe = changed(known.recipes[name], [b for a, b in pairwise(words) if a == "--set"], "recipe")
        check_recipe(recipe)
        assert (recipe.epochs, recipe.iterations, recipe.schedule, recipe.batch) == (7, None, "cosine", setting.batch)
        assert (recipe.size or known.networks[setting.network].input[1]) == setting.size
        assert recipe.lr / recipe.batch == pytest.approx(setting.recipe.lr / setting.recipe.batch, rel=0.01)
        assert recipe.warm_up <= 1
        assert recipe.batch % recipe.parts == 0


def test_a_command_in_full() -> None:
    by_name = {(s.network, s.size): s for s in settings(PHOTOS)}
    assert command(by_name["resnet18", 112], 34, PHOTOS) == (
        "convatlas train resnet18 'my photos/' --recipe small --set size=112 --set epochs=34 --set schedule=cosine "
        "--out runs/resnet18"
    )
    digits = {s.network: s for s in settings(DIGITS)}
    assert command(digits["resnet20_cifar"], 20, DIGITS) == (
        "convatlas train resnet20_cifar digits --set iterations=none --set epochs=20 --set schedule=cosine "
        "--set batch=32 --set lr=0.025 --set 'augment=pad-crop 4' --out runs/resnet20_cifar"
    )


def test_digits_are_not_mirrored_and_other_classes_are() -> None:
    by_name = {s.network: s for s in settings(CIFAR)}
    assert "augment" not in command(by_name["resnet20_cifar"], 20, CIFAR)


def test_the_time_is_that_of_steps_validation_and_loading() -> None:
    table = catalogue.table("resnet18")
    setting = next(s for s in settings(PHOTOS) if s.network == "resnet18" and s.size == 224)
    alone = replace(PHOTOS, loaders=0)
    macs = sum(r.macs for r in table.rows)
    work = (3 * 1200 + 134) * macs * 2e-11
    load = 1334 * 5.0 / 1000
    assert predict_step(table, CALIBRATION, 16).ms == pytest.approx(3 * 16 * macs * 2e-8)
    for facts, epoch in ((alone, work + load), (PHOTOS, max(work, load)), (replace(PHOTOS, load_ms=500.0), 667.0)):
        (made,) = all_of(propose(facts, 10 * HOUR, [(setting, table)], CALIBRATION))
        assert made.epoch_s == pytest.approx(epoch)
        assert made.seconds == pytest.approx(made.epochs * epoch)


def test_what_fits_keeps_the_time_and_is_seen_often_enough() -> None:
    found = proposal(PHOTOS, HOUR)
    for c in (*found.to_try, *found.fits):
        assert 20 <= c.epochs <= 40 and c.seconds <= 0.9 * HOUR
        assert c.epochs == 40 or c.seconds + c.epoch_s > 0.9 * HOUR
        assert f"--set epochs={c.epochs} " in c.command
    for c in found.too_long:
        assert c.epochs == 20 and c.seconds > 0.9 * HOUR and c.command == ""
    assert {c.network for c in all_of(found)} == {s.network for s in settings(PHOTOS)}
    assert [c.seconds for c in found.too_long] == sorted(c.seconds for c in found.too_long)


def test_an_uncertain_prediction_makes_the_training_shorter_but_not_too_short() -> None:
    unsure = replace(CALIBRATION, error_90=0.4)
    for c in (*(found := proposal(PHOTOS, HOUR, unsure)).to_try, *found.fits):
        assert c.most_seconds > 1.4 * c.seconds or c.network == "lenet5_relu"  # its loading is longer than its steps
        assert c.most_seconds <= 0.9 * HOUR or c.epochs == 20


def test_the_larger_input_is_taken_where_it_fits_and_the_smaller_where_none_does() -> None:
    def size(seconds: float) -> tuple[int, bool]:
        options = [
            (s, replace(table, rows=tuple(replace(r, macs=r.macs * s.size**2 // 224**2) for r in table.rows)))
            for s in settings(PHOTOS)
            if s.network == "resnet18"
        ]
        for order in (options, options[::-1]):
            (made,) = all_of(propose(PHOTOS, seconds, order, CALIBRATION))
        return made.input[1], made.fits

    table = catalogue.table("resnet18")
    assert [size(s) for s in (100.0, 1500.0, 10 * HOUR)] == [(112, False), (112, True), (224, True)]


def test_three_of_different_papers_are_to_try_the_cheapest_and_the_best_published_among_them() -> None:
    for facts, seconds in ((PHOTOS, HOUR), (PHOTOS, 10 * HOUR), (DIGITS, 600.0), (CIFAR, 100 * HOUR)):
        found = proposal(facts, seconds)
        fits = [*found.to_try, *found.fits]
        assert len({c.family for c in found.to_try}) == len(found.to_try) == 3
        assert [c.epoch_s for c in found.to_try] == sorted(c.epoch_s for c in found.to_try)
        assert found.to_try[0].epoch_s == min(c.epoch_s for c in fits)
        others = [c for c in fits if c.dataset == found.to_try[-1].dataset and not c.variant]
        assert found.to_try[-1].error == min(c.error for c in others)


def test_a_digit_reader_of_1998_does_not_win_by_its_error_on_mnist() -> None:
    found = proposal(DIGITS, 600.0)
    assert {c.dataset for c in found.to_try[1:]} == {"CIFAR-10"}


def test_an_error_on_another_data_set_is_not_compared() -> None:
    """One network has a far smaller error, but on digits: of the others the best is to try."""
    known = next(c for c in all_of(proposal(PHOTOS, HOUR)) if c.published and c.published.top1)
    made = [
        replace(
            known,
            network=name,
            family=name,
            epoch_s=cost,
            dataset=dataset,
            variant="",
            published=replace(known.published, top1=error),
        )
        for name, cost, dataset, error in (
            ("a", 1.0, "ImageNet", "40"),
            ("b", 2.0, "ImageNet", "30"),
            ("c", 3.0, "MNIST", "0.9"),
            ("d", 4.0, "ImageNet", "25"),
        )
    ]
    assert [c.network for c in _to_try(made)] == ["a", "b", "d"]


def test_where_nothing_fits_it_says_so() -> None:
    found = proposal(replace(PHOTOS, load_ms=100.0), 10.0)
    assert found.to_try == found.fits == ()
    assert "No network fits the time." in found.as_text()


def test_the_passes_can_be_set() -> None:
    assert {c.epochs for c in proposal(PHOTOS, HOUR, passes=3).too_long} == {3}


def test_what_cannot_be_meant_is_refused() -> None:
    for seconds, passes, message in (
        (0, None, "a time of 0 s fits nothing; give one above 0, like 30m"),
        (60, 0.5, "0.5 passes over the images train nothing; give 1 or more"),
    ):
        with pytest.raises(UsageError) as error:
            propose(PHOTOS, seconds, [], CALIBRATION, passes)
        assert str(error.value) == message


def test_the_text_has_groups_commands_protocols_rules_and_the_calibration() -> None:
    found = proposal(PHOTOS, HOUR)
    page = found.as_text()
    assert page.startswith(
        "photos: 1,200 training images of 10 classes, about 400 pixels on the shorter side; 1 h 00 min for one "
        "training.\n\nTry these, cheapest first:\n"
    )
    lines = page.splitlines()
    for c in (*found.to_try, *found.fits):
        assert sum(line.endswith(c.command) and line.startswith(f"{c.network} ") for line in lines) == 1
    row = next(line for line in lines if line.startswith("resnet18 "))
    mark = row.split("30.43 % (")[1].split(")")[0]
    assert f"({mark}) ImageNet, validation, 1 crop of 224 from 256 (facebookarchive/fb.resnet.torch)" in lines
    for part in ("Fits too, cheapest first:", "Does not fit the time:", "Rules of ours:", "36.0 ms", "36.3 ms"):
        assert part in page
    assert found.calibration.summary() in page
    assert (
        "Note: loading took 5.00 ms for one of these images; it is done by other processes beside the training." in page
    )


def test_json_has_exact_counts_and_every_point() -> None:
    found = proposal(PHOTOS, HOUR)
    answer = json.loads(found.as_json())
    assert answer["facts"]["train"] == 1200 and answer["seconds"] == HOUR and answer["passes"] == 20
    first = answer["to_try"][0]
    assert (first["network"], first["command"]) == (found.to_try[0].network, found.to_try[0].command)
    assert {c["network"]: c["macs"] for c in answer["too_long"]}["vgg16"] == 15_470_264_320
    assert answer["calibration"]["points"][0]["measured_ms"] == 36.0
    assert len(answer["rules"]) == 4
