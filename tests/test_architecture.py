"""Imports point one way, nothing imports a command, and heavy libraries are imported where they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from vqdist.cli import COMMANDS

PACKAGE = Path(__file__).parents[1] / "vqdist"
LAZY = {
    "wandb",
    "webdataset",
    "nibabel",
    "matplotlib",
    "fsspec",
    "huggingface_hub",
    "openpyxl",
    "vector_quantize_pytorch",
    "monai",
    "torchvision",
}
# A module imports from its own package and from packages of lower levels, or of its own level in another package.
LEVELS = {
    "foundation": 0,
    "config": 1,
    "metrics": 1,
    "distributed": 1,
    "models": 2,
    "data": 2,
    "runs": 3,
    "plotting": 3,
    "tracking": 4,
    "training": 5,
    "inference": 6,
    "evaluation": 7,
    "diagnosis": 8,
    "benchmarks": 8,
    "publishing": 8,
}
COMMAND_LEVEL, CLI_LEVEL = 9, 10


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, *, top_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py") if "configs" not in path.parts}


def level_of(module: str) -> int:
    """Return the level of a module of vqdist; the package itself is at the bottom, its lazy exports aside."""
    parts = module.split(".")
    if len(parts) == 1:
        return 0
    if parts[1] in LEVELS:
        return LEVELS[parts[1]]
    return COMMAND_LEVEL if parts[1] in COMMANDS else CLI_LEVEL


def test_every_package_has_a_level() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages == LEVELS.keys()


def test_every_top_level_module_is_a_command_or_starts_one() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == {*COMMANDS, "__init__", "__main__", "cli"}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nothing_imports_a_command(name: str) -> None:
    assert not {found for found in imports_of(MODULES[name]) if found.removeprefix("vqdist.") in COMMANDS}


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"vqdist"}))
def test_imports_point_one_way(name: str) -> None:
    for found in imports_of(MODULES[name]):
        if found.split(".")[0] == "vqdist":
            assert level_of(found) <= level_of(name), f"{name} imports {found}"


def test_no_imports_in_circles() -> None:
    edges = {
        name: {found for found in imports_of(path, top_only=True) if found in MODULES and found != name}
        for name, path in MODULES.items()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for found in edges[name]:
                visit(found, (*path, name))
            done.add(name)

    for name in sorted(edges):
        visit(name, ())


@pytest.mark.parametrize("name", sorted(MODULES))
def test_heavy_libraries_are_imported_only_where_they_are_used(name: str) -> None:
    top = {found.split(".")[0] for found in imports_of(MODULES[name], top_only=True)}
    assert not top & LAZY


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_needs_no_torch(command: str) -> None:
    code = f"""
import runpy, sys
sys.argv = ["x", "--help"]
try:
    runpy.run_module("vqdist.{command}", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "default" in done.stdout
