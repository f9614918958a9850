"""What a stage of dvc.yaml imports is among its dependencies: else stale results look fresh."""

import ast
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

# What moves values about and decides none; values themselves are DVC's parameters.
PLUMBING = {"__init__", "cli", "config", "errors", "files", "parallel", "progress"}


def module_file(name: str) -> Path | None:
    path = SRC / Path(*name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def imports(node: ast.AST) -> set[Path]:
    """Files of ours that are imported anywhere below `node`, but for type checking."""
    for_types = {
        id(inner)
        for test in ast.walk(node)
        if isinstance(test, ast.If) and getattr(test.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(test)
    }
    found: set[Path] = set()
    for each in ast.walk(node):
        if id(each) in for_types:
            continue
        names: list[str] = []
        if isinstance(each, ast.Import):
            names = [alias.name for alias in each.names]
        elif isinstance(each, ast.ImportFrom) and each.module:
            names = [each.module, *(f"{each.module}.{alias.name}" for alias in each.names)]
        found |= {file for name in names if (file := module_file(name))}
    return found


def closure(files: set[Path]) -> set[Path]:
    seen: set[Path] = set()
    todo = set(files)
    while todo:
        file = todo.pop()
        seen.add(file)
        if file.stem in PLUMBING:
            continue
        todo |= imports(ast.parse(file.read_text())) - seen
    return seen


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_module_that_decides_a_result_is_a_dependency(stage: str) -> None:
    tree = ast.parse((SRC / "ecgbeats" / "cli.py").read_text())
    (command,) = (
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == stage
    )
    declared = [ROOT / dep for dep in STAGES[stage]["do"]["deps"] if dep.startswith("src/")]
    needed = closure(imports(command))
    missing = {
        file.relative_to(ROOT).as_posix()
        for file in needed
        if file.stem not in PLUMBING
        and not any(file == dep or dep in file.parents for dep in declared)
    }
    assert not missing
