"""The house stays as designed: ranks, no cycle, torch only where it may be, and ceilings on sizes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "convatlas"
RANKS = (
    (
        *("version", "errors", "files", "units", "record", "layout", "paper", "table", "result", "catalogue"),
        *("claims", "explaining", "beside", "paired", "phrases", "uncollected"),
    ),
    (
        "layers",
        "account",
        "data",
        "weights",
        "features",
        "foreign",
        "conventions",
        "onnx_account",
        "memory",
        "effective",
    ),
    ("networks", "classifier", "split", "opening", "engines"),
    ("train", "measure", "ship"),
    ("compare", "charts", "pages", "report", "lecture", "branches", "diagram"),
    ("experiments", "demo", "cli", "__main__", "__init__"),
)
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
NO_TORCH_AT_IMPORT = (0, 4, 5)
FILE_LINES, FUNCTION_LINES, ARGUMENTS = 400, 60, 8

MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [
    *MODULES,
    *sorted(p for d in ("tests", "tools", "benchmarks", "examples") for p in (PACKAGE.parent / d).rglob("*.py")),
]


def room(path: Path) -> str:
    """The top-level module or folder that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, at_module_level_only: bool = False) -> set[str]:
    """Dotted names of what a file imports, relative ones made absolute."""
    tree = ast.parse(path.read_text())
    later = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) or _for_types_only(n)]
    inside = {id(n) for part in later for n in ast.walk(part)}
    found = set()
    package = ("convatlas", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree):
        if at_module_level_only and id(node) in inside:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, (node.module,))))
            found |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return found


def _for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def of_ours(names: set[str]) -> set[str]:
    """The rooms that are imported; a name that is no room comes from the package itself."""
    parts = [n.split(".") for n in names if n.startswith("convatlas.")]
    return {p[1] if p[1] in RANK else "__init__" for p in parts}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_from_lower_ranks_or_its_own_folder(path: Path) -> None:
    own = room(path)
    assert own in RANK, f"{own} has no rank: give it one in RANKS and in docs/design.md"
    for other in of_ours(imports(path)) - {own}:
        lower = RANK[other] < RANK[own]
        beside = RANK[other] == RANK[own] and RANK[own] in (0, 1, 2, 4, 5)
        assert lower or beside, f"{path.name} (rank {RANK[own]}) imports {other} (rank {RANK[other]})"


def test_there_is_no_import_cycle() -> None:
    graph = {name: set() for name in RANK}
    for path in MODULES:
        graph[room(path)] |= of_ours(imports(path)) - {room(path)}
    graph.pop("__init__"), graph.pop("__main__")
    while graph:
        free = [name for name, needs in graph.items() if not needs & graph.keys()]
        assert free, f"import cycle among {sorted(graph)}"
        for name in free:
            del graph[name]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_torch_is_imported_only_where_it_may_be(path: Path) -> None:
    names = {n.split(".")[0] for n in imports(path, at_module_level_only=True)}
    assert "torchvision" not in names
    if RANK[room(path)] in NO_TORCH_AT_IMPORT:
        assert "torch" not in names
        others = of_ours(imports(path, at_module_level_only=True)) - {room(path)}
        assert all(RANK[o] in NO_TORCH_AT_IMPORT for o in others), others


LIGHT = ["--help", "--version", "list", "list --json", "claims", "claims lenet", "table resnet50", "table lenet5 --csv"]
LIGHT += ["table vgg16 --explain fc6", "table plain34 --vs resnet34", "table googlenet --mermaid --depth 2"]


@pytest.mark.parametrize("line", LIGHT)
def test_light_verbs_do_not_import_torch(line: str) -> None:
    code = (
        "import sys; from convatlas.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'torchvision', 'numpy', 'altair', 'PIL'} & set(sys.modules); assert not heavy, heavy;"
        "assert code == 0, code"
    )
    done = subprocess.run([sys.executable, "-c", code, *line.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE.parent)))
def test_sizes_stay_under_their_ceilings(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= FILE_LINES, f"{path.name} is longer than {FILE_LINES} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{node.name} has {length} lines"
            a = node.args
            arguments = [x for x in (*a.posonlyargs, *a.args, *a.kwonlyargs) if x.arg not in ("self", "cls")]
            assert len(arguments) <= ARGUMENTS, f"{node.name} has {len(arguments)} arguments"
