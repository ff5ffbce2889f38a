"""What the pages show works: Python runs, commands parse, links lead somewhere, every verb is told."""

import dataclasses
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.cli import app, main
from convatlas.data import views
from convatlas.data.augment import KNOWN
from convatlas.paper import Recipe

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
VERBS = [
    "list",
    "table",
    "claims",
    "train",
    "evaluate",
    "measure",
    "compare",
    "choose",
    "report",
    "export",
    "predict",
    "check-data",
    "features",
    "experiment",
    "demo",
]


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(page.read_text()) if found == language]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted: a folder of photos, a photo, run folders, somebody's weights."""
    folder = tmp_path_factory.mktemp("desk")
    noise = np.random.default_rng(0)
    for c, name in enumerate(("cat", "dog")):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(12):
            pixels = noise.integers(0, 120, (50, 60, 3)) + np.array([100 * c, 60, 0])
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "photos" / name / f"{i}.jpg")
    shutil.copy(folder / "photos" / "cat" / "0.jpg", folder / "photo.jpg")
    words = f"train lenet5_relu {folder}/photos --out {folder}/runs/lenet5 --set epochs=1 --workers 0"
    assert main(words.split()) == 0
    shutil.copytree(folder / "runs" / "lenet5", folder / "runs" / "resnet18")
    return folder


def somebodys_weights(folder: Path) -> None:
    import torch
    from torchvision import models

    torch.save(models.resnet50(weights=None).state_dict(), folder / "resnet50.pth")


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_the_python_of_a_page_runs(page: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    if "resnet50.pth" in page.read_text():
        somebodys_weights(desk)
    names: dict[str, object] = {}
    for text in blocks(page, "python"):
        exec(compile(text, page.name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_commands_of_a_page_parse(page: Path) -> None:
    lines = [line.removeprefix("$ ") for text in blocks(page, "") for line in text.replace("\\\n", " ").splitlines()]
    for line in lines:
        line = re.sub(r"^([A-Z_]+=\S+ )+", "", line)
        if line.startswith("torchrun "):
            line = line.partition(" -m ")[2]
        if line.startswith("convatlas "):
            words = shlex.split(line.partition(" | ")[0], comments=True)[1:]
            app.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_verb_is_in_the_list_above() -> None:
    assert sorted(VERBS) == sorted(name for name in app if not name.startswith("-"))


@pytest.mark.parametrize("verb", ["train", "evaluate", "check-data", "features"])
def test_every_option_is_told_somewhere(verb: str) -> None:
    text = "".join(page.read_text() for page in PAGES)
    options = [n for a in app[verb].assemble_argument_collection() for n in a.names if n.startswith("--")]
    assert len(options) > 3
    assert [o for o in options if not re.search(rf"{o}\b", text)] == []


def test_every_augmentation_and_test_view_is_told() -> None:
    text = (ROOT / "docs" / "data.md").read_text()
    kinds = [name.split()[0] for name in f"{KNOWN}, {views.KNOWN}".split(", ")]
    assert [k for k in kinds if not re.search(rf"^\| `{k}\b", text, re.MULTILINE)] == []


def test_every_field_of_a_recipe_has_a_meaning() -> None:
    page = (ROOT / "docs" / "train.md").read_text()
    told = set(re.findall(r"^\| `(\w+)` \|[^|]+\|[^|]+\| [^| ][^|]* \|$", page, re.MULTILINE))
    assert [f.name for f in dataclasses.fields(Recipe) if f.name not in told] == []


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_readme_tells_every_verb(page: str) -> None:
    text = (ROOT / page).read_text()
    assert [v for v in VERBS if f"`{v}" not in text] == []


def test_the_table_in_the_readme_is_what_the_command_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    shown = next(t for t in blocks(ROOT / "README.md", "") if t.startswith("$ convatlas table alexnet_one_tower"))
    assert main(["table", "alexnet_one_tower"]) == 0
    assert shown.splitlines()[1:] == capsys.readouterr().out.splitlines()


def test_version_and_changelog_agree() -> None:
    import convatlas

    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest and newest[1] == convatlas.__version__
