"""Peak memory of a forward pass, in a process of its own.

A fresh Python loads the network into the engine, makes two calls at one batch size and reads its VmHWM, the kernel's
own mark of the most resident memory (proc(5)). It is started and not forked: a forked one would begin with its
parent's memory, and ru_maxrss is even inherited. On a CUDA device the mark is torch's, of what it allocated there.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .. import engines
from ..classifier import pick_device
from ..errors import ConvAtlasError
from ..record import from_json, to_json
from .rounds import images, out_of_memory
from .sources import open_source

CALLS = 2  # the second finds what the first has kept
STATUS = Path("/proc/self/status")
PACKAGE = Path(__file__).parents[2]
OUTSIDE_TORCH = ("onnxruntime", "openvino")  # engines with an allocator of their own
SECONDS = 1800  # that a process may take; compiling a large network takes minutes


@dataclass(frozen=True)
class Case:
    source: str
    engine: str
    precision: str
    device: str
    threads: int
    batch: int


@dataclass(frozen=True)
class Peak:
    """Bytes; None where `reason` says why there are none."""

    peak_bytes: int | None = None
    bare_bytes: int | None = None  # with all libraries loaded, before the network
    reason: str = ""
    out_of_memory: bool = False
    crashed: bool = False  # a signal ended the process, which would have ended the command


def process() -> tuple[list[str], dict[str, str]]:
    """Command line and environment of the process, which is given a Case on its stdin."""
    paths = [str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
    code = "from convatlas.measure.peak import answer; answer()"
    # -P: a torch.py in the folder that one happens to be in must not be imported.
    return [sys.executable, "-P", "-c", code], {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def peak(case: Case) -> Peak:
    """Runs a case in a fresh process. What goes wrong there ends that process only, and is the reason."""
    line, environment = process()
    try:
        done = subprocess.run(
            line, input=to_json(case), capture_output=True, text=True, env=environment, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Peak(reason=f"its process took more than {SECONDS} s")
    if done.returncode == 0:
        with suppress(ValueError, IndexError):  # a library may print too; the answer is the last line
            return from_json(Peak, done.stdout.splitlines()[-1])
    return _fault(done.returncode, done.stderr)


def _fault(code: int, said: str) -> Peak:
    """SIGKILL is how the kernel ends a process that asks for more memory than there is."""
    last = (said.strip().splitlines() or [""])[-1]
    if code == -signal.SIGKILL or "bad_alloc" in last:
        return Peak(reason="the kernel ended its process for want of memory", out_of_memory=True)
    how = signal.Signals(-code).name if code < 0 else f"code {code}"
    return Peak(reason=f"its process ended with {how}" + (f": {last}" if last else ""), crashed=code < 0)


def answer() -> None:
    """What the process does: a Case on stdin, a Peak as the last line on stdout."""
    case = from_json(Case, sys.stdin.buffer.read())
    with suppress(OSError):  # where memory ends, the kernel shall take this process and not the command
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        found = _run(case)
    except ConvAtlasError as error:
        found = Peak(reason=str(error))
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        found = Peak(reason="its memory did not suffice", out_of_memory=True)
    print(to_json(found), flush=True)
    # What libraries do as they end is no part of a pass, but takes up to 130 MB more with torch 2.14.
    os._exit(0)


def _run(case: Case) -> Peak:
    import torch

    torch.set_num_threads(case.threads)
    device = pick_device(case.device)
    if device.type not in ("cpu", "cuda"):
        return Peak(reason=f"nothing counts the memory of a {device.type} device")
    if device.type == "cuda" and case.engine in OUTSIDE_TORCH:
        return Peak(reason=f"torch does not see what {case.engine} takes of the GPU's memory")
    engines.available(case.engine, case.device)  # imports what the engine needs, so that bare_bytes has it
    bare = torch.cuda.memory_allocated(device) if device.type == "cuda" else resident("VmRSS")
    if bare is None:
        return Peak(reason=f"this system has no {STATUS}")
    source = open_source(case.source)
    shape = source.shape
    engine = engines.open_engine(
        case.engine, source.net, shape, precision=case.precision, device=case.device, threads=case.threads
    )
    del source  # the engine has a copy of its own
    call = engine.ready(images(case.batch, shape))
    for _ in range(CALLS):
        call()
    highest = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident("VmHWM")
    return Peak(highest, bare)


def resident(field: str) -> int | None:
    """VmRSS or VmHWM of this process in bytes; None where the system does not say."""
    try:
        line = next(x for x in STATUS.read_text().splitlines() if x.startswith(f"{field}:"))
    except (OSError, StopIteration):
        return None
    return int(line.split()[1]) * 1024
