"""What is said before a training: nothing about any paper's own recipe, and one full sentence for each thing amiss."""

import dataclasses
from typing import Any

import pytest
import torch

from convatlas.classifier import Spec
from convatlas.data import Preprocess
from convatlas.networks import NETWORKS, RECIPES, build, recipe_for
from convatlas.paper import Recipe
from convatlas.train.advice import SETS, advise
from convatlas.train.updating.schedule import length

OTHERS = {  # recipes that no network has for its own, with a network that they were made for
    "bvlc_alexnet": "alexnet",
    "vgg_256": "vgg11",
    "bvlc_googlenet": "googlenet",
    "bvlc_googlenet_quick": "googlenet",
    "fb_resnet": "resnet50_v15",
    "fb_resnet_cifar": "resnet56_cifar",
    "stochastic_depth_svhn": "resnet110_sd_cifar",
    "densenet_svhn": "densenet40_k12_cifar",
    "lenet_distorted": "lenet5",
    "small": "resnet18",
}
SLOW = {"resnet1202_cifar", "resnet1202_cifar_b", "preresnet1001_cifar"}  # seconds to build


def advice(
    network: str,
    recipe: Recipe,
    *,
    images: int | tuple[int, ...] = 45_000,
    classes: tuple[str, ...] = ("cat", "dog"),
    size: int | None = None,
    start: str | None = None,
    warnings: tuple[str, ...] = (),
    **normalisation: Any,
) -> tuple[str, ...]:
    channels, height, width = NETWORKS[network].input
    height, width = (size, size) if size else (height, width)
    given = {"mean": (0.48,) * channels, "std": (0.24,) * channels} | normalisation
    spec = Spec(network, classes, Preprocess(channels, height, width, **given))
    with torch.device("meta"):
        net = build(network)
    counts = images if isinstance(images, tuple) else (images // len(classes),) * len(classes)
    per_epoch = -(-sum(counts) // recipe.batch)
    return advise(net, recipe, length(recipe, per_epoch), counts, spec, start, warnings)


def changed(network: str, **fields: Any) -> Recipe:
    return dataclasses.replace(recipe_for(network), **fields)


@pytest.mark.parametrize("network", sorted({n for n, known in NETWORKS.items() if known.classes} - SLOW))
def test_a_papers_own_recipe_gets_no_advice(network: str) -> None:
    recipe = recipe_for(network)
    assert advice(network, recipe, images=SETS[recipe.dataset]) == ()


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_another_recipe_for_its_network_gets_no_advice(name: str) -> None:
    recipe = RECIPES[name]
    size = 112 if name == "small" else None
    assert advice(OTHERS[name], recipe, images=SETS.get(recipe.dataset, 1200), size=size) == ()


def test_every_recipe_is_among_the_two() -> None:
    own = {known.recipe for known in NETWORKS.values()} - {""}
    assert own | set(OTHERS) >= set(RECIPES) - {"lenet_fast"}


def test_what_the_data_warns_of_comes_first() -> None:
    recipe = changed("resnet18", batch=1)
    found = advice("resnet18", recipe, images=20_000_000, warnings=("class cat is empty",))
    assert found[0] == "class cat is empty"
    assert len(found) > 1


def only(found: tuple[str, ...]) -> str:
    assert len(found) == 1, found
    return found[0]


# ---- Rate and batch --------------------------------------------------------------------------------------------------


def test_a_rate_for_which_a_network_has_no_normalisation() -> None:
    found = only(advice("alexnet", changed("alexnet", lr=0.1)))
    assert found == (
        "alexnet has no normalisation layers, and the rate of 0.1 is 10 times its paper's 0.01 for a batch of 128: it "
        "is likely to end in NaN or to learn nothing; use --set lr=0.01"
    )
    assert advice("alexnet_bn", changed("alexnet", lr=0.1)) == ()
    for network in ("vgg16", "googlenet", "nin"):
        assert "has no normalisation layers" in advice(network, changed(network, lr=0.1), images=10**6)[0]
    assert advice("vgg16_bn", changed("vgg16", lr=0.1), images=10**6) == ()
    assert advice("alexnet", changed("alexnet", lr=0.04, batch=512)) == ()  # in proportion


def test_a_rate_that_adamw_cannot_stand() -> None:
    found = only(advice("resnet18", changed("resnet18", optimiser="adamw"), images=1_281_167))
    assert found == (
        "a rate of 0.1 is far above what adamw is used with (0.001), since its steps do not shrink with the gradient; "
        "use --set lr=0.001"
    )
    assert advice("resnet18", changed("resnet18", optimiser="adamw", lr=0.001), images=1_281_167) == ()


def test_given_weights_and_the_rate_of_fresh_ones() -> None:
    recipe = changed("resnet20_cifar", augment=("flip",))
    found = only(advice("resnet20_cifar", recipe, start="mine.safetensors"))
    assert found == (
        "the rate of 0.1 was chosen for fresh weights and soon undoes those from mine.safetensors; a tenth is usual, "
        "--set lr=0.01"
    )
    assert advice("resnet20_cifar", dataclasses.replace(recipe, lr=0.01), start="mine.safetensors") == ()
    assert advice("resnet18", RECIPES["small"], images=1200, start="mine.safetensors") == ()
    # The batch is no second matter: in proportion to it the rate would still be one for fresh weights.
    only(advice("resnet20_cifar", dataclasses.replace(recipe, batch=16), start="mine.safetensors"))


def test_a_batch_that_the_rate_was_not_chosen_for() -> None:
    """Goyal et al. 2017: the rate in proportion to the batch; 0.1 x 16 / 128."""
    found = only(advice("wrn28_10_cifar", changed("wrn28_10_cifar", batch=16)))
    assert found == (
        "the rate of 0.1 was chosen for batches of 128, and these have 16; in proportion (Goyal et al. 2017) it would "
        "be --set lr=0.0125"
    )
    assert "--set lr=0.4" in only(advice("wrn28_10_cifar", changed("wrn28_10_cifar", batch=512)))
    assert advice("wrn28_10_cifar", changed("wrn28_10_cifar", batch=100)) == ()
    assert advice("wrn28_10_cifar", changed("wrn28_10_cifar", batch=16, lr=0.02)) == ()  # somebody chose that rate
    assert advice("wrn28_10_cifar", changed("wrn28_10_cifar", batch=16, where="")) == ()  # nothing to compare with


def test_large_batches_need_a_warm_up() -> None:
    recipe = changed("resnet50_v15", batch=2048, lr=0.8, iterations=56_000)
    found = only(advice("resnet50_v15", recipe, images=1_281_167))
    assert found == (
        "a batch of 2,048 has no warm-up, without which batches above 1,024 learn worse (Goyal et al. 2017 rise over 5 "
        "epochs); use --set warm_up=3130"
    )
    assert advice("resnet50_v15", dataclasses.replace(recipe, warm_up=3130), images=1_281_167) == ()
    assert advice("resnet50_v15", dataclasses.replace(recipe, batch=1024, lr=0.4), images=1_281_167) == ()
    fb = dataclasses.replace(RECIPES["fb_resnet"], batch=2048, lr=0.8)
    assert only(advice("resnet50_v15", fb, images=1_281_167)).endswith("use --set warm_up=5")


def test_parts_of_one_image_with_batch_norm() -> None:
    recipe = changed("wrn28_10_cifar", batch=1, lr=0.001)
    assert only(advice("wrn28_10_cifar", recipe)) == (
        "a batch is 1 image, from which batch norm takes its mean and variance, so that training and evaluation see "
        "different networks; use --set batch=16"
    )
    assert only(advice("wrn28_10_cifar", changed("wrn28_10_cifar", parts=128))) == (
        "a part of a batch is 1 image, from which batch norm takes its mean and variance, so that training and "
        "evaluation see different networks; use --set parts=16"
    )
    assert advice("squeezenet1_0", changed("squeezenet1_0", batch=1, lr=0.001, parts=1), images=10**5) == ()


# ---- Schedule and length ---------------------------------------------------------------------------------------------


def test_drops_beyond_the_end() -> None:
    assert only(advice("wrn28_10_cifar", changed("wrn28_10_cifar", epochs=20))) == (
        "the rate never falls: the training ends after 20 epochs, before the drops at 60,120,160; "
        "use --set drops=6,12,16"
    )
    assert only(advice("wrn28_10_cifar", changed("wrn28_10_cifar", epochs=150))) == (
        "1 of 3 falls of the rate never come: the training ends after 150 epochs, before the drops at 160; "
        "use --set drops=45,90,120"
    )
    assert only(advice("wrn28_10_cifar", changed("wrn28_10_cifar", epochs=2))).endswith("--set drops=0.6,1.2,1.6")
    recipe = changed("resnet20_cifar", iterations=8_000)
    assert only(advice("resnet20_cifar", recipe)) == (
        "the rate never falls: the training ends after 8,000 iterations, before the drops at 32000,48000; "
        "use --set drops=4000,6000"
    )
    own = Recipe(epochs=10, schedule="steps", drops=(30,))
    assert only(advice("resnet20_cifar", own)).endswith("use --set drops=5,8")
    assert advice("wrn28_10_cifar", changed("wrn28_10_cifar", epochs=20, schedule="cosine")) == ()


def test_the_drops_that_are_proposed_can_be_trained() -> None:
    for whole in (0.5, 1, 2, 3, 5, 150):
        recipe = changed("wrn28_10_cifar", epochs=whole)
        for line in advice("wrn28_10_cifar", recipe):
            places = [float(p) for p in line.rpartition("--set drops=")[2].split(",")] if "drops=" in line else [0.1]
            assert places[0] > 0 and sorted(set(places)) == places and places[-1] < whole


def test_falls_that_never_come() -> None:
    recipe = changed("googlenet", epochs=5)
    assert only(advice("googlenet", recipe, images=10**5)) == (
        "the rate never falls: it would each 8 epochs, and the training has 5; use --set every=0.25, "
        "or --set schedule=cosine"
    )
    assert only(advice("alexnet", changed("alexnet", epochs=4))) == (
        "the rate never falls: it would after 5 epochs without a better error, and the training has 4; "
        "use --set patience=1, or --set schedule=cosine"
    )


def test_iterations_of_a_large_set_on_a_small_one() -> None:
    """CIFAR-10's 45,000 images in batches of 128: 64,000 iterations are 182 epochs, its drops at 91 and 137."""
    assert only(advice("resnet20_cifar", recipe_for("resnet20_cifar"), images=1000)) == (
        "64,000 iterations are 8,000 epochs of these 1,000 images; the recipe was made for CIFAR-10's 50,000; "
        "use --set iterations=none --set epochs=182 --set drops=91,137"
    )
    assert only(advice("preresnet110_cifar", recipe_for("preresnet110_cifar"), images=1000)).endswith(
        "--set drops=91,137 --set warm_up=1.14"
    )
    assert only(advice("resnet18", recipe_for("resnet18"), images=2000)) == (
        "600,000 iterations are 75,000 epochs of these 2,000 images; the recipe was made for ImageNet's 1,281,167; "
        "use --set iterations=none --set epochs=120"
    )
    assert only(advice("resnet20_cifar", Recipe(iterations=50_000), images=1000)) == (
        "50,000 iterations are 6,250 epochs of these 1,000 images; each is seen so often that it is learnt by heart; "
        "use --set iterations=none --set epochs=90"
    )


def test_a_training_that_ends_within_its_first_epoch() -> None:
    assert only(advice("resnet20_cifar", Recipe(iterations=100), images=45_000)) == (
        "the training ends after 0.28 epochs: 32,200 of 45,000 images are never seen; use --set iterations=352 or more"
    )
    assert only(advice("resnet20_cifar", Recipe(epochs=0.5), images=45_000)).endswith("use --set epochs=1 or more")


# ---- Images and classes ----------------------------------------------------------------------------------------------


def test_images_that_are_not_normalised() -> None:
    recipe = recipe_for("wrn28_10_cifar")
    assert only(advice("wrn28_10_cifar", recipe, mean=(), std=())) == (
        "the images are not normalised (mean 0, deviation 1): all pixels are from 0 to 1, which slows the first "
        "layer's learning; use the training images' mean and deviation, as `convatlas train` does"
    )
    assert advice("nin_cifar", recipe_for("nin_cifar"), mean=(), std=()) == ()  # whitened


def test_torchvisions_weights_of_googlenet_expect_halves() -> None:
    """torchvision's transform_input: "weights of TensorFlow", x from -1 to 1."""
    recipe = changed("inception_v3", lr=0.001)
    imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    start = "torchvision:IMAGENET1K_V1"
    assert only(advice("inception_v3", recipe, start=start, **imagenet)) == (
        "torchvision:IMAGENET1K_V1 expects pixels with mean 0.500, 0.500, 0.500 and deviation 0.500, 0.500, 0.500, "
        "and these have 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225: its first layers must learn again; do not freeze "
        "them, and give it a few more epochs"
    )
    assert advice("inception_v3", recipe, start=start, mean=(0.5,) * 3, std=(0.5,) * 3) == ()
    small = RECIPES["small"]
    assert advice("resnet18", small, images=1200, start=start, **imagenet) == ()
    assert "expects pixels" in only(advice("resnet18", small, images=1200, start=start, std=(0.5,) * 3))
    assert advice("resnet18", small, images=1200, start="mine.safetensors", std=(0.5,) * 3) == ()


def test_images_far_from_the_networks_size() -> None:
    assert only(advice("resnet18", RECIPES["small"], images=1200, size=32)) == (
        "resnet18 was made for images of 224 and gets 32: its layers make them up to 32 times smaller, so that little "
        "is left before the classifier; use a larger --set size= or a network whose name ends in _cifar"
    )
    assert only(advice("wrn28_10_cifar", recipe_for("wrn28_10_cifar"), size=224)) == (
        "wrn28_10_cifar was made for images of 32 and gets 224: a step costs about 49 times as much, and its field "
        "sees less of each; use --set size=32 or a network for large images"
    )
    assert advice("wrn28_10_cifar", recipe_for("wrn28_10_cifar"), size=64) == ()


def test_mirrored_digits() -> None:
    recipe = recipe_for("wrn28_10_cifar")
    assert only(advice("wrn28_10_cifar", recipe, classes=("2", "7", "1"))) == (
        "the classes are 1, 2, 7, and flip mirrors half of the images; a mirrored 2 or 7 is no digit: if these are "
        "digits, take flip out of --set augment="
    )
    assert advice("wrn28_10_cifar", recipe, classes=("2", "7", "10")) == ()
    assert advice("wrn28_10_cifar", dataclasses.replace(recipe, augment=()), classes=("2", "7")) == ()


def test_uneven_classes() -> None:
    recipe = recipe_for("wrn28_10_cifar")
    assert only(advice("wrn28_10_cifar", recipe, images=(40_000, 3_000))) == (
        "the classes are uneven: cat has 40,000 training images and dog 3,000, so that an error on dog counts 13 times "
        "less; use --set balance=weights or --set balance=sampler"
    )
    assert advice("wrn28_10_cifar", dataclasses.replace(recipe, balance="sampler"), images=(40_000, 3_000)) == ()
    assert advice("wrn28_10_cifar", recipe, images=(30_000, 3_000)) == ()


# ---- Fields without effect -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "fields", "line"),
    [
        ("wrn28_10_cifar", {"dropout": 0.3}, "dropout is 0.3 and does nothing, since wrn28_10_cifar has no dropout "
         "layers; --set dropout=none says so"),
        ("wrn28_10_cifar", {"head_weight": 0.3}, "head_weight is 0.3 and does nothing, since wrn28_10_cifar has no "
         "auxiliary heads; --set head_weight=none says so"),
        ("alexnet", {"statistics": 1000}, "statistics is 1000 and does nothing, since alexnet has no batch norm; "
         "--set statistics=0 says so"),
        ("googlenet", {"head_weight": 0.0}, "head_weight is 0, so that the auxiliary heads of googlenet (aux1, aux2) "
         "are computed and help nothing; use --set head_weight=none for the network's own weight"),
        ("wrn28_10_cifar", {"augment": ("flip", "mixup 0.2"), "label_smoothing": 0.1}, "mixup 0.2 and label_smoothing "
         "0.1 both soften the labels, together often too much; use --set label_smoothing=0"),
    ],
)  # fmt: skip
def test_fields_that_do_nothing_or_too_much(network: str, fields: dict[str, Any], line: str) -> None:
    assert only(advice(network, changed(network, **fields), images=100_000)) == line
