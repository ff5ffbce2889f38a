"""The maps of a network's stages, for detection, segmentation, retrieval: the same modules, up to the last one asked.

What is known of a stage (channels, stride) comes from its account on shapes, so that no image has to be run.
"""

import random
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .account import account
from .account.untouched import untouched
from .errors import BadInput, UnknownName
from .layers import WithHeads
from .table import Row

SIDE = 224  # of the default input
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Stage:
    """What one module at the top of a network gives: a map (N,channels,H,W), one position every `stride` pixels."""

    label: str
    shape: Shape
    stride: int  # along the height; of a map of 1x1 the whole input's height
    single: bool  # a map of 1x1, as global pooling gives it


class Features(nn.Module):
    """A network's modules up to a stage, under their own labels. (N,C,H,W) -> label -> (N,channels,H/stride,W/stride)

    `labels`, `channels` and `strides` belong together, in the network's order.
    """

    def __init__(self, modules: dict[str, nn.Module], given: Sequence[Stage], copied: frozenset[str]):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.labels = tuple(stage.label for stage in given)
        self.channels = tuple(stage.shape[1] for stage in given)
        self.strides = tuple(stage.stride for stage in given)
        self.copied = copied  # labels whose map a later module works on in place

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        out = OrderedDict()
        for label, module in self._modules.items():
            assert module is not None
            x = module(x)
            if label in self.labels:
                out[label] = x.clone() if label in self.copied else x
        return out


def features(net: nn.Module, stages: Sequence[str | int], *, input: tuple[int, int, int] | None = None) -> Features:
    """The maps that stages of a network give, by label: what a feature pyramid or a decoder is put on.

    `stages` are labels of the modules at the network's top level ("conv2", "pool5") or strides (4, 8, 16, 32: the last
    stage with that stride). Auxiliary heads are passed over. Modules and parameters are the network's own, so training
    one trains the other; nothing after the last stage asked for is run. `channels` and `strides` are those at `input`,
    (channels, height, width), by default 224x224.

    Raises UnknownName for a label, BadInput for a stride that no stage has, for a stage that gives no map, and for a
    network whose top level is not one module after the other.
    """
    shape = (2, *(_default(net) if input is None else input))  # two images, since batch norm in training wants them
    chain = _chain(net, shape)
    wanted = _wanted(stages, chain)
    last = None if any(isinstance(w, int) for w in wanted) else max(list(chain).index(str(w)) for w in wanted)
    known, fault = _walk(chain, shape, last)
    labels = {_by_stride(known, w, shape) if isinstance(w, int) else w for w in wanted}
    given = [stage for stage in known if stage.label in labels]
    if len(given) < len(labels):
        missing = next(label for label in chain if label in labels - {s.label for s in known})
        raise BadInput(f"{missing} gives no feature map at input {_times(shape)}: {fault}")
    names = list(chain)
    modules = {name: chain[name] for name in names[: names.index(given[-1].label) + 1]}
    return Features(modules, given, _overwritten(modules, labels, shape))


def _chain(net: nn.Module, shape: Shape) -> dict[str, nn.Module]:
    """The modules at the top by label, in the order in which they run."""
    heads = net.heads if isinstance(net, WithHeads) else {}
    found = {n: m for n, m in net._modules.items() if m is not None and n not in heads}
    known = isinstance(net, WithHeads) or type(net).forward is nn.Sequential.forward
    if found and isinstance(net, nn.Sequential) and (known or _runs_in_order(net, found.values(), shape)):
        return found
    raise BadInput(
        f"{type(net).__name__} is no chain of stages: its top level must be an nn.Sequential, as of the networks "
        "of `convatlas list`"
    )


def _runs_in_order(net: nn.Module, modules: Iterable[nn.Module], shape: Shape) -> bool:
    """Whether a forward of its own gives each module what the one before gave, as a trial on the meta device shows."""
    x = torch.empty(shape, device="meta")
    here: list[object] = [x]
    in_order: list[bool] = []

    def watch(module: nn.Module, given: tuple[object, ...], output: object) -> None:
        in_order.append(given[0] is here[0])
        here[0] = output

    handles = [module.register_forward_hook(watch) for module in modules]
    try:
        with _harmless(net), suppress(Exception):
            net.eval()
            return _on_meta(net, x) is here[0] and len(in_order) == len(handles) and all(in_order)
    finally:
        for handle in handles:
            handle.remove()
    return False


