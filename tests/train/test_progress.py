"""A bar on a terminal, plain lines elsewhere, not a flood of them; and a time left that is right."""

import os
import pty
import re
import sys
from pathlib import Path

import pytest

from convatlas.train import progress
from convatlas.train.progress import Clock, Talk
from convatlas.train.run import Epoch, Validation
from convatlas.train.updating.schedule import Length

SEEN = Validation(7, 9, 10, 1.0)


def line(number: int, validation: Validation | None = SEEN, lr: float = 0.1) -> Epoch:
    return Epoch(number, 2 * number, lr, 1.5, 5, 10, validation, ())


def epochs(talk: Talk, number: int) -> None:
    for epoch in range(1, number + 1):
        talk.step(epoch * 2, 10, 0.1, lambda: 1.5)
        talk.epoch(line(epoch), 0.0)


class Time:
    """A clock that is set by hand."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.now = 0.0
        patch.setattr(progress.time, "monotonic", lambda: self.now)


def test_tiny_epochs_share_lines_and_the_last_is_always_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time(monkeypatch)
    with Talk(Length(12, 2), 0, bar=True) as talk:
        for epoch in range(1, 7):
            time.now += 0.4
            talk.step(epoch * 2, 10, 0.1, lambda: pytest.fail("the loss is read from the device for nothing"))
            talk.epoch(line(epoch), 0.0)
    lines = capsys.readouterr().err.splitlines()
    said = "loss 1.5000, lr 0.1, validation 7 of 10 (70.0 %), 25 images/s"
    assert lines == [f"convatlas: epoch 3 of 6: {said}, 1.2 s left", f"convatlas: epoch 6 of 6: {said}"]


def test_without_validation_nothing_is_said_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    with Talk(Length(5, 2), 0, bar=False) as talk:
        talk.epoch(line(3, None, 0.01), 0.0)
    assert capsys.readouterr().err.startswith("convatlas: epoch 3 of 3: loss 1.5000, lr 0.01, 0 images/s")


def test_a_long_epoch_gives_a_line_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time(monkeypatch)
    with Talk(Length(1000, 1000), 0, bar=False) as talk:
        for step in range(1, 301):
            time.now += 0.5
            talk.step(step, 10, 0.1, lambda: 2.25)
    assert capsys.readouterr().err.splitlines() == [
        "convatlas: step 120 of 1,000: loss 2.2500, lr 0.1, 20 images/s, 7 min 20 s left",
        "convatlas: step 240 of 1,000: loss 2.2500, lr 0.1, 20 images/s, 6 min 20 s left",
    ]


def test_the_time_left_counts_what_epochs_end_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 epochs of 5 steps of 2 s, and 30 s of validation each: nothing else would be right after three of them."""
    time = Time(monkeypatch)
    clock = Clock(Length(50, 5), 0)
    assert clock.left is None
    for step in range(1, 16):
        time.now += 2
        clock.after_step(step)
        if step % 5 == 0:
            time.now += 30
            clock.after_epoch()
    assert clock.left == pytest.approx(35 * 2 + 7 * 30)


def test_a_starved_step_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time(monkeypatch)
    with Talk(Length(4, 2), 0, bar=False) as talk:
        for step in (1, 2):
            time.now += 5
            talk.step(step, 10, 0.1, lambda: 1.0)
        talk.epoch(line(1, None), 6.0)
    assert capsys.readouterr().err.splitlines()[0].endswith("10.0 s left, 60 % of the time waiting for images")


def test_only_the_first_of_several_processes_talks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    progress.say("hello")
    monkeypatch.setenv("RANK", "0")
    progress.say("here")
    assert capsys.readouterr().err == "convatlas: here\n"


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> str:
    """What a bar writes to a pseudo-terminal."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        patch.setattr(progress, "BETWEEN_LOOKS", 0.0)
        with Talk(Length(6, 2), 0, bar=True) as talk:
            epochs(talk, 3)
        terminal.flush()
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux ends a pseudo-terminal whose other side is closed so
            break
        if not part:
            break
        written += part
    os.close(ours)
    return written.decode()


def test_a_terminal_gets_a_bar_with_everything_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_a_terminal(monkeypatch, {"TERM": "xterm-256color", "COLUMNS": "200"})
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert "epoch 3 of 3" in plain
    assert "step 6/6" in plain
    assert "loss 1.5000  lr 0.1  validation 7 of 10 (70.0 %)" in plain
    assert "images/s" in plain
    assert re.search(r"\x1b\[3[0-9]|\x1b\[38", shown)


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_a_terminal(monkeypatch, {"TERM": "xterm-256color", "COLUMNS": "200", "NO_COLOR": "1"})
    assert "epoch 3 of 3" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown)


def test_options_can_silence_the_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    assert Talk(Length(6, 2), 0, bar=False)._bar is None
