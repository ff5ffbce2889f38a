"""Other libraries' weights in and out: both ways exact, what may be missing, and what is refused."""

import argparse
import hashlib
import re
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convatlas import foreign, weights
from convatlas.errors import BadCheckpoint, RunFailed, UnknownName, UsageError
from convatlas.layers import WithHeads, chain, conv_bn, drop_heads
from convatlas.networks import NETWORKS, build
from convatlas.paper import Foreign

KNOWN = {name: network.foreign for name, network in NETWORKS.items() if network.foreign}
QUICK = ("resnet18", "alexnet_owt", "vgg16_bn", "squeezenet1_1", "googlenet_bn", "inception_v3", "densenet121")
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def theirs(name: str, **options: Any) -> nn.Module:
    """The other library's network, with that library's own initial values."""
    known = KNOWN[name]
    assert known is not None
    if known.library == "timm":
        import timm

        return timm.create_model(known.name, pretrained=False)
    import torchvision

    if known.name in ("googlenet", "inception_v3"):
        options = {"init_weights": False, **options}
    return torchvision.models.get_model(known.name, weights=None, **options)


def refusal(call: Callable[..., object], *arguments: Any, **named: Any) -> str:
    with pytest.raises(BadCheckpoint) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def logits(net: nn.Module) -> Tensor:
    with torch.no_grad():
        return net.eval()(IMAGES)


# ---- Both ways -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in KNOWN], ids=str
)
def test_the_other_librarys_network_takes_ours_strictly_and_ours_takes_theirs(name: str) -> None:
    """On the meta device, where names and shapes are all there is."""
    with torch.device("meta"):
        net, other = build(name), theirs(name)
        other.load_state_dict(weights.to_foreign(net, KNOWN[name]), strict=True)
        taken = foreign.take(net, other.state_dict(), "file", classes=1000, foreign=KNOWN[name])
    count = len(net.state_dict())
    assert taken == f"{KNOWN[name].library}'s {KNOWN[name].name}, {count} of {count} entries"


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_resnet18_answers_the_same_both_ways(suffix: str, tmp_path: Path) -> None:
    other = theirs("resnet18")
    if suffix == "pth":
        torch.save(other.state_dict(), tmp_path / "w.pth")
    else:
        weights.save(other, tmp_path / "w.safetensors")
    net = build("resnet18", seed=1)
    foreign.take(
        net, weights.read_foreign(tmp_path / f"w.{suffix}"), "w", classes=1000, foreign=NETWORKS["resnet18"].foreign
    )
    assert torch.equal(logits(net), logits(other))
    back = theirs("resnet18")
    back.load_state_dict(weights.to_foreign(build("resnet18", seed=2), KNOWN["resnet18"]))
    assert torch.equal(logits(back), logits(build("resnet18", seed=2)))


def test_our_own_names_are_taken_too() -> None:
    net, source = build("resnet18", classes=5), build("resnet18", classes=5, seed=3)
    said = foreign.take(net, source.state_dict(), "w.pth", classes=5, foreign=KNOWN["resnet18"])
    assert said == "w.pth, 122 of 122 entries"
    assert torch.equal(logits(net), logits(source))


# ---- What may differ -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["theirs", "ours"])
def test_another_number_of_classes_keeps_all_but_the_head(named: str) -> None:
    state = build("resnet18", seed=3).state_dict()
    net, before = build("resnet18", classes=5), build("resnet18", classes=5).state_dict()
    given = weights.to_foreign(state, KNOWN["resnet18"]) if named == "theirs" else state
    said = foreign.take(net, given, "w.pth", classes=5, foreign=KNOWN["resnet18"])
    source = "torchvision's resnet18" if named == "theirs" else "w.pth"
    assert said == f"{source}, 120 of 122 entries; the head fc (1000 classes) was left as initialised for 5"
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, (before if name.startswith("fc.") else state)[name]), name


def test_a_head_that_is_a_convolution_is_left_too() -> None:
    with torch.device("meta"):
        net = build("squeezenet1_1", classes=7)
        state = build("squeezenet1_1").state_dict()
    said = foreign.take(net, state, "w.pth", classes=7)
    assert said.endswith("; the head conv10.conv (1000 classes) was left as initialised for 7")


def test_half_precision_and_missing_counters_are_taken() -> None:
    source = build("resnet18", seed=3).state_dict()
    given = {
        n: t.half() for n, t in weights.to_foreign(source, KNOWN["resnet18"]).items() if "num_batches_tracked" not in n
    }
    net = build("resnet18")
    said = foreign.take(net, given, "w", classes=1000, foreign=KNOWN["resnet18"])
    assert said == "torchvision's resnet18, 102 of 122 entries; it has no counters of batches, which start at 0"
    for name, tensor in net.state_dict().items():
        assert tensor.dtype == source[name].dtype
        assert torch.equal(tensor, source[name].half().to(tensor.dtype)), name


