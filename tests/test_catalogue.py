"""The generated catalogue: fresh, readable without torch, and equal to what papers and other people's tables print."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from convatlas import catalogue
from convatlas.catalogue import table
from convatlas.errors import UnknownName
from convatlas.networks import NETWORKS, PAPER_OF, PAPERS, PUBLISHED, RECIPES

ROOT = Path(__file__).parent.parent

# Multiply-adds at the network's own input, in millions: arithmetic on the layer tables, with 18 to 152 (v1.5) also in
# torchvision's metadata as 1.814, 3.664, 4.089, 7.801 and 11.514 G, and 325,680 and 416,520 added up by hand for LeNet.
MACS = {
    "lenet5": 0.32568,
    "lenet5_relu": 0.41652,
    "resnet18": 1_814.07,
    "resnet34": 3_663.76,
    "resnet50": 3_857.97,
    "resnet101": 7_570.19,
    "resnet152": 11_282.42,
    "resnet50_v15": 4_089.18,
    "resnet101_v15": 7_801.41,
    "resnet152_v15": 11_513.63,
    "resnet18_a": 1_794.81,
    "resnet18_c": 1_878.30,
    "resnet34_a": 3_644.49,
    "resnet34_c": 3_830.75,
    "plain18": 1_794.81,
    "plain34": 3_644.49,
    "resnet20_cifar": 40.55,
    "resnet32_cifar": 68.86,
    "resnet44_cifar": 97.17,
    "resnet56_cifar": 125.49,
    "resnet110_cifar": 252.89,
    "resnet1202_cifar": 2_829.24,
    "resnet20_cifar_b": 40.81,
    "plain20_cifar": 40.55,
    "plain32_cifar": 68.86,
    "plain44_cifar": 97.17,
    "plain56_cifar": 125.49,
    "plain110_cifar": 252.89,
}
# Receptive fields: google-research/receptive_field's table for 50, 101 and 152; by its rule for the rest.
FIELDS = {
    "resnet18": 435,
    "resnet34": 899,
    "resnet50": 483,
    "resnet101": 1_027,
    "resnet152": 1_507,
    "resnet50_v15": 427,
    "resnet101_v15": 971,
    "resnet152_v15": 1_451,
    "lenet5": 16,
}


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "tools" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_catalogue_is_fresh(generate: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().err


def test_the_check_names_what_is_stale(
    generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "FOLDER", tmp_path / "data")
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "NETWORKS", {"lenet5": NETWORKS["lenet5"]})
    monkeypatch.setattr(generate, "PUBLISHED", {"lenet": PUBLISHED["lenet"]})
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    capsys.readouterr()
    (tmp_path / "data" / "tables" / "lenet5.json").write_text("{}")
    (tmp_path / "data" / "tables" / "lenet9.json").write_text("{}")
    (tmp_path / "data" / "catalogue.json").unlink()
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "data/catalogue.json is stale; run `python tools/generate.py`",
        "data/tables/lenet5.json is stale; run `python tools/generate.py`",
        "data/tables/lenet9.json is stale; run `python tools/generate.py`",
    ]
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    assert generate.main(["--chekc"]) == 2


def test_it_is_read_without_torch() -> None:
    code = (
        "import sys\nfrom convatlas import catalogue as c\n"
        "c.catalogue(), c.table('lenet5')\n"
        "print(sorted({'torch', 'torchvision', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_it_holds_what_the_papers_files_hold() -> None:
    known = catalogue.catalogue()
    assert known.papers == PAPERS
    assert known.recipes == RECIPES
    assert known.published == PUBLISHED
    assert {n: e.paper for n, e in known.networks.items()} == PAPER_OF
    for name, entry in known.networks.items():
        network = NETWORKS[name]
        assert (entry.name, entry.input, entry.classes, entry.recipe, entry.about) == (
            name,
            network.input,
            network.classes,
            network.recipe,
            network.about,
        )


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_tables_agree_with_entries_and_count_everything(name: str) -> None:
    entry, found = catalogue.catalogue().entry(name), table(name)
    totals = found.totals
    assert (entry.params, entry.macs, entry.activation_bytes, entry.field) == (
        totals.params,
        totals.macs,
        totals.activation_bytes,
        totals.field,
    )
    assert found.network == name
    assert found.input == ((1, *NETWORKS[name].input),)
    assert found.uncounted == ()
    assert found.unused == 0


def test_multiply_adds() -> None:
    entries = catalogue.catalogue().networks
    assert {n: round(entries[n].macs / 1e6, 5 if macs < 1 else 2) for n, macs in MACS.items()} == MACS


def test_receptive_fields() -> None:
    entries = catalogue.catalogue().networks
    assert {n: entries[n].field for n in FIELDS} == {n: (side, side) for n, side in FIELDS.items()}


def test_c3_has_the_printed_cost() -> None:
    """Section II.B: 1,516 parameters and 151,600 connections, of which one a unit (1,600) is its bias."""
    totals = table("lenet5").under("c3").totals
    assert (totals.params, totals.macs) == (1_516, 151_600 - 1_600)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownName) as refusal:
        table("lenet6")
    assert str(refusal.value) == "no network named 'lenet6'; did you mean lenet5, enet, alexnet?"
