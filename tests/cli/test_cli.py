"""The command as a user types it: answers on stdout, one line for each mistake, and the right exit code."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import convatlas
from convatlas import errors
from convatlas.cli import main

Capture = pytest.CaptureFixture[str]


def run(line: str) -> int:
    return main(line.split())


def said(capsys: Capture) -> tuple[str, list[str]]:
    out, err = capsys.readouterr()
    return out, err.splitlines()


def test_version_and_help(capsys: Capture) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == convatlas.__version__
    assert run("--help") == 0
    verbs = "list table claims check-data train evaluate measure compare choose report export predict demo"
    page = capsys.readouterr().out
    assert [v for v in verbs.split() if f"│ {v} " not in page] == []


@pytest.mark.parametrize("verb", ["list", "table", "train", "measure", "choose", "export", "predict"])
def test_every_verb_has_help(verb: str, capsys: Capture) -> None:
    assert run(f"{verb} --help") == 0
    assert f"Usage: convatlas {verb}" in capsys.readouterr().out


def test_list_and_table_answer_in_every_form(capsys: Capture) -> None:
    assert run("list --filter resnet5* --json") == 0
    found = {e["name"]: e for e in json.loads(capsys.readouterr().out)}
    assert found["resnet50"]["params"] == 25_557_032
    assert found["resnet50"]["macs"] == 3_857_973_248
    assert run("table resnet50 --json") == 0
    totals = json.loads(capsys.readouterr().out)["totals"]
    assert (totals["params"], totals["macs"], totals["field"]) == (25_557_032, 3_857_973_248, [483, 483])
    assert run("table resnet50") == 0
    assert "25,557,032 parameters, 3,857,973,248 MACs" in capsys.readouterr().out
    for form in ("--csv", "--markdown"):
        assert run(f"table lenet5_relu {form}") == 0
        assert "conv2d" in capsys.readouterr().out


def labels(printed: str) -> list[str]:
    """The first column between the two rules."""
    return [line.split()[0] for line in printed.split("\n─")[1].splitlines()[1:]]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("alexnet_one_tower", "input conv1 pool1 norm1 conv2 pool2 norm2 conv3 conv4 conv5 pool5 fc6 fc7 fc8"),
        (
            "vgg16",
            "input conv1_1 conv1_2 pool1 conv2_1 conv2_2 pool2 conv3_1 conv3_2 conv3_3 pool3 "
            "conv4_1 conv4_2 conv4_3 pool4 conv5_1 conv5_2 conv5_3 pool5 fc6 fc7 fc8",
        ),
        (
            "googlenet",
            "input conv1 pool1 norm1 conv2 norm2 pool2 inception_3a inception_3b pool3 inception_4a inception_4b "
            "inception_4c inception_4d inception_4e pool4 inception_5a inception_5b pool5 linear",
        ),
    ],
)
def test_a_table_reads_like_the_papers(name: str, lines: str, capsys: Capture) -> None:
    """The lecture's list of AlexNet's 14 lines and of VGG-16's memory, and Table 1 of the GoogLeNet paper."""
    assert run(f"table {name}") == 0
    assert labels(capsys.readouterr().out) == lines.split()


def test_a_table_by_depth(capsys: Capture) -> None:
    assert run("table lenet5 --depth 0") == 0
    assert "tanh" in capsys.readouterr().out
    assert run("table resnet18 --depth 2") == 0
    assert "conv2.1" in labels(capsys.readouterr().out)
    assert run("table lenet5_relu --json --depth 1") == 0
    assert [r["path"] for r in json.loads(capsys.readouterr().out)["rows"]][:2] == ["c1", "s2"]


def test_list_shows_published_errors_with_their_protocol(capsys: Capture) -> None:
    assert run("list --filter resnet152") == 0
    line = " ".join(capsys.readouterr().out.splitlines()[2].split())
    assert line == ("resnet152 resnet 2015 3x224x224 60.2 M 11.3 G 21.43 5.71 Table 3: validation, 10 crops")


def by_first_word(printed: str) -> dict[str, str]:
    return {line.split()[0]: " ".join(line.split()) for line in printed.splitlines() if line}


