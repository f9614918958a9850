"""Other commits of the project: their files, and which recipes a branch changes."""

from __future__ import annotations

import copy
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from ecgbeats.config import read_params
from ecgbeats.errors import ConfigError, DataError, GateFailed
from ecgbeats.files import write_json
from pipelines import compare
from pipelines.dag import Dag, track
from pipelines.retrain import Run
from pipelines.review import Review, _figures, _one, changed_recipes, review
from pipelines.revisions import Revision
from tests.support.predictions import CLASSES, fake_predictions
from tests.support.projects import RECIPE, Project
from tests.support.promoting import METRICS, verdict

pytestmark = pytest.mark.pipeline


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = Project.create(tmp_path / "project")
    monkeypatch.chdir(made.root)
    for name in ("GIT_CONFIG_GLOBAL", "DVC_NO_ANALYTICS"):
        monkeypatch.setenv(name, made.env[name])
    return made


def changed(project: Project) -> list[str]:
    return changed_recipes(project.root, Dag(project.root), "HEAD")


def test_a_recipe_is_changed_by_its_own_parameters_code_and_records(project: Project) -> None:
    assert changed(project) == []
    (project.root / "README.md").write_text("Other words.")
    params = project.params
    params["recipes"]["other"] = copy.deepcopy(params["recipes"][RECIPE])
    project.write_params(params)
    assert changed(project) == ["other"]
    project.commit("a second recipe")
    params["recipes"]["other"]["train"]["epochs"] = 3
    project.write_params(params)
    assert changed(project) == ["other"]
    project.commit("other epochs")
    (project.root / "dvc.lock").write_text(
        f"schema: '2.0'\nstages:\n  train@{RECIPE}:\n    cmd: x\n    outs: []\n"
    )
    assert changed(project) == [RECIPE]
    project.commit("a record")
    # Code that both have, in a file that git does not know yet.
    (project.root / "src" / "ecgbeats" / "imaging" / "more.py").write_text("x = 1\n")
    assert changed(project) == ["other", RECIPE]


def with_ward(project: Project) -> None:
    """A commit in which RECIPE is trained with an addition, that is not on this machine."""
    params = project.params
    params["unions"] = {"small-with-ward": {"base": "small", "added": "ward"}}
    params["recipes"]["other"] = copy.deepcopy(params["recipes"][RECIPE])
    params["recipes"][RECIPE]["dataset"] = "small-with-ward"
    project.write_params(params)
    write_ward(project, "1" * 32)
    project.commit("an addition")


def write_ward(project: Project, md5: str) -> None:
    pointer = {"outs": [{"md5": f"{md5}.dir", "hash": "md5", "path": "ward"}]}
    path = project.root / "data" / "added" / "ward.dvc"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(pointer))


def test_a_recipe_is_changed_by_another_version_of_what_was_added_to_its_data(
    project: Project,
) -> None:
    with_ward(project)
    dag = Dag(project.root)
    assert changed_recipes(project.root, dag, "HEAD") == []
    # What it learns from is the union, not what the union goes back to.
    assert dag.data(RECIPE) == project.root / "data/raw/small-with-ward"
    write_ward(project, "2" * 32)
    assert changed_recipes(project.root, dag, "HEAD") == [RECIPE]
    project.commit("its second version")
    assert changed_recipes(project.root, dag, "HEAD~1") == [RECIPE]