def test_torchvisions_old_densenet_names_are_understood() -> None:
    """Its published file says denselayer1.norm.1.weight; torchvision renames it on loading (densenet.py)."""
    with torch.device("meta"):
        other, net = theirs("densenet121"), build("densenet121")
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d\.)", r"\1.\2", n): t for n, t in other.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    count = len(net.state_dict())
    said = foreign.take(net, old, "w", classes=1000, foreign=KNOWN["densenet121"])
    assert said == f"torchvision's densenet121, {count} of {count} entries"


def test_googlenet_without_its_heads_leaves_ours_as_initialised() -> None:
    other = theirs("googlenet_bn", aux_logits=False)
    net, before = build("googlenet_bn", seed=5), build("googlenet_bn", seed=5).state_dict()
    said = foreign.take(net, other.state_dict(), "w", classes=1000, foreign=KNOWN["googlenet_bn"])
    count, taken = len(before), len(other.state_dict())
    assert said == (
        f"torchvision's googlenet, {taken} of {count} entries; "
        "left as initialised, for want of weights that fit: aux1 and aux2"
    )
    assert torch.equal(next(net.parameters()), next(other.parameters()))
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items() if n.startswith("aux"))


def test_googlenets_heads_lose_only_their_last_layer_with_the_classes() -> None:
    with torch.device("meta"):
        net, other = build("googlenet_bn", classes=5), theirs("googlenet_bn")
    said = foreign.take(net, other.state_dict(), "w", classes=5, foreign=KNOWN["googlenet_bn"])
    assert re.fullmatch(
        r"torchvision's googlenet, \d+ of \d+ entries; "
        r"the head aux1\.\w+, aux2\.\w+ and \w+ \(1000 classes\) was left as initialised for 5",
        said,
    ), said


def test_a_network_without_heads_passes_over_those_of_the_file() -> None:
    with torch.device("meta"):
        net, other = build("googlenet_bn"), theirs("googlenet_bn")
    drop_heads(net)
    said = foreign.take(net, other.state_dict(), "w", classes=1000, foreign=KNOWN["googlenet_bn"])
    count = len(net.state_dict())
    assert said == f"torchvision's googlenet, {count} of {count} entries; its auxiliary heads were passed over"


def test_a_head_of_another_shape_is_left_whole() -> None:
    def net(width: int) -> WithHeads:
        modules = {"conv1": nn.Conv2d(3, 4, 3), "aux1": chain(a=nn.Linear(width, 2), b=nn.Linear(2, 3))}
        return WithHeads({**modules, "fc": nn.Linear(4, 3)}, {"aux1": "conv1"}, 0.3)

    ours, other = net(8), net(9)
    before = ours.state_dict()["aux1.b.weight"].clone()
    said = foreign.take(ours, other.state_dict(), "w", classes=3)
    assert said == "w, 4 of 8 entries; left as initialised, for want of weights that fit: aux1"
    assert torch.equal(ours.state_dict()["aux1.b.weight"], before)
    assert torch.equal(ours.state_dict()["fc.weight"], other.state_dict()["fc.weight"])


# ---- What may not ----------------------------------------------------------------------------------------------------

SIGNS = "(- expected, + found); give weights of the same network, classes and channels"


def test_other_input_channels_are_refused_with_both_sides_and_nothing_is_copied() -> None:
    net, other = build("resnet18", classes=5, channels=1), theirs("resnet18")
    before = {n: t.clone() for n, t in net.state_dict().items()}
    said = refusal(foreign.take, net, other.state_dict(), "w.pth", classes=5, foreign=KNOWN["resnet18"])
    assert said == (
        f"w.pth does not fit the network: - conv1.weight (64, 1, 7, 7) + conv1.weight (64, 3, 7, 7) {SIGNS}"
    )
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())


def test_another_network_is_refused_in_the_names_of_the_file() -> None:
    with torch.device("meta"):
        net, other = build("resnet18"), theirs("resnet34")
    said = refusal(foreign.take, net, other.state_dict(), "w.pth", classes=1000, foreign=KNOWN["resnet18"])
    assert said.startswith("w.pth does not fit the network: + layer1.2.conv1.weight (64, 64, 3, 3), ")
    assert said.endswith(f" more {SIGNS}")


def test_several_numbers_of_classes_are_another_network() -> None:
    net = chain(a=nn.Linear(3, 4), b=nn.Linear(4, 4))
    other = chain(a=nn.Linear(3, 5), b=nn.Linear(4, 6))
    said = refusal(foreign.take, net, other.state_dict(), "w", classes=4)
    assert said.startswith(
        "w does not fit the network: - a.weight (4, 3) + a.weight (5, 3), - a.bias (4,) + a.bias (5,)"
    )


def test_a_layer_whose_outputs_are_not_the_classes_is_no_head() -> None:
    said = refusal(foreign.take, chain(fc6=nn.Linear(3, 6)), chain(fc6=nn.Linear(3, 5)).state_dict(), "w", classes=4)
    assert said.startswith("w does not fit the network: - fc6.weight (6, 3) + fc6.weight (5, 3), ")


