"""A search finds what is there to find, goes on when killed, and sees no test beat."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from ecgbeats import tuning
from ecgbeats.config import Protocol, Recipe
from ecgbeats.crossval import Crossval, Part
from ecgbeats.errors import ConfigError
from ecgbeats.folds import make_folds
from ecgbeats.imaging.store import BeatImages, render_dataset
from ecgbeats.split import TEST, assign_sides
from tests.support.pretended import PretendedParts
from tests.support.recordings import AAMI5, write_dataset

pytestmark = pytest.mark.unit

SPACE = {
    "train.learning_rate": {"log": [0.0001, 0.1]},
    "model.options.dense": {"int": [8, 32]},
}
TUNE = {"trials": 6, "folds": 2, "seed": 3, "startup": 3, "prune_after": 1, "space": SPACE}
PROTOCOL = Protocol(
    labels=AAMI5,
    split={"by": "patient", "test_share": 0.34, "validation_share": 0.34, "seed": 1},  # type: ignore[arg-type]
    gate=({"metric": "accuracy", "at_least": 0.5},),  # type: ignore[arg-type]
)


def recipe(tune: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    values = {
        "dataset": "small",
        "protocol": "patients",
        "image": {
            "representation": "composite",
            "panel_height": 16,
            "width": 30,
            "strip_height": 2,
        },
        "model": {"name": "compact", "options": {"filters": [4, 8], "dense": 8}},
        "train": {"seed": 1, "epochs": 1, "batch": 16, "learning_rate": 0.01, "patience": 1},
        "evaluate": {"headline": ["N", "V"], "bootstrap": 100},
        "tune": TUNE if tune is None else tune,
    }
    return Recipe.model_validate(values | changes)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BeatImages]:
    folder = tmp_path_factory.mktemp("tuning")
    write_dataset(folder / "raw", {f"r{k}": "NNNVNNANNNVNNNNA" for k in range(9)})
    render_dataset(folder / "raw", recipe().image, AAMI5, folder / "images", workers=1)
    yield BeatImages.open(folder / "images")


def search_in(folder: Path, images: BeatImages, made: Recipe) -> tuning.Search:
    assert made.tune is not None
    folds = make_folds(images.beats, AAMI5, PROTOCOL, folds=made.tune.folds, over="training")
    return tuning.Search("small", made, images.folder, folds, AAMI5.names, folder, images.digest())


def near_a_hundredth(crossval: Crossval, part: Part) -> float:
    """Answers are as good as the learning rate is near 0.01."""
    return float(1 - abs(np.log10(crossval.train.learning_rate) + 2) / 2)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> PretendedParts:
    made = PretendedParts(near_a_hundredth)
    monkeypatch.setattr(tuning, "run_part", made)
    return made


def run(what: tuning.Search) -> list[tuning.Trial]:
    return list(tuning.search(what, jobs=1))


def told(trials: list[tuning.Trial]) -> list[tuple[dict[str, Any], float | None, str]]:
    return [(trial.values, trial.score, trial.state) for trial in trials]


def test_the_best_of_all_trials_is_found_and_can_be_pasted(
    images: BeatImages, pretended: PretendedParts, tmp_path: Path
) -> None:
    what = search_in(tmp_path / "tune", images, recipe({**TUNE, "trials": 12}))
    trials = run(what)
    assert len(trials) == 12
    study = tuning.open_study(what)
    best = max((t for t in trials if t.state == "complete"), key=lambda trial: trial.score or 0)
    assert study.best_value == best.score
    pasted = yaml.safe_load(tuning.best_yaml(what, study))["small"]
    assert pasted["train"]["learning_rate"] == best.values["train.learning_rate"]
    assert pasted["model"]["options"]["dense"] == best.values["model.options.dense"]
    # It has learnt from the first: the later ones are nearer to what is best.
    away = [abs(np.log10(t.values["train.learning_rate"]) + 2) for t in trials]
    assert np.median(away[6:]) < np.median(away[:3])
    tuning.write_search(tmp_path / "report", what, study, synthetic=True)
    table = pd.read_csv(tmp_path / "report" / "trials.csv")
    assert table["macro_f1"].tolist() == pytest.approx([t.score for t in trials])
    page = (tmp_path / "report" / "index.html").read_text()
    assert "SAMPLE DATA" in page and str(best.values["train.learning_rate"]) in page


def test_a_killed_search_goes_on_to_the_same_trials(
    images: BeatImages, pretended: PretendedParts, tmp_path: Path
) -> None:
    whole = run(search_in(tmp_path / "whole", images, recipe()))
    for die_at in (1, 4):
        # Within the first trial, after the first fold; later, before another.
        pretended.done.clear()
        what = search_in(tmp_path / f"parts-{die_at}", images, recipe())
        pretended.die_at = die_at
        with pytest.raises(KeyboardInterrupt):
            run(what)
        running = [t.state for t in tuning.open_study(what).trials]
        assert running.count(optuna.trial.TrialState.RUNNING) == 1
        run(what)
        study = tuning.open_study(what)
        assert told(tuning.ended_trials(what, study)) == told(whole)
        states = [trial.state for trial in study.trials]
        assert states.count(optuna.trial.TrialState.FAIL) == 1
        assert optuna.trial.TrialState.RUNNING not in states


def test_ended_trials_are_read_back_as_they_were(
    images: BeatImages, pretended: PretendedParts, tmp_path: Path
) -> None:
    what = search_in(tmp_path / "tune", images, recipe())
    trials = run(what)
    back = tuning.ended_trials(what, tuning.open_study(what))
    assert told(back) == told(trials)
    assert [trial.scores for trial in back] == [trial.scores for trial in trials]
    assert [trial.seconds for trial in back] == [trial.seconds for trial in trials]


def test_a_hopeless_trial_is_given_up(
    images: BeatImages, pretended: PretendedParts, tmp_path: Path
) -> None:
    tune = {**TUNE, "trials": 12, "folds": 3}
    trials = run(search_in(tmp_path / "tune", images, recipe(tune)))
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert pruned and all(len(trial.scores) < 3 for trial in pruned)
    assert all(len(trial.scores) == 3 for trial in trials if trial.state == "complete")
    assert all(trial.state == "complete" for trial in trials[:3])
    best = max(trial.score or 0 for trial in trials if trial.state == "complete")
    assert all((trial.score or 0) < best for trial in pruned)


def test_more_trials_go_on_with_the_study_and_another_space_begins_one(
    images: BeatImages, pretended: PretendedParts, tmp_path: Path
) -> None:
    first = run(search_in(tmp_path / "tune", images, recipe({**TUNE, "trials": 2})))
    assert not run(search_in(tmp_path / "tune", images, recipe({**TUNE, "trials": 2})))
    more = run(search_in(tmp_path / "tune", images, recipe({**TUNE, "trials": 3})))
    assert [trial.number for trial in first + more] == [0, 1, 2]
    space = {"train.learning_rate": {"float": [0.001, 0.1]}}
    other = run(search_in(tmp_path / "tune", images, recipe({**TUNE, "trials": 2, "space": space})))
    assert [trial.number for trial in other] == [0, 1]


def test_no_test_beat_is_seen(
    images: BeatImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: set[int] = set()
    take = BeatImages.take

    def spy(self: BeatImages, index: np.ndarray) -> np.ndarray:
        taken.update(np.asarray(index).tolist())
        return take(self, index)

    monkeypatch.setattr(BeatImages, "take", spy)
    what = search_in(tmp_path / "tune", images, recipe({**TUNE, "trials": 1}))
    (trial,) = run(what)
    test = (assign_sides(images.beats, AAMI5, PROTOCOL)["side"] == TEST).to_numpy()
    assert trial.state == "complete" and len(trial.scores) == 2
    assert not taken & set(np.flatnonzero(test))
    assert taken == set(np.flatnonzero(~test))


def test_folds_that_hold_the_test_side_are_refused(images: BeatImages, tmp_path: Path) -> None:
    folds = make_folds(images.beats, AAMI5, PROTOCOL, folds=2, over="all")
    what = tuning.Search(
        "small", recipe(), images.folder, folds, AAMI5.names, tmp_path, images.digest()
    )
    with pytest.raises(ConfigError, match="over the training side, got all"):
        run(what)


def test_a_recipe_without_a_space_is_refused(images: BeatImages, tmp_path: Path) -> None:
    what = search_in(tmp_path, images, recipe())
    plain = tuning.Search(
        "small",
        what.recipe.model_copy(update={"tune": None}),
        *(what.images, what.folds, what.classes, what.folder, what.digest),
    )
    with pytest.raises(ConfigError, match="section tune"):
        run(plain)


def test_values_lie_within_the_space() -> None:
    tune = {
        **TUNE,
        "space": {
            "train.learning_rate": {"log": [0.001, 0.01]},
            "train.class_balance": {"float": [0.2, 0.4]},
            "train.batch": {"int": [8, 9]},
            "train.refit": {"choice": [True, False]},
            "model.options.filters": {"choice": [[8, 16], [16, 32, 64]]},
        },
    }
    space = recipe(tune).tune.space  # type: ignore[union-attr]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = pd.DataFrame([tuning.suggest(study.ask(), space) for _ in range(40)])
    assert drawn["train.learning_rate"].between(0.001, 0.01).all()
    assert (drawn["train.learning_rate"] < 0.00316).mean() == pytest.approx(0.5, abs=0.25)
    assert drawn["train.class_balance"].between(0.2, 0.4).all()
    assert set(drawn["train.batch"]) == {8, 9}
    assert set(drawn["train.refit"]) == {True, False}
    assert {tuple(value) for value in drawn["model.options.filters"]} == {(8, 16), (16, 32, 64)}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"train.speed": {"log": [0.1, 1]}}, "train.speed.*Extra inputs"),
        ({"training.batch": {"int": [1, 2]}}, r"expected train\.\* or model\.\*"),
        ({"image.width": {"int": [16, 32]}}, "other images have to be drawn first"),
        ({"train.seed": {"int": [1, 9]}}, "says nothing of other seeds"),
        ({"train.learning_rate": {"float": [-1.0, 1.0]}}, "greater than 0"),
        ({"train.batch": {"int": [4, 4]}}, r"expected \[low, high\]"),
        ({"train.learning_rate": {"log": [0.0, 1.0]}}, "low above 0"),
        ({"train.batch": {"int": [4, 8], "choice": [1]}}, "just one of"),
        ({"train.batch": {}}, "just one of"),
        ({}, "at least 1 item"),
    ],
)
def test_a_space_that_no_recipe_can_have_is_refused(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe({**TUNE, "space": space})


def test_values_go_where_their_path_leads() -> None:
    base = recipe()
    changed = base.with_values({"train.batch": 32, "model.options.dense": 64, "model.options.x": 1})
    assert changed.train.batch == 32 and changed.train.learning_rate == base.train.learning_rate
    assert changed.model.options == {"filters": [4, 8], "dense": 64, "x": 1}
    assert base.model.options == {"filters": [4, 8], "dense": 8}
