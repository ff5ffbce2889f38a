"""A forward pass on shapes in which every call of a module and of a torch function is heard."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..account import Input, account
from ..errors import BadInput
from ..table import Shape, Table

Heard = Callable[[nn.Module, tuple[Any, ...], Any], None]  # module, positional arguments, output
Formula = Callable[..., float]  # of the output, then the call's own arguments


class Refusal(BadInput):
    """It cannot be told what a tool prints."""


class Functions(TorchFunctionMode):
    """Adds up a formula for each call of the functions in `formulas`, and passes all calls on to the walk below."""

    def __init__(self, formulas: dict[Any, Formula], before: Callable[[Any], bool] | None = None):
        super().__init__()
        self.formulas, self.before = formulas, before
        self.total: float = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = self.formulas.get(func)
        if formula is not None and self.before is not None and not self.before(func):
            formula = None
        answer = func(*args, **kwargs)
        if formula is not None:
            try:
                self.total += formula(answer, *args, **kwargs)
            except (TypeError, LookupError, AttributeError) as error:
                name = getattr(func, "__name__", str(func))
                raise Refusal(f"what the tool counts of {name} as it is called here is not known") from error
        return answer


# How these run depends on the device, and with it what a tool that listens to operators sees of them.
RECURRENT = frozenset(f"{name}{end}" for name in ("lstm", "gru", "rnn_tanh", "rnn_relu") for end in ("", "_cell"))


def unknown(table: Table) -> str:
    """Names of the functions of which a tool that counts operators may count anything; empty where there are none."""
    products = [name for name in table.uncounted if not name.startswith("what ")]
    return ", ".join(products + sorted({f"torch.{row.op}" for row in table.rows if row.op in RECURRENT}))


class Listening(nn.Module):
    def __init__(self, net: nn.Module, functions: Functions):
        super().__init__()
        self.net, self.functions = net, functions

    def forward(self, *inputs: Tensor) -> Any:
        with self.functions:
            return self.net(*inputs)


def listen(net: nn.Module, input: Input, heard: Heard | None, functions: Functions | None = None) -> float:
    """One forward pass; gives the sum over functions."""
    net = getattr(net, "_orig_mod", net)
    functions = functions or Functions({})
    listening = Listening(net, functions)
    listening.training = net.training
    with _hooked(net, heard):
        account(listening, input)
    return functions.total


@contextmanager
def _hooked(net: nn.Module, heard: Heard | None) -> Iterator[None]:
    handles = [m.register_forward_hook(heard) for m in net.modules()] if heard else []
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def shape(thing: Any) -> Shape:
    return tuple(thing.shape)


def place(net: nn.Module, module: nn.Module) -> str:
    path = next((path for path, m in net.named_modules() if m is module), "")
    return f"{path or 'the top'} ({type(module).__name__})"


def first(tool: str, net: nn.Module, module: nn.Module, args: tuple[Any, ...]) -> Shape:
    """The shape of the first positional argument, which a hook is given."""
    if not args or not isinstance(args[0], Tensor):
        raise Refusal(f"{tool} stops at {place(net, module)}, which is called without a positional tensor; pass it one")
    return shape(args[0])
