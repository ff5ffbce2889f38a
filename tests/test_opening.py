"""Networks of every origin: what is built, in which mode, on which device, and every refusal in full."""

import sys
from pathlib import Path

import pytest
import torch

from convatlas.errors import BadInput, ConvAtlasError, UnknownName, UsageError
from convatlas.networks import NETWORKS
from convatlas.opening import account_named, open_network

NET = """
import torch
from torch import nn
from sibling import WIDTH

def make():
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.Dropout())

class Grey(nn.Module):
    input_size = (1, 28, 28)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x):
        return self.conv(x)

grey = Grey()
width = 3

def reads_values():
    assert torch.linspace(0, 1, 3)[1].item() == 0.5
    return make()

class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.register_buffer("steps", torch.tensor(2))

    def forward(self, x):
        for _ in range(self.steps.item()):
            x = self.conv(x)
        return x

def fails():
    return 1 / 0

def number():
    return 3

def heads():
    from convatlas.layers import WithHeads

    return WithHeads({"body": nn.Conv2d(3, 4, 1), "aux": nn.Conv2d(4, 9, 1)}, {"aux": "body"}, 0.3)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "sibling.py").write_text("WIDTH = 8\n")
    monkeypatch.delitem(sys.modules, "sibling", raising=False)
    return tmp_path


def refusal(name: str, kind: type[ConvAtlasError] = UsageError, input: tuple[int, ...] | None = None) -> str:
    with pytest.raises(kind) as caught:
        account_named(name, input)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(Path.cwd()), "FOLDER")


# ---- What is opened --------------------------------------------------------------------------------------------------


def test_the_catalogues_networks() -> None:
    opened = open_network("resnet18")
    assert (opened.name, opened.inputs) == ("resnet18", (NETWORKS["resnet18"].input,))
    assert not any(m.training for m in opened.net.modules())
    assert {p.device.type for p in opened.net.parameters()} == {"meta"}
    assert account_named("lenet5", (3, 48, 40)).input == ((1, 3, 48, 40),)


def test_torchvisions_networks_have_the_figures_of_its_own_tables() -> None:
    """num_params and input of torchvision's weight enumerations; auxiliary heads are in neither."""
    models = pytest.importorskip("torchvision.models")
    for name in ("resnet18", "googlenet", "vit_b_16"):
        opened = open_network(f"torchvision:{name}")
        published = models.get_model_weights(name).DEFAULT.meta["num_params"]
        assert sum(p.numel() for p in opened.net.parameters()) == published
        assert opened.inputs == ((3, 224, 224),)
    assert open_network("torchvision:inception_v3").inputs == ((3, 299, 299),)
    assert open_network("torchvision:resnet18", (1, 3, 64, 64)).inputs == ((1, 3, 64, 64),)


def test_timms_networks_take_the_input_of_their_configuration() -> None:
    timm = pytest.importorskip("timm")
    opened = open_network("timm:efficientnet_b3")
    assert opened.inputs == (timm.create_model("efficientnet_b3").pretrained_cfg["input_size"],) != ((3, 224, 224),)
    assert account_named("timm:resnet18").totals == account_named("torchvision:resnet18").totals
    assert account_named("timm:resnet18.a1_in1k", (3, 64, 64)).input == ((1, 3, 64, 64),)


def test_callables_and_modules_of_a_file(folder: Path) -> None:
    before = list(sys.path)
    opened = open_network("net.py:make")
    assert opened.inputs == ((3, 224, 224),) and not opened.net.training
    assert next(opened.net.parameters()).is_meta and opened.net[0].out_channels == 8
    assert open_network(str(folder / "net.py") + ":make", (3, 32, 32)).inputs == ((3, 32, 32),)
    assert open_network("net.py:Grey").inputs == open_network("net.py:grey").inputs == ((1, 28, 28),)
    assert sys.path == before


def test_a_constructor_that_reads_values_is_built_on_the_cpu_and_leaves_the_random_state(folder: Path) -> None:
    state = torch.random.get_rng_state()
    opened = open_network("net.py:reads_values")
    assert next(opened.net.parameters()).device.type == "cpu"
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_forward_that_reads_its_own_buffers_is_built_again_with_them(folder: Path) -> None:
    assert account_named("net.py:Steps", (3, 4, 4)).totals.macs == 2 * 9 * 16


def test_auxiliary_heads_are_dropped(folder: Path) -> None:
    table = account_named("net.py:heads", (3, 4, 4))
    assert (table.totals.params, table.unused) == (3 * 4 + 4, 0)


