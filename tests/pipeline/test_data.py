"""`ecgbeats data` and what a recipe learns from then, as people use them, on the real DAG."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml

from ecgbeats.additions.adding import _check_patients
from ecgbeats.additions.naming import prefix_of
from ecgbeats.config import SampleSource, read_params
from ecgbeats.errors import ConfigError, DataError, ServiceError
from ecgbeats.files import sha256_tree
from ecgbeats.imaging.store import BeatImages
from ecgbeats.sources.sample import make_sample
from ecgbeats.split import assign_sides
from pipelines import added, dag, placing
from pipelines.adding import Options, Outcome
from pipelines.adding import add as run_add
from pipelines.dag import Dag
from pipelines.neighbours import patients_elsewhere
from pipelines.removing import remove
from pipelines.retrain import _open
from pipelines.uniting import change_additions
from tests.support.clinics import write_clinic, write_record
from tests.support.projects import RECIPE, Project, tiny_params

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning"),
]

NEW = prefix_of("ward")


@pytest.fixture
def project(drawn: Project, tmp_path: Path) -> Project:
    """A checkout whose images are drawn, and a folder of new records beside it."""
    return with_clinic(Project.create_after(drawn, tmp_path / "project", tiny_params()))


@pytest.fixture
def bare(tmp_path: Path) -> Project:
    """The same, but nothing has run."""
    return with_clinic(Project.create(tmp_path / "project"))


def with_clinic(made: Project) -> Project:
    write_clinic(made.root.parent / "clinic", 5, fs=250)
    (made.root.parent / "people.csv").write_text(
        "record,patient\nr1,anna\nr2,anna\nr3,carl\nr4,dora\nr5,emil\nr6,emil\ns002,frida\n"
    )
    return made


def data(project: Project, *words: str) -> str:
    done = project.call("ecgbeats", "data", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def add_here(project: Project) -> Outcome:
    """The same in this process, where it can be made to fail."""
    root = project.root
    options = Options(patients=root.parent / "people.csv", ask_model=False)
    params = read_params(root / "params.yaml")
    return run_add(root, params, "ward", root.parent / "clinic", options, lambda words: None)


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


class Killed(BaseException):
    """Nothing that any of our code expects."""


def test_an_addition_that_fails_half_way_changes_nothing_and_can_be_made_again(
    bare: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise Killed

    folder = bare.root / "data/added"
    for number, where in ((1, (added, "write")), (2, (dag, "track")), (2, (added, "write"))):
        held = sha256_tree(folder)
        with monkeypatch.context() as patched:
            patched.setattr(*where, fail)
            with pytest.raises(Killed):
                add_here(bare)
        assert sha256_tree(folder) == held
        assert not [path.name for path in folder.iterdir() if path.name.endswith((".new", ".old"))]
        if number == 1:
            add_here(bare)
            write_record(bare.root.parent / "clinic", "r6", 900)
    made = add_here(bare).entry
    assert [each.number for each in made.history] == [1, 2]


def test_a_process_killed_half_way_leaves_what_the_next_one_clears_up(bare: Project) -> None:
    add_here(bare)
    root, pointer = bare.root, added.pointer_of(bare.root, "ward")
    change_additions(root, RECIPE, with_=("ward",))
    place, old = added.folder_of(root, "ward"), root / "data/added/.ward.old"
    listed, before = pointer.read_text(), sha256_tree(place)
    # Killed before DVC had the new version, which is in its place.
    shutil.copytree(place, old)
    (place / "r1.dat").unlink()
    with pytest.raises(ConfigError, match="as it is listed, version 1"):
        change_additions(root, RECIPE, with_=("ward",))
    # Nor is anything trained with it that was told to before.
    with pytest.raises(ConfigError, match="as it is listed, version 1"):
        _open(root, RECIPE)
    assert "broken: data/added/ward holds something else" in data(bare, "list")
    # The page is what was to be put in place last.
    added.page_of(root, "ward").unlink()
    assert not add_here(bare).changed
    assert (sha256_tree(place), old.exists()) == (before, False)
    assert added.page_of(root, "ward").is_file()
    _open(root, RECIPE)
    change_additions(root, RECIPE, without=("ward",))
    # Killed after DVC had it, and before it was listed.
    pointer.write_text(re.sub(r"md5: [0-9a-f]+[.]dir", f"md5: {'0' * 32}.dir", listed))
    assert "ward  broken: " in data(bare, "list")
    with pytest.raises(DataError, match="add ward again"):
        change_additions(root, RECIPE, with_=("ward",))
    assert add_here(bare).entry.version.number == 1
    assert "ward  version 1 of " in data(bare, "list")
    # The same of a first version: nothing is listed.
    pointer.write_text(yaml.safe_dump({"outs": yaml.safe_load(listed)["outs"]}))
    assert add_here(bare).entry.version.number == 1


def test_a_patient_map_names_people_who_are_there(bare: Project) -> None:
    people = bare.root.parent / "people.csv"
    whole = people.read_text()
    people.write_text(whole.replace("r3,carl", "r3,smal/s002"))
    with pytest.raises(ConfigError, match=r"datasets small and its patient, got 'smal/s002'"):
        add_here(bare)
    people.write_bytes(whole.replace("carl", "André").encode("latin-1"))
    with pytest.raises(ConfigError, match=r"people\.csv: cannot be read as a CSV file"):
        add_here(bare)
    params = read_params(bare.root / "params.yaml")
    assert patients_elsewhere(bare.root, params, "ward") == {"small": None}
    manifest = make_sample(
        SampleSource(source="sample", patients=4, minutes=0.6, fs=180, seed=7),
        bare.root / "data/raw/small",
        workers=1,
    )
    known = patients_elsewhere(bare.root, params, "ward")
    assert known == {"small": frozenset(manifest.patient_of.values())}
    somebody = min(manifest.patient_of.values())
    _check_patients({"r1": f"small/{somebody}", "r2": "anna"}, known)
    with pytest.raises(ConfigError, match=r"expected a patient of small, .*; got 'small/nobody'"):
        _check_patients({"r1": "small/nobody"}, known)


_KILLED = """
import os, signal, sys
import dvc.utils.serialize._yaml
import ruamel.yaml
dump, size = ruamel.yaml.YAML.dump, int(sys.argv.pop(1))
def die(self, data, stream=None, **more):
    if str(getattr(stream, "name", "")).endswith("ward.dvc"):
        dump(self, data, stream, **more)
        stream.flush()
        os.truncate(stream.fileno(), size)
        os.kill(os.getpid(), signal.SIGKILL)
    return dump(self, data, stream, **more)
