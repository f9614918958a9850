"""Folds are done once, pooled so that each beat counts once, and averaged over seeds."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgbeats import crossval
from ecgbeats.config import (
    EvaluateParams,
    ModelParams,
    PatientSplit,
    Protocol,
    TrainParams,
)
from ecgbeats.crossval import Crossval, Part
from ecgbeats.errors import ConfigError
from ecgbeats.files import read_json
from ecgbeats.folds import make_folds
from ecgbeats.imaging.spec import CompositeSpec
from ecgbeats.imaging.store import BeatImages, render_dataset
from tests.support.pretended import PretendedParts
from tests.support.recordings import AAMI5, write_dataset

pytestmark = pytest.mark.unit

SPEC = CompositeSpec(representation="composite", panel_height=16, width=30, strip_height=2)
EVALUATE = EvaluateParams(headline=("N", "S", "V"), bootstrap=100)
ABOUT = {
    "recipe": "small",
    "dataset": {"name": "small", "version": "1", "licence": "none"},
    "synthetic": True,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BeatImages]:
    folder = tmp_path_factory.mktemp("crossval")
    write_dataset(folder / "raw", {f"r{k}": "NNNVNNANNNVNNNNA" for k in range(9)})
    render_dataset(folder / "raw", SPEC, AAMI5, folder / "images", workers=1)
    yield BeatImages.open(folder / "images")


def plan(images: BeatImages, folder: Path, seeds: tuple[int, ...] = (1, 2)) -> Crossval:
    protocol = Protocol(
        labels=AAMI5,
        split=PatientSplit(by="patient", test_share=0.34, validation_share=0.34),
        gate=({"metric": "accuracy", "at_least": 0.5},),  # type: ignore[arg-type]
    )
    return Crossval(
        images=images.folder,
        folds=make_folds(images.beats, AAMI5, protocol, folds=3),
        classes=AAMI5.names,
        headline=("N", "S", "V"),
        model=ModelParams(name="compact"),
        train=TrainParams(seed=9, epochs=1, batch=16, learning_rate=0.01, patience=1),
        seeds=seeds,
        folder=folder,
    )


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> PretendedParts:
    made = PretendedParts(lambda _, part: 0.9 if part.seed == 1 else 0.7)
    monkeypatch.setattr(crossval, "run_part", made)
    return made


def run(of: Crossval, images: BeatImages) -> dict[Part, crossval.Outcome]:
    done = crossval.done_parts(of, images.digest())
    todo = [part for part in of.parts() if part not in done]
    return done | dict(crossval.run_parts(of, todo, jobs=1))


def test_a_killed_cross_validation_does_only_what_is_missing(
    images: BeatImages, pretended: PretendedParts, tmp_path: Path
) -> None:
    of = plan(images, tmp_path)
    pretended.die_at = 2
    with pytest.raises(KeyboardInterrupt):
        run(of, images)
    assert list(crossval.done_parts(of, images.digest())) == pretended.done == of.parts()[:2]
    outcomes = run(of, images)
    assert set(outcomes) == set(of.parts())
    assert pretended.done == of.parts()
    run(of, images)
    assert len(pretended.done) == 6


def test_parts_of_other_parameters_are_not_taken_for_done(
    images: BeatImages, pretended: PretendedParts, tmp_path: Path
) -> None:
    of = plan(images, tmp_path)
    run(of, images)
    other = Crossval(**{**vars(of), "train": of.train.model_copy(update={"epochs": 2})})
    assert not crossval.done_parts(other, images.digest())
    assert of.identity("x") != other.identity("x") != other.identity("y")


def test_each_part_has_its_seed_and_its_fold(images: BeatImages, tmp_path: Path) -> None:
    of = plan(images, tmp_path)
    assert [part.name for part in of.parts([2])] == ["seed-1/fold-2", "seed-2/fold-2"]
    assert {of.train_params(part).seed for part in of.parts()} == {1, 2}
    with pytest.raises(ConfigError, match="fold 3 of 3"):
        of.parts([3])


def test_every_beat_counts_once_and_seeds_are_averaged(
    images: BeatImages, pretended: PretendedParts, tmp_path: Path
) -> None:
    of = plan(images, tmp_path / "parts")
    outcomes = run(of, images)
    table = crossval.pooled(outcomes, 1)
    beats = images.beats.sort_values(["record", "sample"])
    assert table["sample"].tolist() == beats["sample"].tolist()
    figures = crossval.measure(of, outcomes, EVALUATE, ABOUT)
    scores = [figures["seeds"][seed]["headline"]["macro_f1"] for seed in ("1", "2")]
    assert scores[0] > scores[1]
    assert figures["mean"]["headline"]["macro_f1"] == pytest.approx(np.mean(scores))
    assert figures["spread"]["headline"]["macro_f1"] == pytest.approx(np.std(scores, ddof=1))
    assert figures["mean"]["gross"]["Q"]["f1"] is None
    assert figures["seeds"]["1"]["beats"] == len(images.beats)
    assert figures["seeds"]["1"]["patients"] == 9
    weights = {one["weights_sha256"] for one in figures["seeds"].values()}
    assert len(weights) == 2
    assert figures["train_minutes"] == pytest.approx(6 * 2 / 60)


def test_one_seed_has_no_spread(
    images: BeatImages, pretended: PretendedParts, tmp_path: Path
) -> None:
    of = plan(images, tmp_path, seeds=(1,))
    figures = crossval.measure(of, run(of, images), EVALUATE, ABOUT)
    assert figures["spread"]["accuracy"] is None
    assert figures["mean"]["accuracy"] == figures["seeds"]["1"]["accuracy"]


def test_figures_need_every_part(
    images: BeatImages, pretended: PretendedParts, tmp_path: Path
) -> None:
    of = plan(images, tmp_path)
    outcomes = dict(list(run(of, images).items())[:-1])
    with pytest.raises(ConfigError, match="seed-2/fold-2 not done"):
        crossval.measure(of, outcomes, EVALUATE, ABOUT)


def test_the_report_has_a_page_and_a_row_for_each_part(
    images: BeatImages, pretended: PretendedParts, tmp_path: Path
) -> None:
    of = plan(images, tmp_path / "parts")
    outcomes = run(of, images)
    figures = crossval.measure(of, outcomes, EVALUATE, ABOUT)
    crossval.write_crossval(tmp_path / "report", of, outcomes, figures)
    assert read_json(tmp_path / "report" / "metrics.json") == figures
    table = pd.read_csv(tmp_path / "report" / "folds.csv")
    assert table[["seed", "fold"]].to_numpy().tolist() == [[s, k] for s in (1, 2) for k in range(3)]
    assert table.groupby("seed")["beats"].sum().tolist() == [len(images.beats)] * 2
    tested = [
        name for row in table.loc[table["seed"] == 1, "tested_patients"] for name in row.split()
    ]
    assert sorted(tested) == sorted(images.beats["patient"].unique())
    page = (tmp_path / "report" / "index.html").read_text()
    assert "SAMPLE DATA" in page and 'href="seed-2/index.html"' in page
    assert (tmp_path / "report" / "seed-2" / "index.html").is_file()
    assert (tmp_path / "report" / "seed-2" / "plots" / "mistakes.png").is_file()