def test_a_changed_recipe_with_additions_is_reproduced_where_a_remote_has_them(
    project: Project, tmp_path: Path
) -> None:
    with_ward(project)
    ward = project.root / "data" / "added" / "ward"
    ward.mkdir()
    (ward / "a.hea").write_text("a 1 100 10\n")
    track(project.root, ward)
    found: list[bool] = []
    told: list[str] = []

    def run(recipe: str) -> Run:
        found.append((ward / "a.hea").is_file())
        return Run(recipe, error=DataError("stopped here"))

    def reviewed() -> Review:
        params = read_params(project.root / "params.yaml")
        return review(project.root, Dag(project.root), params, "HEAD", run, told.append)

    done = reviewed()
    assert (done.changed, done.skipped, done.error, found) == ([RECIPE], [RECIPE], None, [])
    assert "it needs real data, and no DVC remote" in done.markdown
    project.call("dvc", "remote", "add", "-d", "here", str(tmp_path / "remote"), check=True)
    # As people push: without a name, all that the checkout has.
    project.call("dvc", "push", check=True)
    shutil.rmtree(ward)
    shutil.rmtree(project.root / ".dvc" / "cache")
    done = reviewed()
    assert (done.skipped, found) == ([], [True]), told
    assert isinstance(done.error, DataError)


_BEATS = fake_predictions().query("patient < 'p06'").drop_duplicates(["record", "sample"])
_OUTS = {"evaluate": f"data/interim/{RECIPE}/evaluation", "render": f"data/images/{RECIPE}"}
_CLASSES = [f"p_{name}" for name in CLASSES]


def evaluated(project: Project, predictions: pd.DataFrame) -> None:
    """The outputs of RECIPE, as if its stages had run."""
    evaluation, images = (project.root / path for path in _OUTS.values())
    for folder in (evaluation, images):
        folder.mkdir(parents=True, exist_ok=True)
    predictions.to_parquet(evaluation / "predictions.parquet", index=False)
    _BEATS.assign(row=_BEATS.groupby("record").cumcount()).to_parquet(images / "beats.parquet")
    for record, beats in _BEATS.groupby("record"):
        np.save(images / f"{record}.npy", np.zeros((len(beats), 4, 4), np.uint8))
    metrics = {
        **METRICS,
        "spec_id": "s1",
        "confusion": {"classes": list(CLASSES)},
        "bootstrap": {"replicates": 200, "seed": 1},
        "headline": {**METRICS["headline"], "classes": ["N", "V"]},
    }
    write_json(project.root / "reports" / RECIPE / "metrics.json", metrics)


def recorded(project: Project) -> None:
    """The same in DVC's cache and dvc.lock, and committed."""
    root = project.root
    stages = {}
    for stage, path in _OUTS.items():
        kept = root / "kept" / stage
        shutil.copytree(root / path, kept)
        out = {"path": path, "hash": "md5", "md5": f"{track(root, kept)}.dir"}
        stages[f"{stage}@{RECIPE}"] = {"cmd": "made up", "outs": [out]}
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    project.commit("as it was")


def all_normal(predictions: pd.DataFrame) -> pd.DataFrame:
    """The same beats, every one of them called N."""
    return predictions.assign(**dict.fromkeys(_CLASSES, 0.0)).assign(p_N=1.0)