def _wanted(stages: Sequence[str | int], chain: dict[str, nn.Module]) -> tuple[str | int, ...]:
    wanted = (stages,) if isinstance(stages, str | int) else tuple(stages)
    if not wanted:
        raise BadInput(f"no stage asked for; give labels or strides, for example [{next(reversed(chain))!r}]")
    for one in wanted:
        if isinstance(one, bool) or not isinstance(one, str | int):
            raise BadInput(f"stage {one!r} is neither a label nor a stride; give for example 'conv4' or 16")
        if isinstance(one, str) and one not in chain:
            raise UnknownName("stage", one, chain)
    return wanted


def _default(net: nn.Module) -> tuple[int, int, int]:
    channels = next((m.in_channels for m in net.modules() if isinstance(m, nn.Conv2d)), 3)
    return channels, SIDE, SIDE


def _walk(chain: dict[str, nn.Module], shape: Shape, last: int | None) -> tuple[list[Stage], str]:
    """The stages up to number `last`, or to where maps end, and what ended them.

    Each is accounted for alone: what comes after the maps may be made for inputs of another size.
    """
    known: list[Stage] = []
    here, stride, single = shape, 1, False
    for number, (label, module) in enumerate(chain.items()):
        if last is not None and number > last:
            break
        try:
            with _harmless(module):
                rows = account(module.eval(), here).rows  # in training a module may drop parts at random
        except BadInput as error:
            return known, str(error)
        here = _output(module, here, rows)
        if len(here) != 4:
            return known, f"the output of {label} has the shape {here[1:]} for an image"
        if rows:  # a module without any, such as dropout in evaluation, gives what it gets
            single = rows[-1].stride is None
            stride = shape[2] if rows[-1].stride is None else stride * rows[-1].stride[0]
        known.append(Stage(label, here, stride, single))
    return known, ""


def _output(module: nn.Module, shape: Shape, rows: Sequence[Row]) -> Shape:
    """The shape that a module gives, from a run on the meta device: the account has no rows for views."""
    with _harmless(module), suppress(Exception):  # a user's own module may ask for values, which are not there
        return tuple(_on_meta(module.eval(), torch.empty(shape, device="meta")).shape)
    return rows[-1].output if rows else shape


def _by_stride(known: Sequence[Stage], stride: int, shape: Shape) -> str:
    """The last stage of that stride; maps of 1x1 have none."""
    found = {stage.stride: stage.label for stage in known if not stage.single}
    if stride not in found:
        listed = ", ".join(f"{s} ({label})" for s, label in found.items())
        raise BadInput(f"no stage has stride {stride} at input {_times(shape)}; there are {listed}")
    return found[stride]


def _overwritten(modules: dict[str, nn.Module], labels: set[str], shape: Shape) -> frozenset[str]:
    """The labels whose map a later module works on in place, in training or in evaluation, directly or through a view.

    Torch counts the writes to a tensor's memory, on the meta device too, where nothing is computed. Where the modules
    cannot run there, or toss a coin that decides what they do, every map counts as overwritten.
    """
    found: set[str] = set()
    for training in (True, False):
        with _harmless(*modules.values()):
            for module in modules.values():
                module.train(training)
            kept: list[tuple[str, Tensor, int]] = []
            x = torch.empty(shape, device="meta")
            coins = torch.get_rng_state(), random.getstate()
            try:
                for label, module in modules.items():
                    x = _on_meta(module, x)
                    if label in labels:
                        kept.append((label, x, x._version))
            except Exception:  # as above
                return frozenset(labels)
            if not torch.equal(torch.get_rng_state(), coins[0]) or random.getstate() != coins[1]:
                return frozenset(labels)
            found |= {label for label, map_, version in kept if map_._version != version}
    return frozenset(found)


@contextmanager
def _harmless(*modules: nn.Module) -> Iterator[None]:
    """Modules may be run on the meta device here, and are afterwards as they were, their modes too."""
    every = [m for module in modules for m in module.modules()]
    with untouched(every), torch.random.fork_rng(devices=[]), torch.no_grad():
        yield


def _on_meta(module: nn.Module, x: Tensor) -> Tensor:
    """Runs a module without its weights' values; those are neither read nor copied."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    given: Tensor = torch.func.functional_call(module, {n: t.to("meta") for n, t in tensors.items()}, (x,))
    return given


def _times(shape: Shape) -> str:
    return "x".join(map(str, shape[1:]))
