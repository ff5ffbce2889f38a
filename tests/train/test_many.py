"""Several processes evaluate together: every image once, the first one speaks, and a group can be joined again (R9)."""

import contextlib
import io
import json
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from convatlas.cli import main
from convatlas.errors import RunFailed, UsageError
from convatlas.record import to_json
from convatlas.train.evaluating.answers import Answers
from convatlas.train.evaluating.evaluation import examine
from convatlas.train.processes import joined, own_device

CPU = torch.device("cpu")
IMAGES = 101
forked = multiprocessing.get_context("fork")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def together(of: int, work: Callable[[], Any], patience: float = 60) -> list[Any]:
    """What `work` gives in each of several processes that were told what torchrun tells them."""
    told = {"WORLD_SIZE": str(of), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    told["CONVATLAS_TIMEOUT"] = str(patience)

    def run(rank: int, ours: Any) -> None:
        torch.set_num_threads(1)
        os.environ.update(told, RANK=str(rank), LOCAL_RANK=str(rank))
        try:
            ours.send((True, work()))
        except BaseException:
            ours.send((False, traceback.format_exc()))
        os._exit(0)  # an orderly end of torch takes a second

    pipes = []
    for rank in range(of):
        theirs, ours = forked.Pipe(duplex=False)
        process = forked.Process(target=run, args=(rank, ours))
        process.start()
        pipes.append((process, theirs))
    found = [theirs.recv() for _, theirs in pipes]
    for process, _ in pipes:
        process.join(30)
    assert all(good for good, _ in found), "\n".join(str(answer) for good, answer in found if not good)
    return [answer for _, answer in found]


@pytest.fixture(scope="module")
def fruit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos to train on and 101 to be tested on, four of which cannot be read; two of these follow each other."""
    folder = tmp_path_factory.mktemp("many") / "fruit"
    draw = np.random.default_rng(1)
    for split, images in (("train", 24), ("test", IMAGES)):
        for i in range(images):
            place = folder / split / ("apple", "pear", "plum", "quince")[i % 4] / f"{i:03}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            pixels = draw.integers(0, 120, (20, 18, 3)) + 40 * np.eye(4, 3)[i % 4].astype(int)
            Image.fromarray(pixels.astype(np.uint8)).save(place)
    tested = sorted((folder / "test").rglob("*.png"))
    for i in (0, 40, 41, IMAGES - 1):
        tested[i].write_bytes(b"no image")
    return folder


@pytest.fixture
def runs(quick: Any, fruit: Path, recipe: Any, tmp_path: Path) -> list[str]:
    """Two trained networks."""
    for seed in (1, 2):
        quick(tmp_path / f"run-{seed}", data=fruit, seed=seed)
    return [str(tmp_path / f"run-{seed}") for seed in (1, 2)]


def same(one: Answers, other: Answers) -> bool:
    """Numbers, labels and answers to the bit; what is rounded in a batch of another size to float32's precision."""
    exact = all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("numbers", "labels", "answers", "five")
    )
    rounded = ("probabilities", "label_probabilities", "losses")
    return exact and all(np.allclose(getattr(one, n), getattr(other, n), rtol=1e-5, atol=1e-6) for n in rounded)


@pytest.mark.parametrize("of", [2, 3])
@pytest.mark.parametrize("members", [1, 2])
def test_several_processes_count_every_image_once(members: int, of: int, runs: list[str], fruit: Path) -> None:
    def work() -> Any:
        done = examine(runs[:members], str(fruit), device="cpu", batch=8, workers=0)
        return done.counts, done.found

    counts, found = work()
    assert counts.images == IMAGES - 4 and len(counts.bad) == 4
    assert counts.answers.numbers.tolist() == [n for n in range(IMAGES) if n not in (0, 40, 41, IMAGES - 1)]
    for theirs, theirs_found in together(of, work):
        assert theirs.bad == counts.bad and same(theirs.answers, counts.answers)
        assert theirs.loss == pytest.approx(counts.loss, rel=1e-6)
        assert theirs_found.accuracy == found.accuracy and theirs_found.data == found.data
        if members > 1:
            assert (theirs_found.paired, theirs_found.gain) == (found.paired, found.gain)


def test_the_first_one_prints_and_the_json_is_the_same(runs: list[str], fruit: Path, tmp_path: Path) -> None:
    typed = ["evaluate", runs[0], str(fruit), "--json", "--per-class", "--device", "cpu", "--workers", "0"]

    def work() -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            assert main([*typed, "--answers", str(tmp_path / f"{os.environ.get('RANK', 'alone')}.csv")]) == 0
        return out.getvalue()

    alone = work()
    assert json.loads(alone)["images"] == IMAGES - 4
    for of in (2, 3):
        assert together(of, work) == [alone] + [""] * (of - 1)
    assert sorted(p.name for p in tmp_path.glob("*.csv")) == ["0.csv", "alone.csv"]


