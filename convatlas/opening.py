"""Networks of any origin: the catalogue's, torchvision's, timm's, and those of a file or a package."""

import importlib
import importlib.util
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from .account import account
from .errors import BadInput, ConvAtlasError, UnknownName, UsageError
from .layers import drop_heads
from .networks import NETWORKS, build
from .onnx_account import account_onnx
from .table import Shape, Table

USUAL: Shape = (3, 224, 224)
LIBRARIES = ("torchvision", "timm")
SIZES = ("input_size", "input_shape", "example_input_array")  # a module's own word for its input; the last, Lightning's
OWN = str(Path(__file__).parent)
LIBRARY_FOLDERS = ("site-packages", "dist-packages", f"{Path(sys.base_prefix, 'lib')}", "<frozen")


@dataclass(frozen=True)
class Opened:
    """A network in evaluation mode, the shapes that it takes, and the name that it was opened by."""

    net: nn.Module
    inputs: tuple[Shape, ...]
    name: str


def open_network(name: str, input: Shape | None = None, *, meta: bool = True, training: bool = False) -> Opened:
    """Builds the network of that name, without weights: nothing is downloaded.

    `name` is a network of the catalogue, `torchvision:resnet50`, `timm:resnet50`, `file.py:callable` or
    `package.module:callable`. The callable takes no arguments and gives an nn.Module; a module itself does as well.
    This runs the code of that file or package. `input` is (C,H,W), or a shape with its batch; without it, it is the
    network's own, which a file's network may state as `input_size`, or else 3x224x224. Auxiliary classifiers, which
    nothing but training uses, are dropped, but not with `training`, which gives it in training mode.

    On the meta device where the constructor allows it and `meta` is true, else on the CPU. The global random state of
    torch is left as it was. Raises UnknownName, BadInput, and UsageError where a library or a module is missing or the
    opened code fails, with file and line.
    """
    opened = _open(name, input, meta)
    if training:
        opened.net.train()
    else:
        opened.net.eval()
        drop_heads(opened.net)
    return opened


def _open(name: str, input: Shape | None, meta: bool) -> Opened:
    origin, colon, inner = name.rpartition(":")
    if not colon:
        if name.endswith(".py"):
            raise UsageError(f"{name} does not say which network; write {name}:callable")
        return _of_catalogue(name, input, meta)
    if origin == "torchvision":
        return _of_torchvision(name, inner, input, meta)
    if origin.partition(":")[0] == "timm":
        return _of_timm(name, name.partition(":")[2], input, meta)
    return _of_code(name, origin, inner, input, meta)


def account_named(name: str, input: Shape | None = None) -> Table:
    """The account of any network that `open_network` opens, and of an ONNX file, which is not run.

    A forward that reads the values of its own buffers is built again with them.
    """
    if name.endswith(".onnx"):
        return account_onnx(name, input)
    opened = open_network(name, input)
    try:
        return account(opened.net, opened.inputs, name=name)
    except BadInput as error:
        if "reads the values" not in str(error):
            raise
    opened = open_network(name, input, meta=False)
    return account(opened.net, opened.inputs, name=name)


# ---- Origins ---------------------------------------------------------------------------------------------------------


def _of_catalogue(name: str, input: Shape | None, meta: bool) -> Opened:
    if name not in NETWORKS:
        raise UnknownName("network", name, NETWORKS, "`convatlas list` shows all")
    shape = _checked(input) if input is not None else NETWORKS[name].input
    if len(shape) not in (3, 4):
        raise BadInput(f"{name} takes channels x height x width; {'x'.join(map(str, shape))} is none")
    channels, height, width = shape[-3:]
    return _opened(lambda: build(name, channels=channels, input=(height, width)), shape, name, meta)


def _of_torchvision(name: str, inner: str, input: Shape | None, meta: bool) -> Opened:
    models = _library("torchvision.models", name)
    known = models.list_models(module=models)
    if inner not in known:
        raise UnknownName("torchvision classification network", inner, known, "torchvision.models lists all")
    heads = {"aux_logits": False, "init_weights": False} if inner in ("googlenet", "inception_v3") else {}
    side = 299 if inner == "inception_v3" else 224
    shape = _checked(input) if input is not None else (3, side, side)
    return _opened(lambda: models.get_model(inner, weights=None, **heads), shape, name, meta)


def _of_timm(name: str, inner: str, input: Shape | None, meta: bool) -> Opened:
    timm = _library("timm", name)
    if ":" in inner or "/" in inner or not timm.is_model(inner):  # hf-hub: and local-dir: would load files
        raise UnknownName("timm network", inner, timm.list_models(), "timm.list_models() lists all")
    opened = _opened(lambda: timm.create_model(inner, pretrained=False), input or USUAL, name, meta)
    return opened if input is not None else Opened(opened.net, (_own_input(opened.net),), name)


