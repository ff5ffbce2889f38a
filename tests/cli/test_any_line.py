"""Any command line and any config.json end with a known exit code and one line, never with a traceback (R12)."""

import copy
import io
import json
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convatlas.cli import main
from convatlas.paper import Recipe

CODES = {0, 1, 2, 3, 4, 130, 143}
CASES, MANY = 100, 1000
QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None, "derandomize": True}


class Said(NamedTuple):
    code: int
    out: str
    lines: list[str]


def said(arguments: list[str]) -> Said:
    """Runs a command line and holds it to what is promised of any."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(arguments)
    told = err.getvalue()
    assert code in CODES, (arguments, code)
    assert "Traceback" not in told and "unexpected" not in told, (arguments, told)
    lines = [line for line in told.splitlines() if line]
    if code:
        assert lines and lines[-1].startswith("convatlas: ") and len(lines[-1]) > 20, (arguments, told)
    return Said(code, out.getvalue(), lines)


# ---- Command lines ---------------------------------------------------------------------------------------------------

WILD = st.one_of(
    st.sampled_from(
        [
            "", " ", "0", "-1", "1", "2", "0.5", "1e400", "-1e400", "nan", "inf", "1e-320", str(10**30), "0x10", "1,2",
            ",", ",,1", "a,b", "none", "None", "true", "../..", "/", "/dev/null", "~", "*", "é", "日本語", "\u202e",
            "\x00", "\n", "x" * 5000, "--", "-", "=", "conv1..conv4", "conv1..conv4=0.1", "flip", "pad-crop 4", "mixup",
            "mixup nan", "pad-crop 1e9", "ten-crop", "dense 384", "multi-scale 1,x", "steps", "digits", "lenet5", "%s",
        ]
    ),
    st.text(max_size=12).filter(lambda text: not text.startswith("-h")),
    st.floats().map(str),
    st.integers().map(str),
)  # fmt: skip
FIELDS = sorted(get_type_hints(Recipe))
NETWORK = st.one_of(st.sampled_from(["lenet5", "lenet5_relu", "basic_block"]), WILD)
MISSING = st.sampled_from(["/nowhere/photos", "nowhere", "/dev/null", "/etc/hostname", "http://127.0.0.1:9/x"])
# What a verb takes in places, and its options; "" is an option that stands alone.
GRAMMAR: dict[str, tuple[list[st.SearchStrategy[str]], list[str]]] = {
    "list": ([], ["--filter", "--json"]),
    "table": ([NETWORK], ["--depth", "--by", "--input", "--batch", "--explain", "--as", "--fit", "--precision"]),
    "claims": ([WILD], ["--json"]),
    "check-data": ([MISSING], ["--pack", "--side", "--shards", "--shard-size", "--json"]),
    "train": (
        [NETWORK, MISSING],
        ["--out", "--seed", "--seeds", "--folds", "--resume", "--weights", "--freeze", "--device", "--workers",
         "--recipe", "--set", "--compile", "--gradients"],
    ),
    "evaluate": ([MISSING, MISSING], ["--split", "--view", "--per-class", "--answers", "--device", "--workers"]),
    "features": ([MISSING, MISSING], ["--layer", "--out", "--split", "--weights", "--flat", "--probe", "--device"]),
    "measure": ([MISSING], ["--batch", "--engines", "--precisions", "--threads", "--seconds", "--device", "--json"]),
    "compare": ([MISSING], ["--json", "--markdown"]),
    "choose": ([MISSING], ["--max-ms", "--max-mb", "--min-accuracy", "--batch", "--json"]),
    "report": ([MISSING], ["--out", "--max-ms", "--max-mb"]),
    "export": ([MISSING], ["--out", "--to"]),
    "predict": ([MISSING, MISSING], ["--top", "--device", "--json"]),
    "experiment degradation": ([MISSING], ["--out", "--depths", "--epochs", "--set", "--seed", "--device"]),
    "experiment rate": ([NETWORK, MISSING], ["--steps", "--from", "--to", "--out", "--set", "--seed", "--device"]),
    "experiment batch": ([NETWORK, MISSING], ["--memory", "--set", "--device"]),
    "experiment resume": ([MISSING], ["--network", "--kills", "--set", "--seed", "--out"]),
}  # fmt: skip


@st.composite
def command_lines(draw: Callable[..., Any], place: str) -> list[str]:
    """A real verb with places and options, each sometimes left out, given twice, or somebody else's; or garbage."""
    if draw(st.integers(0, 9)) == 0:
        return [
            w.replace("\x00", "") if w.startswith("-h") else w for w in draw(st.lists(WILD, min_size=1, max_size=4))
        ]
    verb = draw(st.sampled_from(sorted(GRAMMAR)))
    places, options = GRAMMAR[verb]
    words = verb.split() + [draw(p) for p in places if draw(st.integers(0, 11))]
    if "--out" in options and verb.startswith(("train", "export", "experiment deg")):
        words += ["--out", f"{place}/out"]
    for option in draw(st.lists(st.sampled_from(options or ["--json"]), max_size=4)):
        if option in ("--out", "--pack", "--shards", "--answers", "--html"):
            continue  # never writes where a wild word points
        words.append(option)
        if option == "--set":
            words.append(f"{draw(st.sampled_from(FIELDS))}={draw(WILD)}")
        elif draw(st.integers(0, 7)):
            words.append(draw(WILD))
    return words


