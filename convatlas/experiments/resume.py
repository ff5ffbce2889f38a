"""A training killed again and again beside one that was left alone: do they end with the same bits?"""

import hashlib
import json
import os
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import files
from ..errors import RunFailed, UsageError
from ..layout import Column, text
from ..record import changed
from ..units import seconds
from .answers import Kill, Resumed, Sum

EPOCHS = 12  # ours: on the digits an epoch of LeNet-5 takes a tenth of a second, and Python's start three seconds
LOOK = 0.0005  # seconds between two looks at a run folder; a save takes some milliseconds
PATIENCE = 0.25  # seconds that the dice may wait beyond the epoch that they chose, at most


@dataclass
class _Run:
    """A training in processes of its own."""

    folder: Path
    words: tuple[str, ...]  # after `convatlas train`

    def start(self) -> "subprocess.Popen[bytes]":
        """Starts it or goes on with it; what it says is kept beside the folder."""
        line = [sys.executable, "-m", "convatlas", "train", *self.words, "--out", str(self.folder), "--resume"]
        # Ours is found where this process found it, also from a source tree.
        paths = (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", ""))
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        with self.folder.with_name(f"{self.folder.name}.stderr").open("ab") as said:
            return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=said, stdin=subprocess.DEVNULL, env=env)

    def end(self, process: "subprocess.Popen[bytes]") -> None:
        """Waits for the end. Raises RunFailed with its last line where it is not a good one."""
        if process.wait():
            said = self.folder.with_name(f"{self.folder.name}.stderr").read_text(errors="replace").splitlines()
            last = said[-1].removeprefix("convatlas: ") if said else f"exit code {process.returncode}"
            raise RunFailed(f"the training in a process of its own failed: {last}")

    def epochs(self) -> int:
        """Finished epochs in its log."""
        try:
            return (self.folder / "log.jsonl").read_bytes().count(b"\n")
        except OSError:
            return 0

    def saving(self) -> bool:
        """Whether a half-written checkpoint is there."""
        try:
            return any(name.startswith("tmp-step-") for name in os.listdir(self.folder / "checkpoints"))  # noqa: PTH208
        except OSError:
            return False

    def command(self) -> str:
        return f"convatlas train {shlex.join(self.words)} --out {shlex.quote(str(self.folder))} --resume"


def resume(
    data: str,
    out: Path,
    *,
    network: str = "lenet5_relu",
    kills: int = 5,
    settings: Sequence[str] = (),
    seed: int = 0,
    progress: Callable[[str], None] = lambda words: None,
) -> Resumed:
    """Trains in `out`/undisturbed and in `out`/killed, with SIGKILL so often, and compares what is left.

    `settings` are "field=value" texts for the network's recipe; the length is 12 epochs unless they say another. The
    dice that choose the moments are seeded. Raises UsageError where `out` is taken or there is nothing to kill,
    RunFailed where a training fails by itself.
    """
    if os.name != "posix":
        raise UsageError("experiment resume needs SIGKILL, which this system does not have; run it on Linux or macOS")
    if kills < 1:
        raise UsageError(f"--kills {kills} proves nothing; give 1 or more")
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; choose another --out, this experiment starts from nothing")
    out.mkdir(parents=True, exist_ok=True)
    epochs, words = _words(network, data, settings, seed)
    begin = time.monotonic()
    whole, killed = (_Run(out / name, words) for name in ("undisturbed", "killed"))
    progress("the undisturbed training")
    whole.end(whole.start())
    done = whole.epochs()
    dice = random.Random(seed)
    met: list[Kill] = []
    for number in range(kills):
        progress(f"kill {number + 1} of {kills}")
        # The kills are spread over the training: each somewhere in its own part, every other one inside a save.
        target = (number + dice.random()) * done / kills
        found = _kill(killed, target, number % 2 == 1, dice)
        if found is None:
            break
        met.append(found)
    progress("the last part")
    killed.end(killed.start())
    if not met:
        raise RunFailed("the training was done before the first kill; give it more to do, like --set epochs=30")
    sums = tuple(
        Sum(what, a, b)
        for (what, a), b in zip(sums_of(whole.folder).items(), sums_of(killed.folder).values(), strict=True)
    )
    commands = (whole.command(), killed.command())
    return Resumed(network, data, epochs, seed, tuple(met), sums, time.monotonic() - begin, commands)