def test_fewer_images_than_processes(quick: Any, fruit: Path, tmp_path: Path) -> None:
    """And a share of nothing but bad files."""
    quick(tmp_path / "run", data=fruit)
    for i, name in enumerate(("apple", "pear")):
        place = tmp_path / "few/test" / name / "a.png"
        place.parent.mkdir(parents=True)
        place.write_bytes(b"" if i else (fruit / "test/pear/001.png").read_bytes())

    def work() -> str:
        done = examine([tmp_path / "run"], tmp_path / "few", device="cpu", workers=0)
        return to_json([done.found.accuracy, done.counts.bad])

    alone = work()
    assert together(3, work) == [alone] * 3


def test_a_group_is_joined_again_and_again() -> None:
    """As several seeds in one process do; one process is always late, another one always early."""

    def work() -> list[float]:
        sums = []
        for turn in range(4):
            with joined(CPU) as processes:
                sums.append(float(processes.sum(torch.tensor(10.0**processes.rank * (turn + 1)))))
                assert processes.gathered(processes.rank) == [0, 1, 2]
        return sums

    assert together(3, work) == [[111.0, 222.0, 333.0, 444.0]] * 3


def test_what_a_dead_group_left_in_the_store_is_not_taken_for_this_one() -> None:
    """As after torchrun's restart, which keeps its store: every process finds the numbers of those before it."""
    from torch.distributed import HashStore

    from convatlas.train.processes import _fresh_name

    store = HashStore()
    for key, value in {"number/1": "old", "heard": "first old", "follows/1": "first"}.items():
        store.set(f"convatlas/{key}", value)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        names = list(pool.map(lambda rank: _fresh_name(store, rank, 2), range(2)))
    assert names[0] == names[1] and names[0] not in ("first", "old")


def test_a_process_that_never_comes() -> None:
    def work() -> str:
        os.environ["WORLD_SIZE"] = "2"
        with pytest.raises(RunFailed) as caught, joined(CPU):
            pass
        return str(caught.value)

    (said,) = together(1, work, patience=0.5)
    assert said.startswith("not all of the 2 processes came (CONVATLAS_TIMEOUT is 0.5 s): ")
    assert said.endswith("; start all of them again") and "\n" not in said


def test_processes_that_nobody_told_where_to_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UsageError) as caught, joined(CPU):
        pass
    assert str(caught.value) == (
        "WORLD_SIZE is 2, but MASTER_ADDR, MASTER_PORT not set; start the processes with torchrun, or unset WORLD_SIZE "
        "for one alone"
    )


def test_each_process_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert own_device(CPU) == CPU and own_device(torch.device("cuda")) == torch.device("cuda") and not chosen
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert own_device(torch.device("cuda")) == torch.device("cuda:1") and chosen == [torch.device("cuda:1")]
    with pytest.raises(UsageError) as caught:
        own_device(torch.device("cuda:0"))
    assert str(caught.value) == (
        "--device cuda:0 is one GPU for 2 processes, and each needs its own; give --device cuda"
    )
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(UsageError) as caught:
        own_device(torch.device("cuda"))
    assert str(caught.value) == (
        "3 processes are on a machine with 2 GPUs, and each needs its own; give torchrun --nproc-per-node 2, or use "
        "--device cpu"
    )


def test_several_seeds_with_several_processes(fruit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run by both; one of them prints the figures and draws the curves."""
    from convatlas.cli import training

    # The chart's engine has threads of its own once a test has used it, and does not survive a fork.
    monkeypatch.setattr(training, "draw_curves", lambda run: (run / f"drawn-by-{os.getpid()}").touch())
    typed = ["train", "lenet5_relu", str(fruit), "--seeds", "1,2", "--set", "epochs=1", "--set", "drops="]
    typed += ["--set", "schedule=constant", "--device", "cpu", "--workers", "0", "--out", str(tmp_path / "runs")]

    def work() -> tuple[str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(typed)
        assert code == 0, err.getvalue()
        return out.getvalue(), err.getvalue()

    first, second = together(2, work)
    assert second == ("", "")
    assert first[0].count("seed-") == 2 and "next: convatlas evaluate" in first[1]
    for seed in (1, 2):
        assert len((tmp_path / f"runs/seed-{seed}/results.json").read_text().splitlines()) == 1
        assert len(list((tmp_path / f"runs/seed-{seed}").glob("drawn-by-*"))) == 1
