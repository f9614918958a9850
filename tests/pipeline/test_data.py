"""`ecgbeats data` and `ecgbeats retrain --with`, as people use them, on the real DAG."""

from __future__ import annotations

import json
import shutil
import zipfile

import pandas as pd
import pytest

from ecgbeats.additions.naming import prefix_of
from ecgbeats.config import read_params
from ecgbeats.errors import ConfigError
from ecgbeats.files import sha256_tree
from ecgbeats.imaging.store import BeatImages
from ecgbeats.split import assign_sides
from pipelines import added
from pipelines.dag import Dag
from pipelines.uniting import change_additions
from tests.support.clinics import write_clinic, write_record
from tests.support.projects import RECIPE, Project, tiny_params

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning"),
]

NEW = prefix_of("ward")


@pytest.fixture(scope="module")
def project(drawn: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A checkout whose images are drawn, and a folder of new records beside it."""
    params = tiny_params()
    params["recipes"][RECIPE]["train"] |= {"epochs": 1, "patience": 1}
    made = Project.create_after(drawn, tmp_path_factory.mktemp("data") / "project", params)
    write_clinic(made.root.parent / "clinic", 5, fs=250)
    (made.root.parent / "people.csv").write_text(
        "record,patient\nr1,anna\nr2,anna\nr3,carl\nr4,dora\nr5,emil\nr6,emil\ns002,frida\n"
    )
    return made


def data(project: Project, *words: str) -> str:
    done = project.call("ecgbeats", "data", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def add(project: Project, path: str) -> str:
    people = ("--patients", "../people.csv", "--licence", "CC0-1.0", "--no-model")
    return data(project, "add", "ward", path, *people)


def test_data_are_added_once_and_other_data_are_a_new_version(project: Project) -> None:
    clinic = project.root.parent / "clinic"
    assert "version 1 added" in add(project, "../clinic")
    entry = added.get(project.root, "ward")
    assert (entry.records, entry.patients, entry.quarantined) == (5, 4, 0)
    before = sha256_tree(project.root / "data/added")
    with zipfile.ZipFile(clinic.with_suffix(".zip"), "w") as archive:
        for path in sorted(clinic.iterdir()):
            archive.write(path, path.name)
    # The same bytes, however they are packed.
    again = add(project, "../clinic.zip")
    assert "version 1 holds these data already; nothing changed" in again
    assert sha256_tree(project.root / "data/added") == before

    write_record(clinic, "r6", 900)
    for path in (project.root / "data/raw/small").glob("s002.*"):
        shutil.copy(path, clinic)
    out = add(project, "../clinic")
    assert "version 2 added" in out
    assert "quarantined s002: no_twin_elsewhere: small/s002" in out
    told = json.loads(data(project, "show", "ward", "--json"))
    assert [each["number"] for each in told["history"]] == [1, 2]
    assert (told["records"], told["quarantined"], told["here"]) == (6, 1, True)
    tracked = project.call("git", "status", "--short", "--untracked-files=all", "data").stdout
    assert tracked.split() == ["??", "data/added/ward.dvc"]
    assert "no_twin_elsewhere" in added.page_of(project.root, "ward").read_text()


def test_what_is_refused_leaves_no_trace_but_its_page(project: Project) -> None:
    wrong = project.root.parent / "wrong"
    write_clinic(wrong, 3, swap={"N": "V", "V": "N"}, first_seed=40)
    before = sha256_tree(project.root / "data/added")
    done = project.call("ecgbeats", "data", "add", "wrong", str(wrong), "--no-model")
    assert done.returncode == 2
    assert "ventricular_beats_unlike" in done.stderr
    page = added.page_of(project.root, "wrong")
    assert "Not added" in (page.parent / "refused" / "index.html").read_text()
    assert not page.exists()
    assert not added.folder_of(project.root, "wrong").exists()
    assert sha256_tree(project.root / "data/added") == before


def test_a_recipe_is_trained_with_what_was_added_and_tested_as_before(
    project: Project, prefect_api: str
) -> None:
    here = project.with_prefect(prefect_api)
    params = read_params(here.root / "params.yaml")
    drawn = BeatImages.open(here.root / "data/images" / RECIPE).beats
    before = assign_sides(drawn, params.scheme_of(RECIPE), params.protocol_of(RECIPE))

    done = here.call("ecgbeats", "retrain", RECIPE, "--with", "ward")
    # One epoch is not enough for the gate.
    assert done.returncode in (0, 1), done.stderr[-3000:]
    assert f"ecgbeats-{RECIPE} version 1" in done.stdout
    after = pd.read_parquet(here.root / "data/interim" / RECIPE / "split" / "split.parquet")
    new = after["record"].str.startswith(NEW)
    pd.testing.assert_frame_equal(after[~new].reset_index(drop=True), before)
    assert after[new]["record"].nunique() == 6
    assert set(after[new]["patient"]) == {"ward/anna", "ward/carl", "ward/dora", "ward/emil"}
    assert set(after[new]["side"]) <= {"train", "validation"}
    assert after[new].groupby("patient")["side"].nunique().max() == 1

    dag = Dag(here.root)
    plan = dag.plan(RECIPE)
    assert [stage.address for stage in plan[:2]] == ["fetch@small", "unite@small-with-ward"]
    assert dag.data(RECIPE) == here.root / "data/raw/small-with-ward"
    text = (here.root / "params.yaml").read_text()
    assert change_additions(here.root, RECIPE, with_=("ward",)) == ("ward",)
    assert (here.root / "params.yaml").read_text() == text
    assert all(dag.unchanged(stage) for stage in plan)

    refused = here.call("ecgbeats", "data", "remove", "ward")
    assert refused.returncode == 2
    assert f"`ecgbeats retrain {RECIPE} --without ward` first" in refused.stderr
    with pytest.raises(ConfigError, match="got 'nothing'"):
        change_additions(here.root, RECIPE, with_=("nothing",))
    assert change_additions(here.root, RECIPE, without=("ward",)) == ()
    assert "removed; DVC's cache still holds it" in data(here, "remove", "ward")
    assert added.names(here.root) == []
    assert not added.folder_of(here.root, "ward").exists()
