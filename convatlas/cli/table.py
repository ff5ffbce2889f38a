"""The account of any network: table, and what can be asked of it."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from .. import units
from ..errors import UsageError
from .app import app, say

if TYPE_CHECKING:
    from ..table import Shape, Table

OPTION = Parameter(negative=())


@Parameter(name="*")
@dataclass(frozen=True)
class Form:
    """How the answer is given."""

    depth: Annotated[
        int | None,
        Parameter(help="Names of the module path that make a row; 1, the paper's table, or 0, a row an operation."),
    ] = None
    by: Annotated[
        Literal["params", "macs", "backward-macs", "activations", "saved"] | None,
        Parameter(help="Largest first."),
    ] = None
    json: Annotated[bool, OPTION] = False
    csv: Annotated[bool, OPTION, Parameter(help="A line a row, exact integers.")] = False
    markdown: Annotated[bool, OPTION, Parameter(help="A GitHub table.")] = False
    mermaid: Annotated[bool, OPTION, Parameter(help="A flowchart that GitHub draws.")] = False
    html: Annotated[Path | None, Parameter(help="Write a page with the network's diagram, which opens offline.")] = None


@Parameter(name="*")
@dataclass(frozen=True)
class Question:
    """What is asked instead of the table; one at a time."""

    explain: Annotated[str | None, Parameter(help="A row or stage, with its formulas filled in: --explain conv1.")] = (
        None
    )
    vs: Annotated[str | None, Parameter(help="Another network, to be set beside this one stage by stage.")] = None
    tool: Annotated[
        Literal["torch", "fvcore", "thop", "ptflops", "torchinfo", "paper"] | None,
        Parameter(name="--as", help="The total as another tool prints it."),
    ] = None
    memory: Annotated[bool, OPTION, Parameter(help="Memory of a training step and of inference by batch size.")] = False
    fit: Annotated[str | None, Parameter(help="The largest batch of a training step that fits: --fit 24GB.")] = None

    def asked(self) -> list[str]:
        given = {"--explain": self.explain, "--vs": self.vs, "--as": self.tool, "--fit": self.fit}
        return [option for option, value in given.items() if value] + ["--memory"] * self.memory


@Parameter(name="*")
@dataclass(frozen=True)
class Pass:
    """What goes through the network."""

    input: Annotated[str | None, Parameter(help="Channels, height and width, for example 1x64x64.")] = None
    batch: Annotated[int, Parameter(help="Images at once.")] = 1
    precision: Annotated[
        Literal["float32", "bfloat16", "float16", "amp"], Parameter(help="For --memory and --fit.")
    ] = "float32"
    optimiser: Annotated[Literal["sgd", "momentum", "adam"], Parameter(help="For --memory and --fit.")] = "momentum"


@app.command(sort_key=2)
def table(
    name: Annotated[
        str,
        Parameter(help="A network of `convatlas list`, torchvision:NAME, timm:NAME, file.py:callable, an .onnx file."),
    ],
    /,
    *,
    form: Form = Form(),
    question: Question = Question(),
    images: Pass = Pass(),
) -> None:
    """Account for a network: shapes, parameters, MACs, memory and receptive field.

    A row is a stage under its paper's label; with --depth 0, as in --json and --csv, an operation.

    convatlas table googlenet --by macs

    convatlas table alexnet_one_tower --explain conv1

    convatlas table inception_naive --vs inception_reduced

    convatlas table my_net.py:make --input 3x128x128 --html net.html

    convatlas table timm:convnext_tiny --as fvcore

    convatlas table resnet50 --fit 24GB --precision amp
    """
    forms = [f for f in ("json", "csv", "markdown", "mermaid", "html") if getattr(form, f)]
    if len(forms) > 1:
        raise UsageError("--json, --csv, --markdown, --mermaid and --html exclude each other; give one")
    if len(question.asked()) > 1:
        raise UsageError(f"{' and '.join(question.asked())} are several questions; ask one at a time")
    if form.depth is not None and form.depth < 0:
        raise UsageError(f"--depth {form.depth} is no number of names; give 0 for every operation, or 1, 2, ...")
    if images.batch < 1:
        raise UsageError(f"--batch {images.batch} is no number of images; give 1 or more")
    if question.explain is not None:
        from ..explaining import explain

        found = explain(_account(name, images), question.explain)
        say(_json(found.as_dict()) if form.json else _formed(found, form))
    elif question.vs is not None:
        from ..beside import beside

        both = beside(_account(name, images), _account(question.vs, images), form.depth or 1)
        say(_formed(both, form))
    elif question.tool is not None:
        _restate(name, question.tool, form, images)
    elif question.memory or question.fit is not None:
        _memory(name, question.fit, form, images)
    else:
        _show(_account(name, images), form)


def _show(account: "Table", form: Form) -> None:
    if form.html is not None or form.mermaid:
        from ..diagram import mermaid, page

        say(str(page(account, form.html)) if form.html is not None else mermaid(account, form.depth or 1))
        return
    depth = form.depth
    if depth is None:
        depth = 0 if form.json or form.csv else 1
    account = account.stages(depth) if depth else account
    if form.by is not None:
        account = account.by(form.by.replace("-", "_"))
    say(_formed(account, form))


def _formed(answer: Any, form: Form) -> str:
    """The answer in the form that was asked for; text fits the terminal, or COLUMNS where that is set."""
    for name in ("json", "csv", "markdown"):
        if getattr(form, name):
            if not hasattr(answer, f"as_{name}"):
                raise UsageError(f"--{name} is no form of this answer; give --json or none")
            return str(getattr(answer, f"as_{name}")())
    if form.mermaid or form.html is not None:
        raise UsageError("--mermaid and --html draw one network; leave the question out")
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else None
    return str(answer.as_text(width) if hasattr(answer, "by") else answer.as_text())


def _account(name: str, images: Pass) -> "Table":
    """The catalogue's own table where it answers, without torch; else a walk."""
    from ..catalogue import catalogue
    from ..catalogue import table as known_table

    known = catalogue().networks
    shape = None if images.input is None else _shape(images.input)
    if ":" not in name and not name.endswith((".onnx", ".py")):
        own = catalogue().entry(name).input
        if images.batch == 1 and (shape is None or shape == own):
            return known_table(name)
    from ..opening import account_named, open_network

    if images.batch > 1 and shape is None:
        shape = known[name].input if name in known else open_network(name).inputs[0][-3:]
    return account_named(name, shape and _batched(shape, images.batch))


