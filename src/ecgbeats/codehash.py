"""Which code decides a result, by its syntax: comments, docstrings and layout do not count.

A hash over modules and all that they import, so that a result can be told from one that
the present code would give, without running it.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

from ecgbeats.files import sha256_text

_SRC = Path(__file__).parents[1]
_MODELS = "ecgbeats.models"

# What moves values about and decides none.
_PLUMBING = {"cli", "codehash", "config", "errors", "files", "parallel", "progress"}


def code_hash(
    modules: Iterable[str], *, model: str | None = None, without: Collection[str] = ()
) -> str:
    """Hash of `modules` and of what they import, directly or not.

    Parameters
    ----------
    modules : iterable of str
        Dotted names in this package.
    model : str, optional
        Of the networks in `ecgbeats.models`, count this one alone, so that another one
        can be added without a change here.
    without : collection of str
        Dotted names of modules or packages that do not count, nor what they import.

    Returns
    -------
    str
        Sixteen hexadecimal digits.
    """
    seen: dict[str, str] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        if name in seen or _left_out(name, without):
            continue
        path = _file_of(name)
        if path is None:
            continue
        only = model if name == _MODELS else None
        seen[name], imported = _read(path.read_text(encoding="utf-8"), name, only)
        todo += imported
    return sha256_text("\n".join(f"{name} {seen[name]}" for name in sorted(seen)))[:16]


@cache
def _read(source: str, name: str, model: str | None) -> tuple[str, tuple[str, ...]]:
    """Syntax and imports of a module."""
    nodes = ast.parse(source).body
    if model is not None:
        nodes = _of_model(nodes, model)
    imported = {found for node in nodes for found in _imports(node, name)}
    return "".join(_syntax(node) for node in nodes), tuple(sorted(imported))


def _left_out(name: str, without: Collection[str]) -> bool:
    if name.rpartition(".")[2] in _PLUMBING:
        return True
    return any(name == each or name.startswith(f"{each}.") for each in without)


def _file_of(name: str) -> Path | None:
    path = _SRC / Path(*name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def _imports(node: ast.AST, module: str) -> set[str]:
    """Names of ours that are imported anywhere below `node`, but for type checking."""
    if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
        return set()
    found = set()
    for each in ast.walk(node):
        names: list[str] = []
        if isinstance(each, ast.Import):
            names = [alias.name for alias in each.names]
        elif isinstance(each, ast.ImportFrom) and each.module:
            names = [each.module, *(f"{each.module}.{alias.name}" for alias in each.names)]
        found |= {name for name in names if name.startswith("ecgbeats.") and name != module}
    return found


def _of_model(nodes: list[ast.stmt], model: str) -> list[ast.stmt]:
    """Of the table of networks, what leads to `model`; all of it where that cannot be told."""
    functions = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}
    for node in nodes:
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        if not isinstance(value, ast.Dict):
            continue
        for key, entry in zip(value.keys, value.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == model:
                named = [n.id for n in ast.walk(entry) if isinstance(n, ast.Name)]
                chosen: list[ast.stmt] = [functions[n] for n in named if n in functions]
                return [*chosen, ast.Expr(entry)] if chosen else nodes
    return nodes


def _syntax(node: ast.AST) -> str:
    for each in ast.walk(node):
        body = getattr(each, "body", None)
        if isinstance(body, list) and isinstance(
            each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        ):
            each.body = [line for line in body if not _is_text(line)] or [ast.Pass()]
    return "" if _is_text(node) else ast.dump(node, annotate_fields=False)


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
