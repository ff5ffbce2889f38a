"""The command: a function a verb. Each imports what it needs, so that help and the catalogue answer without torch."""

import os
import sys
from collections.abc import Sequence

from cyclopts import CycloptsError

from ..errors import ConvAtlasError
from . import (
    comparing,
    data,
    evaluating,
    experimenting,
    measuring,
    networks,
    shipping,
    table,
    training,
    transferring,
)  # each registers its verbs
from .app import app


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and give its exit code: 0 done, 1 failed, 2 usage, 3 data, 4 checkpoint or bundle."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except (ConvAtlasError, CycloptsError, KeyboardInterrupt, BrokenPipeError, Exception) as error:
        if debug:
            raise
        return _fault(error)
    return 0


def _fault(error: BaseException) -> int:
    """One line on stderr for any error, and its exit code."""
    if isinstance(error, BrokenPipeError):  # the reader of our output is gone, as after `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, KeyboardInterrupt):
        print("convatlas: stopped", file=sys.stderr)
        return 130
    line = " ".join(str(error).split())
    code = getattr(error, "exit_code", 1)
    if isinstance(error, CycloptsError):
        code = 2
        line += " `convatlas --help` shows the verbs, `convatlas VERB --help` a verb's options."
    elif not isinstance(error, ConvAtlasError):
        line = f"unexpected {type(error).__name__}: {line}; run again with --debug for the traceback and report it"
    print(f"convatlas: {line}", file=sys.stderr)
    return code


__all__ = [
    "app",
    "comparing",
    "data",
    "evaluating",
    "experimenting",
    "main",
    "measuring",
    "networks",
    "shipping",
    "table",
    "training",
    "transferring",
]