def _batched(shape: "Shape", batch: int) -> "Shape":
    return (batch, *shape) if batch > 1 else shape


def _shape(given: str) -> "Shape":
    try:
        channels, height, width = units.read_shape(given)
    except ValueError:
        raise UsageError(f"--input {given!r} is no input; write channels x height x width, like 3x224x224") from None
    return channels, height, width


def _restate(name: str, tool: str, form: Form, images: Pass) -> None:
    from ..conventions import TOOLS, restate
    from ..opening import open_network

    opened = open_network(name, None if images.input is None else _batched(_shape(images.input), images.batch))
    shape = opened.inputs[0]
    if images.input is None:
        shape = _batched(shape, images.batch)
    total, sentence = restate(opened.net, shape, tool), TOOLS[tool].sentence
    if form.json:
        say(_json({"network": name, "input": shape, "tool": tool, "total": total, "convention": sentence}))
    else:
        say(f"{units.exact(total)}\n{sentence}")


def _memory(name: str, budget: str | None, form: Form, images: Pass) -> None:
    from ..memory import fit, memory
    from ..opening import open_network

    opened = open_network(name, None if images.input is None else _shape(images.input), training=True)
    options: dict[str, Any] = {"precision": images.precision, "optimiser": images.optimiser}
    if budget is None:
        say(_formed(memory(opened.net, opened.inputs[0], name=name, **options), form))
        return
    try:
        room = units.read_size(budget)
    except ValueError:
        raise UsageError(f"--fit {budget!r} is no size; write a number with its unit, like 24GB or 8GiB") from None
    largest = fit(opened.net, opened.inputs[0], room, **options)
    if form.json:
        say(_json({"network": name, "bytes": room, "batch": int(largest), "reason": largest.reason, **options}))
    else:
        say(f"{int(largest)}" + (f": {largest.reason}" if largest.reason else ""))


def _json(answer: object) -> str:
    from ..record import to_json

    return to_json(answer)
