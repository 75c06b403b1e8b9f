"""Imports run one way, from the commands down to the errors: no circle, and no arrow back up, in functions neither."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import pytest
from conftest import ROOT

# A part, a module or a package directly below fastnst, imports from itself and from the levels above its own in this list.
LEVELS = (
    {"errors"},
    {"files", "memory", "shipped", "tables", "timing"},
    {"brushwork", "images", "plots"},
    {"data", "losses"},
    {"models"},
    {"checkpoint"},
    {"training", "inference", "optimization"},
    {"evaluation", "web", "benchmark"},
    {"commands"},
)
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}


def sources() -> dict[str, str]:
    """Every module of the package by its dotted name, with its text."""
    found = {}
    for path in (ROOT / "fastnst").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = path.read_text()
    return found


def imported(text: str, modules: dict[str, str]) -> Iterator[str]:
    """What a module imports of the package, wherever in it: modules, or `fastnst.name` for what fastnst itself defines."""
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules or node.module == "fastnst" else node.module for name in full]
        elif isinstance(node, ast.Name | ast.Attribute):
            assert (node.id if isinstance(node, ast.Name) else node.attr) not in ("__import__", "import_module")
        yield from (name for name in names if name.split(".")[0] == "fastnst")


def violations(modules: dict[str, str]) -> list[str]:
    """Every import that the order forbids, and a circle if there is one."""
    wrong, graph = [], {}
    for module, text in modules.items():
        graph[module] = set(imported(text, modules)) - {"fastnst.__version__"}
        if module == "fastnst":  # `fastnst.load` is the library's front door, which nothing inside goes through
            front = {"fastnst.inference.stylizer", "fastnst.checkpoint"}
            wrong += [f"fastnst -> {name}" for name in graph.pop(module) if name not in front]
            continue
        part = module.split(".")[1]
        for name in graph[module]:
            other = name.partition(".")[2].split(".")[0]
            if other != part and LEVEL.get(other, len(LEVELS)) >= LEVEL[part]:
                wrong.append(f"{module} -> {name}")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        wrong.append(" -> ".join(error.args[1]))
    return wrong


def test_imports_run_one_way():
    assert violations(sources()) == []


def test_every_part_has_its_level():
    assert {name.split(".")[1] for name in sources() if "." in name} == set(LEVEL)


@pytest.mark.parametrize(
    "module, line",
    [
        ("fastnst.losses.terms", "from fastnst.training.module import StyleTransfer"),
        ("fastnst.losses.terms", "from fastnst.training import module"),
        ("fastnst.losses.terms", "import fastnst.training.module as training"),
        ("fastnst.losses.terms", "def hidden():\n    from fastnst.models import transform_net"),
        ("fastnst.losses.terms", "from fastnst.losses.recipes import Gatys"),  # a circle within one part
        ("fastnst.losses.terms", "from fastnst.data.files import split"),  # neither of the two is below the other
        ("fastnst.training.module", "from fastnst.inference.stylizer import Stylizer"),
        ("fastnst.web.page", "from fastnst.commands.cli import run"),
        ("fastnst.web.page", "from fastnst import load"),
        ("fastnst.web.page", "import fastnst"),
        ("fastnst", "from fastnst.commands.infer import infer"),
    ],
)
def test_a_wrong_import_is_found(module, line):
    modules = sources()
    modules[module] += f"\n{line}\n"
    assert violations(modules)


def test_the_package_is_imported_without_torch():
    code = (
        "import sys, fastnst; fastnst.load; assert fastnst.__version__ and not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
