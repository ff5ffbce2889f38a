"""Before any training: which networks to try on a data set in a given time."""

import re
import time as clock
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadData, BadInput, UsageError
from .app import busy, next_step, say

if TYPE_CHECKING:
    from ..compare.prediction import Calibration
    from ..compare.proposal import Facts, Setting
    from ..data import Data, Split
    from ..table import Table

UNITS = {"s": 1, "m": 60, "h": 3600}
SAMPLE = 24  # training images whose size is looked at, and whose loading is timed
LOADED = 112  # the size that they are brought to: decoding, not resizing, is most of it


def propose(data: str, time: str, archive: Path, recalibrate: bool = False, json: bool = False) -> None:
    """Says which networks of the catalogue to try on `data` in `time`, with the commands that train them so.

    The calibration of this machine is kept beside the archive and made, in a minute or so, where there is none that
    fits. Raises UsageError for a time that is none, BadData for data or a calibration that cannot be read.
    """
    from ..compare.proposal import propose as work
    from ..compare.proposal import settings

    seconds = read_time(time)
    found = facts(data)
    calibration = calibrated(archive, recalibrate)
    with busy("counting the catalogue's networks at these sizes") as progress:
        options = accounts(settings(found), found, progress)
    proposal = work(found, seconds, options, calibration)
    say(proposal.as_json() if json else proposal.as_text())
    next_step(*(c.command for c in proposal.to_try[:1]))


def read_time(given: str) -> float:
    """Seconds: "90s", "30m", "2h", "1h30m", "1.5h". Raises UsageError."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", given.strip().lower())
    whole = "".join(number + unit for number, unit in parts)
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    if not parts or whole != given.strip().lower() or not seconds > 0:
        raise UsageError(f"--time {given!r} is no length of time; write it like 90s, 30m or 2h")
    return seconds


def facts(source: str) -> "Facts":
    """What is known of a data set without training on it: counts, sizes, and how long an image takes to load."""
    from ..compare.proposal import Facts
    from ..data import open_data
    from ..train.evaluating.evaluation import loaders

    data = open_data(source)
    train = data.splits.get("train")
    if train is None or not len(train):
        raise BadData(f"{data.source} has no training images")
    side, load_ms = _looked_at(data, train)
    validation = data.splits.get("validation", ())
    return Facts(
        data.name, source, len(train), len(validation), data.classes, data.channels, side, loaders(train, None), load_ms
    )


def _looked_at(data: "Data", train: "Split") -> tuple[int, float]:
    """The median shorter side, and the median milliseconds to load and fit one image, of evenly spaced ones.

    Images that cannot be decoded are passed over, as a training does. Raises BadData where none can be.
    """
    from statistics import median

    from ..data import Preprocess
    from ..data.sets import spaced
    from ..errors import BadImage

    preprocess = Preprocess(data.channels, LOADED, LOADED)
    sides, taken = [], []
    for number in spaced(len(train), SAMPLE):
        begin = clock.perf_counter()
        try:
            picture = train.picture(number, data.channels)
            preprocess.array(picture)
        except BadImage:
            continue
        taken.append(1000 * (clock.perf_counter() - begin))
        sides.append(min(picture.size))
    if not sides:
        raise BadData(
            f"{data.source}: none of {min(SAMPLE, len(train))} training images can be decoded; "
            f"`convatlas check-data` lists what is wrong"
        )
    # What is in memory is fitted to the input once, before the first epoch.
    return int(median(sides)), 0.0 if train.images is not None else median(taken)


def calibrated(archive: Path, recalibrate: bool) -> "Calibration":
    """The calibration that is kept beside the archive, or a new one where that does not fit or is not wanted."""
    from ..compare import prediction
    from ..result import this_machine, versions

    file = (archive.parent if archive.suffix == ".jsonl" else archive) / prediction.FILE
    if not recalibrate:
        kept = prediction.read(file)
        if kept is not None:
            import torch

            other = prediction.differs(
                kept, this_machine("cpu", torch.get_num_threads()), versions(("torch",)).get("torch", "?")
            )
            if not other:
                return kept
    from ..measure.calibration import calibrate

    with busy("calibrating this machine, once, about a minute") as progress:
        made = prediction.fit(calibrate(progress=progress))
    prediction.save(made, file)
    return made


def accounts(
    wanted: "Sequence[Setting]", found: "Facts", progress: Callable[[str], None] = lambda _: None
) -> "list[tuple[Setting, Table]]":
    """Each network's account at its size with the data's classes and channels; not of those that need larger images."""
    import torch

    from ..account import account
    from ..layers import drop_heads
    from ..networks import build

    made = []
    for setting in wanted:
        progress(setting.network)
        shape = found.channels, setting.size, setting.size
        try:
            with torch.device("meta"):
                net = build(setting.network, classes=len(found.classes), channels=found.channels, input=shape[1:])
            drop_heads(net)
            made.append((setting, account(net.eval(), shape, name=setting.network)))
        except BadInput:
            continue
    return made