def test_claims_show_a_figure_as_it_was_printed(capsys: Capture) -> None:
    assert run("claims resnet") == 0
    lines = by_first_word(capsys.readouterr().out)
    assert "11.3 G 11,282,415,616 agrees Table 1" in lines["resnet152.macs.table-1"]
    assert "270 k 269,722 agrees Table 6" in lines["resnet20_cifar.params.table-6"]
    assert "differs Table 1 3.858 G by our count" in lines["resnet50.macs.table-1"]
    assert run("claims lenet") == 0
    lines = by_first_word(capsys.readouterr().out)
    assert "48,120 48,120 agrees section II.B" in lines["lenet5.c5.params.section-ii-b"]
    assert (
        "0.95 not computable here section III.B, test, trained without distortions"
        in lines["lenet5.top1_error.section-iii-b"]
    )


def test_table_at_another_input_counts_anew(capsys: Capture) -> None:
    assert run("table resnet18 --input 3x64x64 --json") == 0
    small = json.loads(capsys.readouterr().out)["totals"]
    assert run("table resnet18 --json") == 0
    own = json.loads(capsys.readouterr().out)["totals"]
    assert small["params"] == own["params"]
    # (64/224)^2 of the maps' positions for every convolution but the last linear layer's 512,000
    assert (small["macs"] - 512_000) * 49 == (own["macs"] - 512_000) * 4


USAGE = [
    ("trian x", 'Unknown command "trian". Did you mean "train"?'),
    ("table resnet5", "no network named 'resnet5'; did you mean resnet50,"),
    ("table resnet50 --input 3x", "--input '3x' is no input; write channels x height x width, like 3x224x224"),
    ("claims alexnot", "no paper named 'alexnot'; "),
    ("list --filter q*", "no network matches 'q*'; `convatlas list` shows all "),
    ("train lenett digits --out {tmp}/run", "no network named 'lenett'; did you mean lenet5"),
    ("train lenet5 digits --out {tmp}/run --set learning_rat=1", "no recipe field named 'learning_rat'; "),
    (
        "train lenet5 digits --out {tmp}/run --set momentun=1",
        "no recipe field named 'momentun'; did you mean momentum?",
    ),
    ("train lenet5 digits --out {tmp}/run --set lr=fast", "recipe field lr cannot be 'fast'; give a number"),
    ("train lenet5 digits --out {tmp}/run --recipe lenat", "no recipe named 'lenat'; did you mean lenet"),
    ("train lenet5 digits", 'Command "train" parameter --out requires an argument.'),
    ("measure resnet18 --batch 1,x", "--batch '1,x' is no list of batch sizes; write whole numbers like 1,8,64"),
    ("measure", "nothing to measure; give a network, a run folder or a bundle, like `convatlas measure resnet18`"),
    ("compare", "no run folder given; name one or more, for example runs/*"),
    ("predict {tmp}", "no image given; write `convatlas predict {tmp} photo.jpg`"),
    ("evaluate {tmp}/none digits", "no run folder or bundle at {tmp}/none; "),
]


@pytest.mark.parametrize(("line", "message"), USAGE, ids=[line for line, _ in USAGE])
def test_a_wrong_command_line_gives_one_line_and_exit_code_2(
    line: str, message: str, tmp_path: Path, capsys: Capture
) -> None:
    assert run(line.format(tmp=tmp_path)) == 2
    out, err = said(capsys)
    assert out == ""
    assert len(err) == 1
    assert err[0].startswith(f"convatlas: {message.format(tmp=tmp_path)}")
    assert not list(tmp_path.iterdir()), "nothing may be left behind"


def test_debug_gives_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(errors.UnknownName):
        run("table resnet5 --debug")


def test_data_that_is_not_there(tmp_path: Path, capsys: Capture) -> None:
    assert run(f"train lenet5 {tmp_path}/nowhere --out {tmp_path}/run") == 3
    _, err = said(capsys)
    assert len(err) == 1
    assert err[0].startswith(f"convatlas: {tmp_path}/nowhere does not exist; give digits or a folder")
    assert not (tmp_path / "run").exists()


def test_a_folder_with_one_class(tmp_path: Path, capsys: Capture) -> None:
    photos(tmp_path / "photos", {"cat": 3})
    assert run(f"train lenet5 {tmp_path}/photos --out {tmp_path}/run") == 3
    _, err = said(capsys)
    assert len(err) == 1
    assert "cat" in err[0] and "class" in err[0]


