"""A bar on a terminal, plain lines elsewhere, and not a flood of them."""

import os
import pty
import re
import sys
from pathlib import Path

import pytest

from convatlas.train import progress
from convatlas.train.progress import Talk
from convatlas.train.schedule import Length


def epochs(talk: Talk, number: int) -> None:
    for epoch in range(1, number + 1):
        talk.step(epoch * 2, 10, 0.1, lambda: 1.5)
        talk.epoch(epoch, 1.5, 0.1, 7, 10)


def test_tiny_epochs_share_lines_and_the_last_is_always_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Talk(Length(12, 2), 0, bar=True) as talk:
        for epoch in range(1, 7):
            now += 0.4
            talk.step(epoch * 2, 10, 0.1, lambda: pytest.fail("the loss is read from the device for nothing"))
            talk.epoch(epoch, 1.5, 0.1, 7, 10)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "convatlas: epoch 3 of 6: loss 1.5000, lr 0.1, validation 7 of 10 (70.0 %), 25 images/s",
        "convatlas: epoch 6 of 6: loss 1.5000, lr 0.1, validation 7 of 10 (70.0 %), 25 images/s",
    ]


def test_without_validation_nothing_is_said_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    with Talk(Length(5, 2), 0, bar=False) as talk:
        talk.epoch(3, 0.25, 0.01, None, 0)
    assert capsys.readouterr().err.startswith("convatlas: epoch 3 of 3: loss 0.2500, lr 0.01, 0 images/s")


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
