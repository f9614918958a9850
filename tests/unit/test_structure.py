"""Imports go one way, and each outside system has one door (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

from pipelines.packaging import _SERVED
from tests.unit.test_stage_dependencies import imports

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]


def imported(path: Path) -> set[str]:
    """First parts of the names of all modules that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def users_of(package: str) -> set[str]:
    files = [p for folder in ("src", "pipelines", "bento") for p in (ROOT / folder).rglob("*.py")]
    return {path.relative_to(ROOT).as_posix() for path in files if package in imported(path)}


@pytest.mark.parametrize("package", ["pipelines", "bento", "prefect", "mlflow", "bentoml", "dvc"])
def test_the_library_knows_nothing_of_what_uses_it(package: str) -> None:
    assert not {path for path in users_of(package) if path.startswith("src/")}


def test_service_and_pipelines_do_not_know_each_other() -> None:
    assert not {path for path in users_of("pipelines") if path.startswith("bento/")}
    assert not {path for path in users_of("bento") if path.startswith("pipelines/")}


@pytest.mark.parametrize(
    ("package", "doors"),
    [
        ("dvc", {"pipelines/dag.py", "pipelines/revisions.py"}),
        ("mlflow", {f"pipelines/{door}.py" for door in ("tracking", "registry", "ledger")}),
        (
            "prefect",
            {
                f"pipelines/{flow}.py"
                for flow in (
                    *("retrain", "crossval", "tune", "deployments", "deploy_cli"),
                    "temporary_server",
                )
            },
        ),
        ("great_expectations", {"src/ecgbeats/validation/engine.py"}),
        ("distributed", {"src/ecgbeats/cluster.py", "src/ecgbeats/cluster_worker.py"}),
        ("dask", {"src/ecgbeats/cluster.py"}),
        # The second runs networks whose images today's renderer draws otherwise.
        ("onnxruntime", {"src/ecgbeats/inference.py", "pipelines/offline.py"}),
    ],
)
def test_each_outside_system_has_its_door(package: str, doors: set[str]) -> None:
    assert users_of(package) <= doors
    assert users_of(package), f"{package} is not used at all"


def test_only_packaging_and_the_service_know_bentoml() -> None:
    outside = {path for path in users_of("bentoml") if not path.startswith("bento/")}
    assert outside <= {"pipelines/packaging.py", "pipelines/bento_build.py"}


def test_the_bento_holds_just_what_the_service_imports_of_the_library() -> None:
    source = ROOT / "src"
    todo = set().union(
        *(imports(ast.parse(path.read_text("utf-8"))) for path in (ROOT / "bento").glob("*.py"))
    )
    seen: set[Path] = {
        source / "ecgbeats" / name for name in ("__init__.py", "imaging/__init__.py")
    }
    while todo:
        path = todo.pop()
        seen.add(path)
        todo |= imports(ast.parse(path.read_text("utf-8"))) - seen
    assert {path.relative_to(source / "ecgbeats").as_posix() for path in seen} == set(_SERVED)
