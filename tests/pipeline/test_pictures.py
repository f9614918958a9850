"""The DAG on a zip of plain pictures: from class folders to a verdict, without a recording."""

from __future__ import annotations

import shutil
from typing import Any

import pandas as pd
import pytest

from ecgbeats.files import read_json
from tests.support.pictures import FOLDERS, as_jpeg, as_png, picture, write_folders
from tests.support.projects import Project

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(1200)]


def params() -> dict[str, Any]:
    return {
        "datasets": {
            "drawings": {
                "source": "image-folder",
                "version": "1",
                "licence": "CC0-1.0",
                "citation": "none",
                "remarks": ["drawn for a test"],
            },
        },
        "protocols": {
            "folders": {
                "labels": {
                    "source": "test",
                    "classes": {name[0]: [name] for name in FOLDERS},
                },
                "exclude_records": [],
                "patients_on_both_sides": [],
                "split": {
                    "by": "patient",
                    "published_part": True,
                    "test_share": 0.2,
                    "validation_share": 0.2,
                    "seed": 1,
                },
                # A network that guesses has 0.33.
                "gate": [{"metric": "accuracy", "at_least": 0.8}],
            },
        },
        "recipes": {
            "pictures": {
                "dataset": "drawings",
                "protocol": "folders",
                "image": {"representation": "picture", "height": 32, "width": 48},
                "model": {"name": "compact", "options": {"filters": [8, 16], "dense": 16}},
                "answer": {"abstain_below": 0.0},
                "train": {
                    "seed": 1,
                    "epochs": 6,
                    "batch": 16,
                    "learning_rate": 0.01,
                    "min_epochs": 4,
                    "patience": 6,
                },
                "evaluate": {"headline": [name[0] for name in FOLDERS], "bootstrap": 200},
            },
        },
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after `dvc repro` on a zip given by the environment alone."""
    root = tmp_path_factory.mktemp("pictures")
    write_folders(root / "set", 120)
    write_folders(root / "set", 15, part="test", first=1000)
    normal = root / "set" / "test" / "Normal"
    (normal / "leak.jpg").write_bytes(as_jpeg(picture("Normal", 7)))
    (normal / "broken.png").write_bytes(as_png(picture("Normal", 8))[:99])
    archive = shutil.make_archive(str(root / "set"), "zip", root / "set")
    project = Project.create(root / "project", params())
    # Each call has a time limit of its own.
    for stage in ("split", "train", "verdict"):
        done = project.call("dvc", "repro", f"{stage}@pictures", ECGBEATS_MIRROR=archive)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return project


def test_the_dag_leads_from_a_zip_to_a_verdict(project: Project) -> None:
    verdict = read_json(project.root / "reports" / "pictures" / "verdict.json")
    assert verdict["passed"] is True
    metrics = read_json(project.root / "reports" / "pictures" / "metrics.json")
    assert metrics["beats"] == 45
    assert metrics["dataset"]["quarantined"] == {"damaged_image": 1, "twin_of_training": 1}
    assert metrics["dataset"]["remarks"] == ["drawn for a test"]
    assert metrics["ec57"]["beats"] == 0  # pictures have no time


def test_the_published_test_part_tests_and_shares_no_twin(project: Project) -> None:
    beats = pd.read_parquet(
        project.root / "data" / "interim" / "pictures" / "split" / "split.parquet"
    )
    assert (beats["part"] == "test").equals(beats["side"] == "test")
    assert beats.groupby("patient")["side"].nunique().max() == 1
    quarantine = pd.read_csv(
        project.root / "reports" / "pictures" / "validation" / "quarantine.csv"
    )
    assert dict(zip(quarantine["path"], quarantine["reason"], strict=True)) == {
        "test/Normal/broken.png": "damaged_image",
        "test/Normal/leak.jpg": "twin_of_training",
    }


def test_nothing_is_done_twice_and_the_zip_is_needed_once(project: Project) -> None:
    again = project.call("dvc", "status", "verdict@pictures")
    assert "up to date" in again.stdout
    fetched = project.call("dvc", "repro", "--force", "--single-item", "fetch@drawings")
    assert fetched.returncode == 0, fetched.stderr[-2000:]
