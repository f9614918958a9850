"""What we rely on in DVC: its graph, its idea of unchanged, and how it runs a stage."""

from __future__ import annotations

from contextlib import suppress
from itertools import permutations
from pathlib import Path

import psutil
import pytest
import yaml
from zc.lockfile import LockFile

from ecgbeats.errors import ConfigError, ServiceError
from pipelines.dag import Dag, Lineage, Stage, reproduce
from tests.support.projects import HERE, Project, tiny_params

pytestmark = [
    pytest.mark.pipeline,
    # DVC's own use of pygtrie.
    pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning"),
]

STAGES = ("fetch", "validate", "render", "split", "train", "evaluate", "reference", "verdict")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two recipes on a dataset each; nothing has run."""
    params = tiny_params()
    params["datasets"]["large"] = {**params["datasets"]["small"], "patients": 20}
    params["recipes"]["other"] = {**params["recipes"]["tiny"], "dataset": "large"}
    return Project.create(tmp_path_factory.mktemp("dag") / "project", params)


@pytest.fixture(scope="module")
def dag(project: Project) -> Dag:
    return Dag(project.root)


def test_a_plan_holds_the_stages_of_one_recipe_in_order(dag: Dag) -> None:
    plan = dag.plan("tiny")
    assert [stage.name for stage in plan] == list(STAGES)
    owners = [stage.address.partition("@")[2] for stage in plan]
    assert owners == ["small"] + ["tiny"] * 7
    # Whatever a stage reads of another's outputs has been made before.
    graph = yaml.safe_load((HERE / "dvc.yaml").read_text())["stages"]
    made: set[str] = set()
    for stage in plan:
        deps = [
            path.replace("${key}", "tiny").replace("${item.dataset}", "small")
            for path in graph[stage.name]["do"]["deps"]
        ]
        needed = [path for path in deps if not path.startswith("src/")]
        roots = {path for path in needed if not _below(path, made)}
        assert not roots, f"{stage.address} comes before what makes {roots}"
        made.update(stage.outs)


def _below(path: str, made: set[str]) -> bool:
    return any(path == out or path.startswith(f"{out}/") for out in made)


def test_every_recipe_of_the_project_has_a_plan() -> None:
    dag = Dag(HERE)
    recipes = yaml.safe_load((HERE / "params.yaml").read_text())["recipes"]
    assert dag.recipes() == tuple(sorted(recipes))
    plans = {name: dag.plan(name) for name in recipes}
    for one, two in permutations(plans.values(), 2):
        shared = {stage.address for stage in one} & {stage.address for stage in two}
        assert all(address.startswith("fetch@") for address in shared)
    outs = [out for plan in plans.values() for stage in plan for out in stage.outs]
    assert all(out.startswith("data/raw/") for out in outs if outs.count(out) > 1)


def test_an_unknown_recipe_is_refused_by_name(dag: Dag) -> None:
    with pytest.raises(ConfigError, match="recipe: expected one of other, tiny; got 'nobody'"):
        dag.plan("nobody")


def test_outputs_are_found_by_stage_and_name(dag: Dag, project: Project) -> None:
    reports = project.root / "reports" / "tiny"
    assert dag.out("tiny", "train") == project.root / "data/models/tiny"
    assert dag.out("tiny", "evaluate", "metrics.json") == reports / "metrics.json"
    assert dag.out("other", "fetch") == project.root / "data/raw/large"
    for stage, name in (("evaluate", None), ("evaluate", "none.json"), ("nothing", None)):
        with pytest.raises(ConfigError, match=rf"expected one output .*{stage}@tiny"):
            dag.out("tiny", stage, name)


def test_options_of_a_command_are_paths_in_the_project(dag: Dag, project: Project) -> None:
    train = next(stage for stage in dag.plan("tiny") if stage.name == "train")
    folder = project.root / "data/interim/tiny/checkpoints"
    assert dag.option(train, "--checkpoints") == folder
    # What the flow follows while training runs is no output: DVC would clear it.
    assert not _below(folder.relative_to(project.root).as_posix(), set(train.outs))
    with pytest.raises(ConfigError, match="expected --none in the command of train@tiny"):
        dag.option(train, "--none")


def test_nothing_is_recorded_of_what_never_ran(dag: Dag) -> None:
    assert not any(dag.unchanged(stage) for stage in dag.plan("tiny"))
    with pytest.raises(ServiceError, match=r"dvc\.lock: no record of fetch@small, .*verdict@tiny"):
        dag.lock_entries("tiny")


def test_lineage_names_what_was_made_and_hashes_all_of_it() -> None:
    entries = {
        f"{name}@tiny": {"cmd": name, "outs": [{"path": name, "md5": f"{name}0.dir"}]}
        for name in STAGES
    }
    lineage = Lineage.of("tiny", entries)
    assert (lineage.data, lineage.images, lineage.model) == ("fetch0", "render0", "train0")
    backwards = dict(reversed(entries.items()))
    assert Lineage.of("tiny", backwards) == lineage
    for address in entries:
        changed = {**entries, address: {**entries[address], "cmd": "another"}}
        assert Lineage.of("tiny", changed).content != lineage.content


@pytest.fixture
def small_dag(tmp_path: Path) -> Project:
    """A project whose stages are shell commands."""
    project = Project.create(tmp_path / "project")
    stages = {
        "copy": {"cmd": "cp in.txt out.txt", "deps": ["in.txt"], "outs": ["out.txt"]},
        "refuse": {"cmd": "echo one; echo 'DataError: 100: no beat'; echo two; exit 2"},
        "wait": {"cmd": "echo $$ > pid; echo started; exec sleep 300"},
        "crash": {"cmd": "echo one >&2; echo two; exit 3"},
    }
    (project.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (project.root / "in.txt").write_text("1\n")
    return project


def test_a_stage_runs_until_it_is_unchanged(small_dag: Project) -> None:
    copy, root, said = Stage("copy", ("out.txt",), ""), small_dag.root, []
    dag = Dag(root)
    assert not dag.unchanged(copy)
    reproduce(root, copy, said.append)
    assert any("cp in.txt out.txt" in line for line in said)
    assert not any("git add" in line or "dvc push" in line for line in said)
    # The same object sees what changed meanwhile: in the lock, in inputs, in outputs.
    assert dag.unchanged(copy)
    (root / "in.txt").write_text("2\n")
    assert not dag.unchanged(copy)
    reproduce(root, copy, said.append)
    assert dag.unchanged(copy) and (root / "out.txt").read_text() == "2\n"
    (root / "out.txt").unlink()
    assert not dag.unchanged(copy)


def test_a_lock_that_another_run_holds_is_an_error_of_ours(
    small_dag: Project,
) -> None:
    dag = Dag(small_dag.root)
    held = LockFile(str(small_dag.root / ".dvc" / "tmp" / "lock"))
    try:
        with pytest.raises(ServiceError, match=r"DVC: copy: (.|\n)*lock"):
            dag.unchanged(Stage("copy", ("out.txt",), ""))
    finally:
        held.close()


def test_a_stage_that_fails_says_why(small_dag: Project) -> None:
    said: list[str] = []
    with pytest.raises(ServiceError) as refused:
        reproduce(small_dag.root, Stage("refuse", (), ""), said.append)
    assert str(refused.value) == "stage refuse failed: DataError: 100: no beat\ntwo"
    assert "one" in said
    with pytest.raises(ServiceError, match=r"stage crash failed:\n(.*\n)*  one\n  two\n  ERROR"):
        reproduce(small_dag.root, Stage("crash", (), ""), said.append)


def test_no_stage_outlives_a_run_that_is_stopped(small_dag: Project) -> None:
    def stop(line: str) -> None:
        if line == "started":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce(small_dag.root, Stage("wait", (), ""), stop)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int((small_dag.root / "pid").read_text())).wait(10)


def test_a_graph_that_dvc_cannot_read_is_an_error_of_ours(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project")
    (project.root / "dvc.yaml").write_text("stages: {train: {outs: [a]}}\n")
    with pytest.raises(ServiceError, match=r"(?s)DVC: .*dvc\.yaml"):
        Dag(project.root)