def test_a_branch_that_is_worse_or_cannot_be_compared_is_rejected(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project.root
    branch = {"predictions": all_normal(_BEATS)}

    def run(recipe: str) -> Run:
        evaluated(project, branch["predictions"])
        return Run(recipe, verdict=verdict(), metrics={**METRICS, "average": {}})

    evaluated(project, _BEATS)
    recorded(project)
    params = project.params
    params["recipes"][RECIPE]["train"]["epochs"] = 3
    project.write_params(params)
    dag, read = Dag(root), read_params(root / "params.yaml")
    done = review(root, dag, read, "HEAD", run, lambda words: None)
    assert isinstance(done.error, GateFailed)
    assert "tiny: the gate rejects it: base.headline.macro_f1" in str(done.error)
    assert "of HEAD, difference -" in done.markdown and "McNemar" in done.markdown
    assert (root / "reports" / "comparisons" / "HEAD--tiny" / "index.html").is_file()
    compared = project.call("ecgbeats", "compare", "HEAD", ".", "--recipe", RECIPE)
    assert compared.returncode == 0, compared.stderr
    assert "## working tree (tiny) against HEAD (tiny)" in compared.stdout
    assert "| V F1 | " in compared.stdout
    assert (root / "reports" / "comparisons" / "HEAD--tree" / "index.html").is_file()

    def one() -> tuple[Review, str]:
        found = Review()
        return found, "".join(_one(root, dag, read, "HEAD", RECIPE, run(RECIPE), found))

    monkeypatch.setattr("pipelines.review._figures", lambda *_: [])
    # The images of the base are for the page; what is checked needs them not.
    cached = [path for path in (root / ".dvc/cache/files/md5").rglob("*") if path.is_file()]
    for path in cached:
        if path.read_bytes().startswith(b"\x93NUMPY"):
            path.unlink()
    done, words = one()
    assert isinstance(done.error, GateFailed)
    assert "There is no page of the comparison with HEAD: " in words
    # Other labels or another split: nothing says that it is no worse.
    branch["predictions"] = _BEATS[_BEATS["patient"] != "p02"]
    done, words = one()
    assert "the gate rejects it: base.headline.macro_f1" in str(done.error)
    assert "cannot be compared with HEAD: compare: expected the same test side" in words
    # Without the base's answers nothing was asked, which is said first.
    branch["predictions"] = _BEATS
    shutil.rmtree(root / ".dvc" / "cache")
    done, words = one()
    assert done.error is None
    assert words.startswith("## tiny: passed; NOT COMPARED with HEAD\n")


def test_figures_that_could_not_be_compared_are_not_called_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dag: Any = SimpleNamespace(out=lambda *_: tmp_path / "metrics.json")
    for status, out, err, said in (
        (0, "", "", "Figures: as they were."),
        (
            255,
            "",
            "wait\nERROR: locked\n",
            "could not be compared, by `dvc metrics diff`: ERROR: locked",
        ),
        (1, "", "", "it ended with 1"),
        (0, "| a |", "", "| a |"),
    ):
        done = subprocess.CompletedProcess([], status, out, err)
        monkeypatch.setattr("pipelines.review._dvc", lambda *_, done=done: done)
        assert said in "\n".join(_figures(tmp_path, dag, "HEAD", "tiny"))


def test_files_of_another_commit_come_from_git_and_from_the_cache(
    project: Project, tmp_path: Path
) -> None:
    data, note = project.root / "kept.bin", project.root / "note.txt"
    for text in ("first", "second"):
        data.write_text(text)
        note.write_text(text)
        project.call("dvc", "add", "kept.bin", check=True)
        project.commit(text)
    found = Revision(project.root, "HEAD~1").fetch([data, note], tmp_path / "then")
    assert [path.read_text() for path in found] == ["first", "first"]
    assert data.read_text() == note.read_text() == "second"
    with pytest.raises(ConfigError, match="experiment of this project; got 'nowhere'"):
        Revision(project.root, "nowhere")
    cache = project.root / ".dvc" / "cache" / "files" / "md5"
    next(
        path for path in cache.rglob("*") if path.is_file() and path.read_text() == "first"
    ).unlink()
    with pytest.raises(DataError, match=r"kept\.bin: expected it as of [0-9a-f]{12}, in git"):
        Revision(project.root, "HEAD~1").fetch([data], tmp_path / "again")


def test_references_are_versions_runs_or_commits_by_their_form(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(compare.registry, "find", lambda name: asked.append(name))
    monkeypatch.setattr(compare.registry, "version_of_run", lambda run: asked.append(run))
    params = read_params(project.root / "params.yaml")
    for reference in (f"{RECIPE}@3", f"{RECIPE}/3", f"ecgbeats-{RECIPE}@champion", "ab" * 16):
        compare._version(params, reference)
    assert asked == [f"ecgbeats-{RECIPE}/3"] * 2 + [f"ecgbeats-{RECIPE}@champion", "ab" * 16]
    for reference in ("HEAD~1", "feature/3", "v1.0", ".", "main@{1}"):
        compare._version(params, reference)
    assert len(asked) == 4
    assert compare.folder_name(("feature/x", ".")) == "feature-x--tree"