def _of_code(name: str, origin: str, inner: str, input: Shape | None, meta: bool) -> Opened:
    file = Path(origin)
    folder = file.parent if origin.endswith(".py") else Path()
    with _importable(folder.resolve()), torch.random.fork_rng(devices=[]):
        with _blamed(origin):
            module = _load(file) if origin.endswith(".py") else _import(origin)
        found: Any = module
        for part in inner.split("."):
            if not hasattr(found, part):
                names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
                raise UnknownName("callable", part, names, f"{origin} has none of its own")
            found = getattr(found, part)
        if isinstance(found, nn.Module):
            return Opened(found, (_checked(input) if input is not None else _own_input(found),), name)
        if not callable(found):
            raise BadInput(
                f"{name} is {type(found).__name__}; give a callable that takes no arguments, or an nn.Module"
            )
        opened = _opened(found, input or USUAL, name, meta, origin)
    return opened if input is not None else Opened(opened.net, (_own_input(opened.net),), name)


def _opened(make: Callable[[], Any], shape: Shape, name: str, meta: bool, code: str = "") -> Opened:
    net = _make(make, name, meta, code)
    if not isinstance(net, nn.Module):
        raise BadInput(f"{name} gave {type(net).__name__}; it must give an nn.Module")
    return Opened(net, (_checked(shape),), name)


def _make(make: Callable[[], Any], name: str, meta: bool, code: str) -> Any:
    with torch.random.fork_rng(devices=[]):
        if meta:
            try:
                with warnings.catch_warnings(), torch.device("meta"):
                    warnings.simplefilter("ignore")  # values that are copied to the meta device are lost, as is meant
                    return make()
            except ConvAtlasError:
                raise
            except Exception:  # a constructor that looks at values; what is truly wrong comes up again
                pass
        with _blamed(code or name):
            return make()


# ---- Inputs ----------------------------------------------------------------------------------------------------------


def _own_input(net: Any) -> Shape:
    """What a module says that it takes: timm's configuration, or an attribute; else the usual."""
    for config in ("pretrained_cfg", "default_cfg"):
        held = getattr(net, config, None)
        size = _shape(held.get("input_size")) if isinstance(held, dict) else None
        if size:
            return size
    for attribute in SIZES:
        given = getattr(net, attribute, None)
        size = _shape(given.shape if isinstance(given, Tensor) else given)
        if size:
            return size
    return USUAL


def _shape(size: Any) -> Shape | None:
    sound = isinstance(size, (tuple, list)) and len(size) > 2 and all(type(n) is int and n > 0 for n in size)
    return tuple(size) if sound else None


def _checked(shape: Shape) -> Shape:
    if not shape or not all(type(n) is int and n > 0 for n in shape):
        raise BadInput(f"input {shape!r} is no shape; give whole numbers above zero, as in (3, 224, 224)")
    return tuple(shape)


# ---- Other people's code ---------------------------------------------------------------------------------------------


def _library(package: str, name: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        own = package.partition(".")[0]
        raise UsageError(f"{name} needs {own}, which is not installed; pip install {own}") from None


def _load(file: Path) -> ModuleType:
    if not file.is_file():
        raise UsageError(f"no file at {file}; give a Python file and a callable, like net.py:make")
    key = f"_opened_{re.sub(r'[^0-9a-zA-Z]', '_', str(file.resolve()))}"  # its own name could hide a package
    spec = importlib.util.spec_from_file_location(key, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[key]
        raise
    return module


def _import(origin: str) -> ModuleType:
    try:
        return importlib.import_module(origin)
    except ModuleNotFoundError as error:
        if error.name and (origin == error.name or origin.startswith(f"{error.name}.")):
            raise UnknownName(
                "module", origin, LIBRARIES, "give a module that Python can import, or a file.py"
            ) from None
        raise
    except (ValueError, TypeError) as error:  # "", ".x"
        raise UsageError(f"{origin!r} is no module; give package.module:callable or file.py:callable") from error


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """The folder comes first on the path, as it does for `python file.py` and `python -m`."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


@contextmanager
def _blamed(origin: str) -> Iterator[None]:
    """Turns what the opened code raises into one line with its place."""
    try:
        yield
    except ConvAtlasError:
        raise
    except SyntaxError as error:
        raise UsageError(f"{error.filename}, line {error.lineno}: SyntaxError: {error.msg}") from error
    except (Exception, SystemExit) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        raise UsageError(f"{_place(error, origin)}: {said}") from error


def _place(error: BaseException, origin: str) -> str:
    """The innermost line that is no library's and not ours."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not f.filename.startswith(OWN) and not any(d in f.filename for d in LIBRARY_FOLDERS)]
    return f"{theirs[-1].filename}, line {theirs[-1].lineno}" if theirs else origin