def _words(network: str, data: str, settings: Sequence[str], seed: int) -> tuple[int, tuple[str, ...]]:
    """How long it trains, and the words after `convatlas train`; settings are refused here, before anything starts."""
    from ..catalogue import catalogue

    known = catalogue()
    recipe = known.entry(network).recipe
    given = {s.partition("=")[0].strip().replace("-", "_") for s in settings}
    own = () if given & {"epochs", "iterations"} else (f"epochs={EPOCHS}",)
    if "epochs" in given or own:
        own = ("iterations=none", *own) if "iterations" not in given else own
    every = (*own, *settings)
    if not recipe:
        raise UsageError(f"{network} has no recipe to train by; `convatlas list` shows networks")
    settled = changed(known.recipes[recipe], every, "recipe")
    options = [word for setting in every for word in ("--set", setting)]
    return round(settled.epochs or 0), (network, data, "--seed", str(seed), *options)


def _kill(run: _Run, target: float, in_a_save: bool, dice: random.Random) -> Kill | None:
    """Starts the training and kills it at the chosen place; None where it was done before.

    `target` is in epochs: the kill comes after its whole part, and its fraction as a share of a moment later, or in the
    next save.
    """
    process = run.start()
    begin = time.monotonic()
    checkpoints = run.folder / "checkpoints"
    try:
        while process.poll() is None and not (checkpoints.is_dir() and run.epochs() >= int(target)):
            time.sleep(LOOK)
        if in_a_save:
            while process.poll() is None and not run.saving():
                time.sleep(LOOK)
        else:
            time.sleep(PATIENCE * dice.random())
        if process.poll() is not None:
            run.end(process)
            return None
    finally:
        process.kill()
        process.wait()
    return Kill(run.epochs(), round(time.monotonic() - begin, 3), run.saving())


def sums_of(run: Path) -> dict[str, str]:
    """sha256 of what must be equal: weights, optimiser, log, the best weights, and the state that randomness follows.

    Nothing of torch's random state has to survive: every draw follows from the seed, the epoch and the step, which are
    in config.json and state.json; times are left out of it.
    """
    checkpoints = run / "checkpoints"
    last, best = (checkpoints / (checkpoints / name).read_text().strip() for name in ("last", "best"))
    state = json.loads((last / "state.json").read_text())
    state.pop("seconds", None)
    seed = json.loads((run / "config.json").read_text())["seed"]
    position = json.dumps({"seed": seed, "state": state}, sort_keys=True)
    return {
        "weights": files.sha256(last / "model.safetensors"),
        "optimiser": files.sha256(last / "optimiser.safetensors"),
        "log": files.sha256(run / "log.jsonl"),
        "random state (seed and position)": hashlib.sha256(position.encode()).hexdigest(),
        "best weights": files.sha256(best / "model.safetensors"),
    }


def as_text(found: Resumed) -> str:
    """The kills, the sums side by side, and the verdict."""
    kills = text(
        [Column("kill", True), Column("after epoch", True), Column("seconds after its start", True), Column("where")],
        [
            [i, k.epoch, f"{k.seconds:.2f}", "inside a save" if k.saving else "between saves"]
            for i, k in enumerate(found.kills, 1)
        ],
    )
    sums = text(
        [Column("sha256 of"), Column("undisturbed"), Column("killed and resumed"), Column("")],
        [[s.what, s.undisturbed[:16], s.killed[:16], "equal" if s.equal else "DIFFERENT"] for s in found.sums],
    )
    return "\n\n".join((kills, sums, verdict(found)))


def verdict(found: Resumed) -> str:
    n = len(found.kills)
    inside = sum(k.saving for k in found.kills)
    times = f"{n} time{'s' * (n != 1)}, {inside} of them inside a save" if inside else f"{n} time{'s' * (n != 1)}"
    if found.equal:
        return (
            f"Equal to the last bit: {found.network} on {found.data}, killed with SIGKILL {times}, ended as the "
            f"training that was left alone. It took {seconds(found.seconds)}."
        )
    different = ", ".join(s.what for s in found.sums if not s.equal)
    return f"Not equal: {found.network} on {found.data}, killed {times}, ended with another {different}."
