"""The errors that a user can cause; each message says what was given, what is expected and what to do.

ConvAtlasError              exit 1
├── UsageError              exit 2   a wrong command line, name, recipe or input
│   ├── UnknownName                  no network, recipe, field or data set of that name
│   ├── BadInput                     a shape that the network cannot take
│   ├── BadRecipe                    a recipe's field with a value it cannot have
│   └── MissingExtra                 a package that is not installed
├── BadData                 exit 3   a data set that cannot be used as it is
│   └── BadImage                     one file that cannot be decoded
├── BadCheckpoint           exit 4   weights, a checkpoint or a run folder that cannot be used
├── BadBundle               exit 4   a bundle that is damaged or does not answer as it did
├── RunFailed               exit 1   work that could not be finished
│   ├── NonFinite                    NaN or infinity in a loss or a gradient
│   ├── SaveFailed                   the disk refused a file
│   └── ExportMismatch               an exported file that does not answer like its bundle
└── Stopped                 exit 128 + signal; work is saved and can be resumed
"""

from collections.abc import Iterable
from difflib import get_close_matches


class ConvAtlasError(Exception):
    """Any error that a user can cause; the command prints it as one line and exits with `exit_code`."""

    exit_code = 1


class UsageError(ConvAtlasError, ValueError):
    exit_code = 2


class UnknownName(UsageError, LookupError):
    """Names near the given one are suggested."""

    def __init__(self, kind: str, given: str, names: Iterable[str], hint: str = ""):
        known = sorted(names)
        close = get_close_matches(given, known, n=3, cutoff=0.6)
        if close:
            rest = f"did you mean {', '.join(close)}?"
        elif hint:
            rest = hint
        else:
            rest = f"known: {', '.join(known)}"
        super().__init__(f"no {kind} named {given!r}; {rest}")


class BadInput(UsageError):
    pass


class BadRecipe(UsageError):
    pass


class MissingExtra(UsageError, ImportError):
    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(f"{purpose} needs {package}, which is not installed; pip install 'convatlas[{extra}]'")


class BadData(ConvAtlasError, ValueError):
    exit_code = 3


class BadImage(BadData):
    pass


class BadCheckpoint(ConvAtlasError, ValueError):
    exit_code = 4


class BadBundle(ConvAtlasError, ValueError):
    exit_code = 4


class RunFailed(ConvAtlasError, RuntimeError):
    pass


class NonFinite(RunFailed):
    pass


class SaveFailed(RunFailed, OSError):
    pass


class ExportMismatch(RunFailed):
    pass


class Stopped(ConvAtlasError):
    """A signal ended the work at a step's end, after a checkpoint."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.exit_code = 128 + signal