def test_callables_of_a_package_in_the_current_directory(folder: Path) -> None:
    (folder / "pack_of_test").mkdir()
    (folder / "pack_of_test" / "__init__.py").write_text("")
    (folder / "pack_of_test" / "nets.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Conv2d(3, 8, 3)\n"
    )
    assert account_named("pack_of_test.nets:make", (3, 5, 5)).totals.macs == 9 * 8 * 27


def test_no_code_runs_that_was_not_named(folder: Path) -> None:
    (folder / "resnet18.py").write_text("raise SystemExit('ran')\n")
    assert open_network("resnet18").name == "resnet18"


def test_an_onnx_file_is_accounted_for_without_being_opened(folder: Path) -> None:
    onnx = pytest.importorskip("onnx")
    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_vgg19.onnx"
    assert account_named(str(light)).totals.macs == account_named("torchvision:vgg19").totals.macs


# ---- Refusals --------------------------------------------------------------------------------------------------------


def test_unknown_names_get_near_ones(folder: Path) -> None:
    pytest.importorskip("torchvision")
    pytest.importorskip("timm")
    assert refusal("resnet_18", UnknownName).startswith("no network named 'resnet_18'; did you mean resnet18")
    assert refusal("zzzz", UnknownName) == "no network named 'zzzz'; `convatlas list` shows all"
    assert refusal("torchvision:alexnett", UnknownName) == (
        "no torchvision classification network named 'alexnett'; did you mean alexnet?"
    )
    assert refusal("torchvision:zzzz", UnknownName) == (
        "no torchvision classification network named 'zzzz'; torchvision.models lists all"
    )
    assert refusal("timm:visformer_tinny", UnknownName).startswith(
        "no timm network named 'visformer_tinny'; did you mean"
    )
    assert refusal("net.py:mke", UnknownName) == "no callable named 'mke'; did you mean make?"
    assert refusal("torchvison:resnet18", UnknownName) == "no module named 'torchvison'; did you mean torchvision?"
    assert refusal("pack.none:make", UnknownName) == (
        "no module named 'pack.none'; give a module that Python can import, or a file.py"
    )


def test_names_that_would_load_files_or_download_are_unknown() -> None:
    pytest.importorskip("timm")
    for name in ("hf-hub:timm/resnet18.a1_in1k", "local-dir:/tmp"):
        assert refusal(f"timm:{name}", UnknownName) == f"no timm network named '{name}'; timm.list_models() lists all"


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_library_that_is_not_installed(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [m for m in sys.modules if m.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    assert refusal(f"{library}:resnet18") == (
        f"{library}:resnet18 needs {library}, which is not installed; pip install {library}"
    )


def test_names_that_say_too_little(folder: Path) -> None:
    assert refusal("net.py") == "net.py does not say which network; write net.py:callable"
    assert refusal("none.py:make") == "no file at none.py; give a Python file and a callable, like net.py:make"
    assert refusal(":make") == "'' is no module; give package.module:callable or file.py:callable"
    assert refusal("net.py:number", BadInput) == "net.py:number gave int; it must give an nn.Module"
    assert refusal("net.py:width", BadInput) == (
        "net.py:width is int; give a callable that takes no arguments, or an nn.Module"
    )
    for name in ("resnet18", "net.py:make"):
        assert refusal(name, BadInput, (3, 0, 8)) == (
            "input (3, 0, 8) is no shape; give whole numbers above zero, as in (3, 224, 224)"
        )
    assert refusal("resnet18", BadInput, (3, 8)) == "resnet18 takes channels x height x width; 3x8 is none"


def test_errors_of_the_opened_code_are_one_line_with_their_place(folder: Path) -> None:
    assert refusal("net.py:fails") == "FOLDER/net.py, line 38: ZeroDivisionError: division by zero"
    for text, message in {
        "def f(:\n": "line 1: SyntaxError: invalid syntax",
        "x = 1\nraise RuntimeError('no\\nmore')\n": "line 2: RuntimeError: no",
        "import sys\nsys.exit(3)\n": "line 2: SystemExit: 3",
        "import not_there_at_all\n": "line 1: ModuleNotFoundError: No module named 'not_there_at_all'",
        "raise KeyError()\n": "line 1: KeyError",
    }.items():
        (folder / "bad.py").write_text(text)
        assert refusal("bad.py:f") == f"FOLDER/bad.py, {message}"
    (folder / "pack_that_fails.py").write_text("import not_there_at_all\n")
    assert refusal("pack_that_fails:f") == (
        "FOLDER/pack_that_fails.py, line 1: ModuleNotFoundError: No module named 'not_there_at_all'"
    )