def test_a_network_of_as_many_channels_as_classes_is_not_mistaken() -> None:
    net, other = chain(conv1=conv_bn(3, 4, 3), fc=nn.Linear(4, 4)), chain(conv1=conv_bn(3, 8, 3), fc=nn.Linear(8, 8))
    said = refusal(foreign.take, net, other.state_dict(), "w", classes=4)
    assert said == f"w does not fit the network: - fc.weight (4, 4) + fc.weight (8, 8) {SIGNS}"


# ---- Files as people write them --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s, "optimizer": {"state": {}, "param_groups": []}, "args": argparse.Namespace(lr=0.1)},
        lambda s: {"model_state_dict": s, "loss": 0.5},
        lambda s: {"net": s, "acc": 93.0},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {f"module.{n}": t for n, t in s.items()},
        lambda s: {"state_dict": {f"_orig_mod.module.{n}": t for n, t in s.items()}},
    ],
    ids=["state_dict", "torchvision's script", "model_state_dict", "net", "nested", "module", "compiled"],
)
def test_wrappers_and_prefixes(wrap: Callable[[dict[str, Tensor]], object], tmp_path: Path) -> None:
    state = chain(conv1=conv_bn(2, 4, 3), fc=nn.Linear(4, 2)).state_dict()
    torch.save(wrap(state), tmp_path / "w.pth")
    found = weights.read_foreign(tmp_path / "w.pth")
    assert list(found) == list(state)
    assert all(torch.equal(found[n], t) for n, t in state.items())


def test_a_digest_is_of_the_content_not_of_the_file() -> None:
    a = {"x": torch.arange(6.0).reshape(2, 3), "y": torch.tensor(3)}
    text = b"x torch.float32 (2, 3)\n" + a["x"].numpy().tobytes() + b"y torch.int64 ()\n" + a["y"].numpy().tobytes()
    assert weights.digest(a) == hashlib.sha256(text).hexdigest()
    turned = {"y": a["y"], "x": a["x"].T.contiguous().T}
    assert weights.digest(turned) == weights.digest(a)
    assert weights.digest({**a, "x": a["x"].reshape(3, 2)}) != weights.digest(a)


# ---- torchvision's loader --------------------------------------------------------------------------------------------

SQUEEZENET = Foreign("torchvision", "squeezenet1_1", ())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache, empty; a download would fail the test."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: pytest.fail("a download was tried"))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_weights_of_torchvision_come_from_its_cache(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    entry = foreign.torchvision_entry(SQUEEZENET, "squeezenet1_1", "", ["squeezenet1_1"])
    assert entry.name == "IMAGENET1K_V1" and entry.url.endswith("/squeezenet1_1-b8a52dc0.pth")
    torch.save({"a": torch.ones(2)}, cache / "squeezenet1_1-b8a52dc0.pth")
    state = foreign.torchvision_state(entry)
    assert list(state) == ["a"] and torch.equal(state["a"], torch.ones(2))
    assert capfd.readouterr() == ("", "")
    (cache / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"PK\x03\x04 no weights")
    said = refusal(foreign.torchvision_state, entry)
    assert said.startswith("torchvision's SqueezeNet1_1_Weights.IMAGENET1K_V1 is damaged in torch's cache: ")
    assert said.endswith("; remove the file and try again")


def test_a_named_entry_is_another_than_the_default() -> None:
    known = Foreign("torchvision", "resnet50", ())
    default = foreign.torchvision_entry(known, "resnet50_v15", "", [])
    named = foreign.torchvision_entry(known, "resnet50_v15", "IMAGENET1K_V1", [])
    assert (default.name, named.name) == ("IMAGENET1K_V2", "IMAGENET1K_V1")
    with pytest.raises(UnknownName) as caught:
        foreign.torchvision_entry(known, "resnet50_v15", "IMAGENET", [])
    assert str(caught.value) == (
        "no weights of torchvision's resnet50 named 'IMAGENET'; did you mean IMAGENET1K_V2, IMAGENET1K_V1?"
    )


def test_a_download_that_fails_is_one_line(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    entry = foreign.torchvision_entry(SQUEEZENET, "squeezenet1_1", "", [])
    with pytest.raises(RunFailed) as caught:
        foreign.torchvision_state(entry)
    assert str(caught.value) == (
        "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth cannot be downloaded: "
        "<urlopen error Temporary failure in name resolution>; download it on another machine and give --weights FILE"
    )
    out, error = capfd.readouterr()
    assert out == "" and error.startswith("Downloading: ")  # stdout is for answers


def test_a_network_that_torchvision_does_not_have() -> None:
    for known in (None, Foreign("timm", "inception_v4", ())):
        with pytest.raises(UsageError) as caught:
            foreign.torchvision_entry(known, "resnet50", "", ["resnet18", "resnet50_v15", "vgg16"])
        assert str(caught.value) == (
            "torchvision has no network with the layers of resnet50, so none of its weights fit; "
            "they fit resnet50_v15, resnet18"
        )


def test_without_torchvision_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(UsageError) as caught:
        foreign.torchvision_entry(SQUEEZENET, "squeezenet1_1", "", [])
    assert str(caught.value) == (
        "--weights torchvision needs torchvision, which is not installed; pip install torchvision"
    )