def test_bad_files_are_named_and_counted(tmp_path: Path, capsys: Capture) -> None:
    folder = photos(tmp_path / "photos", {"cat": 6, "dog": 6})
    whole = (folder / "cat" / "0.jpg").read_bytes()
    (folder / "cat" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "dog" / "text.jpg").write_text("I am no picture")
    assert run(f"check-data {folder} --json") == 3
    out, err = said(capsys)
    assert {Path(b["path"]).name for b in json.loads(out)["bad"]} == {"half.jpg", "text.jpg"}
    assert err[-1].startswith("convatlas: 2 of the files cannot be read")
    command = f"train lenet5_relu {folder} --out {tmp_path}/run --set epochs=1 --set batch=4 --workers 0"
    assert run(command) == 0
    out, err = said(capsys)
    log = (tmp_path / "run" / "log.jsonl").read_text()
    seen = log + out + "\n".join(err)
    assert "half.jpg" in seen or "text.jpg" in seen
    assert (folder / "dog" / "text.jpg").read_text() == "I am no picture"


def photos(folder: Path, counts: dict[str, int]) -> Path:
    """Small JPEG files, a plain colour a class with some noise of its number."""
    for c, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (40 + i, 50), (200 * c, 90, 7 * i)).save(folder / name / f"{i}.jpg")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch on the digits, measured; and its bundle."""
    folder = tmp_path_factory.mktemp("way")
    assert run(f"train lenet5_relu digits --out {folder}/lenet --set epochs=4") == 0
    assert run(f"measure {folder}/lenet --batch 1,4 --archive {folder}/results --no-memory") == 0
    assert run(f"export {folder}/lenet --out {folder}/bundle") == 0
    return folder


def test_the_whole_way(finished: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert run(f"evaluate {finished}/lenet digits --json") == 0
    answer = json.loads(capsys.readouterr().out)
    images = answer["images"]
    assert abs(images - 1797 / 5) <= 5  # a fifth of each of ten classes, rounded
    assert answer["correct"] > images / 2
    assert answer["interval"][0] < answer["correct"] / images < answer["interval"][1]
    assert run(f"evaluate {finished}/bundle digits --json") == 0
    assert json.loads(capsys.readouterr().out)["correct"] == answer["correct"]

    assert run(f"compare {finished}/lenet") == 0
    assert f"{answer['correct']} of {images}" in capsys.readouterr().out
    assert run(f"choose {finished}/lenet --max-ms 1000 --max-mb 10 --json") == 0
    assert json.loads(capsys.readouterr().out)["pick"] == "lenet"
    assert run(f"report {finished}/lenet --out {finished}/report.html") == 0
    assert "<html" in (finished / "report.html").read_text()

    pictures = sorted((finished / "bundle" / "replay").glob("*.png"))
    capsys.readouterr()
    assert main(["predict", f"{finished}/bundle", *map(str, pictures), "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [Path(a["file"]).name for a in answers] == [p.name for p in pictures]
    assert all(abs(sum(t["probability"] for t in a["top"])) <= 1 + 1e-9 for a in answers)


def test_nothing_fits_the_budget(finished: Path, capsys: Capture) -> None:
    assert run(f"choose {finished}/lenet --max-ms 0.000001") == 1
    assert said(capsys)[1][-1].startswith("convatlas: no measured run fits the budget")


def test_a_run_folder_is_not_overwritten(finished: Path, capsys: Capture) -> None:
    before = {p: p.read_bytes() for p in (finished / "lenet").rglob("*") if p.is_file()}
    assert run(f"train lenet5_relu digits --out {finished}/lenet") == 2
    assert "--resume" in said(capsys)[1][-1]
    assert {p: p.read_bytes() for p in (finished / "lenet").rglob("*") if p.is_file()} == before


def test_a_truncated_bundle_answers_nothing(finished: Path, tmp_path: Path, capsys: Capture) -> None:
    bundle = shutil.copytree(finished / "bundle", tmp_path / "bundle")
    weights = bundle / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    picture = min((bundle / "replay").glob("*.png"))
    assert run(f"predict {bundle} {picture}") == 4
    out, err = said(capsys)
    assert out == ""
    assert err == [
        f"convatlas: bundle {bundle} is damaged: model.safetensors was changed: its sha256 differs; "
        "make it anew with `convatlas export`"
    ]


def test_predict_answers_the_good_files_and_names_the_bad(finished: Path, tmp_path: Path, capsys: Capture) -> None:
    picture = min((finished / "bundle" / "replay").glob("*.png"))
    (tmp_path / "text.jpg").write_text("no picture")
    assert run(f"predict {finished}/bundle {picture} {tmp_path}/text.jpg --json") == 3
    out, err = said(capsys)
    good, bad = json.loads(out)
    assert good["class"] in "0123456789"
    assert set(bad) == {"file", "error"}
    assert err[-1].startswith("convatlas: 1 of 2 files could not be read; the first: ")