def check_lines(place: Path, cases: int) -> None:
    @settings(max_examples=cases, **QUIET)
    @given(command_lines(str(place)))
    def holds(words: list[str]) -> None:
        said(words)

    holds()
    assert not (place / "out").exists(), "nothing may be written by a line that fails"


def test_any_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_lines(tmp_path, CASES)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_thousand_command_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_lines(tmp_path, MANY)


def check_fields(place: Path, cases: int) -> None:
    """One field with any value, in a training of one step on the digits: it trains, or the field is named."""
    out = place / "run"

    @settings(max_examples=cases, **QUIET)
    @given(st.sampled_from(FIELDS), WILD)
    def holds(field: str, value: str) -> None:
        if field == "size" and value.strip().isdigit() and int(value) > 64:
            return  # a network of that input would be built
        words = ["train", "lenet5_relu", "digits", "--out", str(out), "--device", "cpu", "--set", f"{field}={value}"]
        words += ["--set", "epochs=none", "--set", "iterations=1"]
        found = said(words)
        shutil.rmtree(out, ignore_errors=True)
        if found.code == 2:
            parts = [part.strip() for part in value.split(",") if part.strip()]  # of a list the wrong one is named
            parts += [repr(part)[1:-1] for part in parts]  # as a line shows what is not printable
            named = [field, *parts] if field in ("freeze", "layer_lr", "augment", "view", "size") else [field]
            line = found.lines[-1].replace("-", "_")
            assert any(" ".join(n.split()).replace("-", "_") in line for n in named), (field, value, found.lines)
        else:
            assert found.code in (0, 1), found

    holds()


def test_any_value_of_a_recipes_field(tmp_path: Path) -> None:
    check_fields(tmp_path, 60)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_thousand_values_of_recipes_fields(tmp_path: Path) -> None:
    check_fields(tmp_path, MANY)


# ---- config.json -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("finished") / "run"
    line = f"train lenet5_relu digits --out {run} --device cpu --set epochs=none --set iterations=1"
    assert said(line.split()).code == 0
    return run


ODD: list[Any] = [None, True, 0, -1, 10**30, 0.5, "", "é", "../../etc", [], [[]], {}, {"a": 1}, [None], "9" * 300]


def paths_of(thing: Any, start: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ()
    return [p for key, value in inner for p in ((*start, key), *paths_of(value, (*start, key)))]


def mutated(config: Any, path: tuple[Any, ...], how: Any) -> Any:
    """A copy without what lies at a path, or with something else there."""
    found = copy.deepcopy(config)
    holder = found
    for key in path[:-1]:
        holder = holder[key]
    if how == "gone":
        del holder[path[-1]]
    else:
        holder[path[-1]] = how
    return found


def check_configs(run: Path, place: Path, cases: int) -> None:
    whole = json.loads((run / "config.json").read_text())
    copied = place / "run"
    shutil.copytree(run, copied)
    verbs = [
        ["evaluate", str(copied), "digits", "--device", "cpu"],
        ["train", "lenet5_relu", "digits", "--out", str(copied), "--resume", "--device", "cpu"],
        ["export", str(copied), "--out", str(place / "bundle")],
        ["compare", str(copied)],
    ]

    @settings(max_examples=cases, **QUIET)
    @given(st.sampled_from(paths_of(whole)), st.sampled_from(["gone", *ODD]), st.sampled_from(verbs))
    def holds(path: tuple[Any, ...], how: Any, verb: list[str]) -> None:
        (copied / "config.json").write_text(json.dumps(mutated(whole, path, how)))
        found = said(verb)
        shutil.rmtree(place / "bundle", ignore_errors=True)
        if found.code == 4:  # the file, and the key or what holds it; or the weights, which do not fit it any more
            keys = [*(str(key) for key in path if isinstance(key, str)), "its input is"]
            named = "config.json" in found.lines[-1] and any(k in found.lines[-1] for k in keys)
            assert named or "model.safetensors does not fit" in found.lines[-1], (path, how, found)
        else:
            assert found.code in (0, 1, 2, 3), found

    holds()


def test_any_config(finished: Path, tmp_path: Path) -> None:
    check_configs(finished, tmp_path, 60)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_thousand_configs(finished: Path, tmp_path: Path) -> None:
    check_configs(finished, tmp_path, MANY)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "7", '"x"', "{}", '{"format": 99}', "\x00", "[" * 2000, "é"])
@pytest.mark.parametrize(
    "verb", ["evaluate {run} digits", "train lenet5_relu digits --out {run} --resume", "compare {run}"]
)
def test_a_config_that_is_none(text: str, verb: str, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "config.json").write_text(text)
    found = said(verb.format(run=run).split())
    if verb.startswith("compare") and found.code == 0 and text.startswith("{"):
        return  # it takes what config.json says beside the results, and nothing where that says nothing
    assert found.code == 4 and f"{run}/config.json" in found.lines[-1], found


def test_a_config_of_another_version(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"format": 99}))
    found = said(["evaluate", str(run), "digits"])
    assert (found.code, found.lines[-1]) == (
        4, f"convatlas: {run}/config.json has format 99, this version reads 1; use the convatlas that wrote it"
    )  # fmt: skip