ruamel.yaml.YAML.dump = die
from pipelines.cli import main
main()
"""


@pytest.mark.parametrize(("size", "again"), [(0, True), (30, False)], ids=["second", "first"])
def test_killed_while_dvc_writes_its_file_no_version_is_lost(
    bare: Project, size: int, again: bool
) -> None:
    root, pointer = bare.root, added.pointer_of(bare.root, "ward")
    if again:
        add_here(bare)
        write_record(root.parent / "clinic", "r6", 900)
    words = ["data", "add", "ward", "../clinic", "--patients", "../people.csv", "--no-model"]
    killed = bare.call(sys.executable, "-c", _KILLED, str(size), *words)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert pointer.stat().st_size == size
    if again:
        entry = add_here(bare).entry
        assert [version.number for version in entry.history] == [1, 2]
    else:
        # Whoever opens DVC's graph is told which file it is.
        with pytest.raises(DataError, match=r"ward\.dvc: expected .* add ward again"):
            Dag(root)
        with pytest.raises(ConfigError, match="got 'ward'"):
            remove(root, "ward")
        Dag(root)
    assert pointer.exists() == again
    assert [path.name for path in (root / "data/added").glob(".ward.*")] == []


def test_data_are_not_removed_while_others_are_added(bare: Project) -> None:
    with placing.alone(bare.root), pytest.raises(ServiceError, match="`remove` runs here"):
        remove(bare.root, "ward")


def test_a_recipe_has_what_was_added_to_learn_from_and_is_tested_as_before(
    project: Project,
) -> None:
    root = project.root
    write_record(root.parent / "clinic", "r6", 900)
    add(project, "../clinic")
    params = read_params(root / "params.yaml")
    drawn = BeatImages.open(root / "data/images" / RECIPE).beats
    before = assign_sides(drawn, params.scheme_of(RECIPE), params.protocol_of(RECIPE))

    assert change_additions(root, RECIPE, with_=("ward",)) == ("ward",)
    done = project.call("dvc", "repro", f"split@{RECIPE}")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    after = pd.read_parquet(root / "data/interim" / RECIPE / "split" / "split.parquet")
    new = after["record"].str.startswith(NEW)
    pd.testing.assert_frame_equal(after[~new].reset_index(drop=True), before)
    assert after[new]["record"].nunique() == 6
    assert set(after[new]["patient"]) == {"ward/anna", "ward/carl", "ward/dora", "ward/emil"}
    assert set(after[new]["side"]) <= {"train", "validation"}
    assert after[new].groupby("patient")["side"].nunique().max() == 1

    graph = Dag(root)
    plan = graph.plan(RECIPE)
    assert [stage.address for stage in plan[:2]] == ["fetch@small", "unite@small-with-ward"]
    assert graph.data(RECIPE) == root / "data/raw/small-with-ward"
    text = (root / "params.yaml").read_text()
    assert change_additions(root, RECIPE, with_=("ward",)) == ("ward",)
    assert (root / "params.yaml").read_text() == text
    ran = [stage for stage in plan if stage.name in ("fetch", "unite", "render", "split")]
    assert len(ran) == 4 and all(graph.unchanged(stage) for stage in ran)

    refused = project.call("ecgbeats", "data", "remove", "ward")
    assert refused.returncode == 2
    assert f"`ecgbeats retrain {RECIPE} --without ward` first" in refused.stderr
    with pytest.raises(ConfigError, match="got 'nothing'"):
        change_additions(root, RECIPE, with_=("nothing",))
    assert change_additions(root, RECIPE, without=("ward",)) == ()
    assert "removed; DVC's cache still holds it" in data(project, "remove", "ward")
    assert added.names(root) == []
    assert not added.folder_of(root, "ward").exists()
