"""The checks that hang on this machine and on who is champion; each of them blocks alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ecgbeats import regression
from ecgbeats.config import Params, SampleSource
from ecgbeats.errors import DataError
from ecgbeats.files import write_json
from ecgbeats.gate import joined
from ecgbeats.imaging.store import BeatImages, render_dataset
from ecgbeats.sources.sample import make_sample
from ecgbeats.split import assign_sides, read_split, write_split
from pipelines.dag import Stage
from pipelines.gating import (
    Candidate,
    check_test_side,
    hash_of_test_side,
    last_verdict,
    live_rows,
    split_folder,
    whole_verdict,
)
from tests.support.projects import RECIPE, tiny_params
from tests.support.tiny_model import SPEC, write_tiny_model

pytestmark = pytest.mark.pipeline


@dataclass(frozen=True)
class Folders:
    """What gating asks of `pipelines.dag.Dag`, for stages that ran without DVC."""

    root: Path

    def out(self, recipe: str, stage: str) -> Path:
        return self.root / stage

    def data(self, recipe: str) -> Path:
        return self.root / "fetch"

    def plan(self, recipe: str) -> list[Stage]:
        return [Stage(f"split@{recipe}", (), f"ecgbeats stage split --out {self.root / 'split'}")]

    def option(self, stage: Stage, name: str) -> Path:
        return Path(stage.cmd.split(f"{name} ")[1])


def params(**changes: Any) -> Params:
    values = tiny_params()
    values["protocols"]["patients"] |= {"exclude_records": [], **changes}
    return Params.model_validate(values)


@pytest.fixture(scope="module")
def dag(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("gating")
    protocol = params().protocols["patients"]
    source = SampleSource(source="sample", patients=6, minutes=0.6, fs=180, seed=7)
    make_sample(source, root / "fetch", workers=1)
    render_dataset(root / "fetch", SPEC, protocol.labels, root / "render", workers=1)
    beats = BeatImages.open(root / "render").beats
    sides = assign_sides(beats, protocol.labels, protocol)
    write_split(root / "split", sides, protocol.labels, ("N", "V"))
    return Folders(root)


def candidate(folder: Path, dag: Any, name: str, **model: Any) -> Candidate:
    classes = read_split(split_folder(dag, RECIPE)).classes
    write_tiny_model(folder / name / "model", **{"classes": classes, **model})
    return Candidate(name, folder / name / "model", split_folder(dag, RECIPE))


def failed(rows: list[dict[str, Any]]) -> list[str]:
    return [row["metric"] for row in rows if not row["passed"]]


def test_the_same_model_is_no_regression(dag: Any, tmp_path: Path) -> None:
    ours, theirs = (candidate(tmp_path, dag, name) for name in ("ours", "theirs"))
    rows = live_rows(dag, params(), RECIPE, ours, theirs)
    assert [row["metric"] for row in rows] == [
        "latency.one_ms",
        "leakage.challenger",
        "leakage.champion",
        "champion.headline.macro_f1",
    ]
    assert failed(rows) == []
    assert rows[-1]["difference"] == 0.0 and rows[-1]["interval"] == [0.0, 0.0]
    assert [row["metric"] for row in live_rows(dag, params(), RECIPE, ours, None)] == [
        "latency.one_ms"
    ]


def test_by_beat_a_champion_of_another_fold_blocks(dag: Any, tmp_path: Path) -> None:
    ours, theirs = (candidate(tmp_path, dag, name) for name in ("ours", "theirs"))
    by_beat = params(split={"by": "beat"})
    side = hash_of_test_side(read_split(split_folder(dag, RECIPE)))
    ours, same = (replace(each, test_side=side) for each in (ours, theirs))
    assert failed(live_rows(dag, by_beat, RECIPE, ours, same)) == []
    for other in ("another", None):
        rows = live_rows(dag, by_beat, RECIPE, ours, replace(theirs, test_side=other))
        assert failed(rows) == ["leakage.champion"]
        rows = live_rows(dag, by_beat, RECIPE, replace(theirs, test_side=other), ours)
        assert failed(rows) == ["leakage.challenger"]


class Verdicts(Folders):
    """What the stage said, and beside it what the flow did."""

    def out(self, recipe: str, stage: str, name: str = "") -> Path:
        return self.root / name


def test_the_gate_enforces_what_the_last_run_found(tmp_path: Path) -> None:
    dag: Any = Verdicts(tmp_path)
    accuracy = {"metric": "accuracy", "passed": True}
    files = {"weights_sha256": "a", "passed": True, "checks": [accuracy]}
    whole = joined(files, [{"metric": "latency.one_ms", "passed": False}])
    write_json(tmp_path / "verdict.json", files)
    assert last_verdict(dag, RECIPE) == (files, False)
    write_json(tmp_path / "gate" / "verdict.json", whole)
    assert last_verdict(dag, RECIPE) == (whole, True)
    # Of another model, or held to other floors.
    for key, value in (("weights_sha256", "b"), ("checks", [{**accuracy, "required": ">= 1"}])):
        write_json(tmp_path / "verdict.json", {**files, key: value})
        assert last_verdict(dag, RECIPE) == ({**files, key: value}, False)


class Stale(Folders):
    """The split, and what comes after, is of other parameters."""

    def plan(self, recipe: str) -> list[Stage]:
        names = ("fetch", "validate", "render", "split", "train", "evaluate", "verdict")
        return [Stage(f"{name}@{recipe}", (), "") for name in names]

    def unchanged(self, stage: Stage) -> bool:
        return stage.name in ("fetch", "validate", "render")


def test_no_decision_on_a_test_side_that_is_not_the_protocols(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not up to date: split@tiny\. Run `make run RECIPE=tiny`"):
        check_test_side(Stale(tmp_path), RECIPE)  # type: ignore[arg-type]


def test_latency_alone_blocks(dag: Any, tmp_path: Path) -> None:
    ours, theirs = (candidate(tmp_path, dag, name) for name in ("ours", "theirs"))
    for metric in ("latency.one_ms", "latency.batch_ms"):
        slow = params(serving=[{"metric": metric, "at_most": 1e-6}])
        assert failed(live_rows(dag, slow, RECIPE, ours, theirs)) == [metric]


def test_a_champion_that_saw_the_test_side_alone_blocks(dag: Any, tmp_path: Path) -> None:
    ours, theirs = (candidate(tmp_path, dag, name) for name in ("ours", "theirs"))
    beats = read_split(split_folder(dag, RECIPE)).beats
    tested = sorted(beats["patient"][beats["side"] == "test"].unique())
    for known in ({"train": tested[:1], "test": []}, None):
        report = tmp_path / f"report-{known is None}"
        report.mkdir()
        if known is not None:
            write_json(report / "split.json", {"patients": known})
        rows = live_rows(dag, params(), RECIPE, ours, Candidate("v1", theirs.model, report))
        assert failed(rows) == ["leakage.champion"]
        measured = {row["metric"]: row["measured"] for row in rows}["leakage.champion"]
        # Of a champion whose patients are not known, nothing is known.
        assert measured == (1.0 if known else None)
    # But for those whom the published split itself has on both sides.
    allowed = params(patients_on_both_sides=tested[:1])
    report = Candidate("v1", theirs.model, tmp_path / "report-False")
    assert failed(live_rows(dag, allowed, RECIPE, ours, report)) == []


def test_a_champion_that_cannot_be_compared_blocks_and_says_why(dag: Any, tmp_path: Path) -> None:
    ours = candidate(tmp_path, dag, "ours")
    theirs = candidate(tmp_path, dag, "version 1", classes=("N", "S", "V"))
    rows = live_rows(dag, params(), RECIPE, ours, theirs)
    assert failed(rows) == ["champion.headline.macro_f1"]
    assert rows[-1]["measured"] is None
    assert rows[-1]["detail"].startswith("cannot be compared with version 1: expected a model of")


def test_a_champion_whose_images_cannot_be_drawn_blocks_and_says_why(
    dag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: Any, **__: Any) -> None:
        raise DataError("s004: cannot be read")

    monkeypatch.setattr(regression, "render_dataset", unreadable)
    ours = candidate(tmp_path, dag, "ours")
    theirs = candidate(tmp_path, dag, "version 1", spec=SPEC.model_copy(update={"width": 18}))
    gone = Candidate("version 2", tmp_path / "gone", tmp_path / "gone")
    for champion in (theirs, gone):
        rows = live_rows(dag, params(), RECIPE, ours, champion)
        assert "champion.headline.macro_f1" in failed(rows)
        assert rows[-1]["detail"].startswith(f"cannot be compared with {champion.name}: ")
    # Of the model that is judged, nothing would be known.
    with pytest.raises(DataError, match="s004"):
        live_rows(dag, params(), RECIPE, theirs, ours)


def test_a_version_is_held_to_the_gate_of_today(dag: Any, tmp_path: Path) -> None:
    ours = candidate(tmp_path, dag, "ours")
    metrics = {"recipe": RECIPE, "weights_sha256": "a", "synthetic": True, "accuracy": 0.9}
    leaks = [
        {"metric": f"leakage.{what}", "passed": True, "measured": 0.0, "required": "<= 0"}
        for what in ("patients", "twins")
    ]
    report = tmp_path / "report"
    write_json(report / "metrics.json", metrics)
    write_json(report / "verdict.json", {"checks": leaks})
    side = hash_of_test_side(read_split(split_folder(dag, RECIPE)))
    ours = Candidate("version 2", ours.model, report, side)

    def judged(version: Candidate = ours, **changes: Any) -> list[str]:
        gate = [{"metric": "accuracy", "at_least": 0.8}, {"metric": "size.onnx_mb", "at_most": 1}]
        chosen = params(**{"gate": gate, "serving": [], **changes})
        verdict, _ = whole_verdict(dag, chosen, RECIPE, version, None)
        assert verdict["passed"] is (not failed(verdict["checks"]))
        return failed(verdict["checks"])

    assert judged() == []
    assert judged(gate=[{"metric": "accuracy", "at_least": 0.95}]) == ["accuracy"]
    assert judged(gate=[{"metric": "size.onnx_mb", "at_most": 1e-6}]) == ["size.onnx_mb"]
    # Figures of other beats say nothing of today's; nor do those of which it is not known.
    for other in ("another", None):
        assert judged(replace(ours, test_side=other)) == ["test_side"]
    # One that was registered before leaks were counted.
    write_json(report / "verdict.json", {"checks": []})
    assert judged() == ["leakage.patients"]
