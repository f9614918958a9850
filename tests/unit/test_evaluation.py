from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve

from ecgbeats.errors import ConfigError, DataError
from ecgbeats.evaluation import (
    confident_mistakes,
    evaluate,
    per_record_table,
    pr_points,
    roc_points,
    write_evaluation,
)
from ecgbeats.explanation import ClassAverage
from tests.support.predictions import (
    CLASSES,
    HEADLINE,
    about,
    fake_images,
    fake_predictions,
    history,
    table_of,
)

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return fake_predictions()


@pytest.fixture(scope="module")
def evaluation(table: pd.DataFrame) -> dict[str, Any]:
    return measure(table, CLASSES, HEADLINE)


def measure(table: pd.DataFrame, classes=("N", "V"), headline=("N", "V"), **changes: Any):
    return evaluate(table, classes, headline, replicates=100, seed=0, about=about(**changes))


def test_abstaining_leaves_out_the_unsure_and_nothing_else() -> None:
    unsure = table_of([0, 1, 1], [1, 1, 0], confidence=0.6)
    sure = table_of([0, 0, 1], [0, 0, 1], confidence=0.9)
    table = pd.concat([unsure, sure], ignore_index=True)
    always, at_edge, never = (
        evaluate(
            table,
            ("N", "V"),
            ("N", "V"),
            replicates=100,
            seed=0,
            about=about(),
            abstain_below=threshold,
        )
        for threshold in (0.0, 0.9, 0.95)
    )
    assert always["abstention"]["coverage"] == 1.0
    assert always["abstention"]["accuracy"] == always["accuracy"] == pytest.approx(4 / 6)
    found = at_edge["abstention"]
    assert (found["below"], found["coverage"], found["accuracy"]) == (0.9, 0.5, 1.0)
    assert found["classes"]["V"] == {"coverage": pytest.approx(1 / 3), "se": 1, "ppv": 1, "f1": 1}
    assert found["macro_f1"] == 1.0
    assert never["abstention"]["coverage"] == 0.0
    assert never["abstention"]["accuracy"] is None
    # The figures of all beats do not know of it.
    assert at_edge["gross"] == always["gross"]


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def test_figures_are_plain_json_without_nan(evaluation) -> None:
    assert json.loads(json.dumps(evaluation, allow_nan=False)) == evaluation
    assert all(x is None or type(x) in (int, float, str, bool) for x in leaves(evaluation))


def test_counts_and_identity(evaluation, table) -> None:
    assert (evaluation["beats"], evaluation["patients"], evaluation["records"]) == (5574, 12, 12)
    assert evaluation["recipe"] == "aami5-composite"
    assert evaluation["gross"]["Q"]["support"] == 3
    assert np.sum(evaluation["confusion"]["counts"]) == len(table)


def test_headline_is_the_mean_of_its_classes(evaluation) -> None:
    expected = np.mean([evaluation["gross"][name]["f1"] for name in HEADLINE])
    assert evaluation["headline"]["macro_f1"] == pytest.approx(expected)
    low, high = evaluation["headline"]["macro_f1_interval"]
    assert low < expected < high


def test_an_absent_class_is_undefined_not_zero() -> None:
    found = measure(table_of([0, 0, 0], [0, 0, 0]))
    assert found["gross"]["V"] == {
        "support": 0,
        "se": None,
        "ppv": None,
        "specificity": 1.0,
        "f1": None,
        "auc_roc": None,
        "auc_pr": None,
        "se_interval": None,
        "ppv_interval": None,
        "f1_interval": None,
    }
    assert found["average"]["V"]["se"] is None
    assert found["headline"]["macro_f1"] is None
    assert found["without_largest_patient"]["V"]["patient"] is None


def test_ec57_skips_the_first_five_minutes() -> None:
    times = [0.0, 299.9, 300.0, 301.0]
    found = measure(table_of([1, 1, 1, 0], [0, 0, 1, 0], time_s=times))
    assert found["gross"]["V"]["se"] == pytest.approx(1 / 3)
    assert found["ec57"]["beats"] == 2
    assert found["ec57"]["gross"]["V"]["se"] == 1.0


def test_ec57_of_short_records_is_undefined_not_zero() -> None:
    found = measure(table_of([1, 0], [1, 0]))
    assert found["ec57"]["beats"] == 0
    assert found["ec57"]["accuracy"] is None
    assert found["ec57"]["gross"]["V"]["se"] is None


def test_without_largest_patient_shows_what_rests_on_one() -> None:
    # Patient a: 8 V beats, all found. Patient b: 2 V beats, none found.
    patients = ["a"] * 8 + ["b"] * 4
    found = measure(table_of([1] * 8 + [1, 1, 0, 0], [1] * 8 + [0] * 4, patients=patients))
    assert found["gross"]["V"]["se"] == 0.8
    assert found["without_largest_patient"]["V"] == {
        "patient": "a",
        "share": 0.8,
        "se": 0.0,
        "ppv": None,
        "f1": 0.0,
    }


def test_records_of_one_patient_are_resampled_together() -> None:
    labels, predicted = [0, 1] * 10, [0, 1] * 5 + [0, 0] * 5
    records = ["201"] * 10 + ["202"] * 10
    apart = measure(table_of(labels, predicted, records=records))
    together = measure(table_of(labels, predicted, records=records, patients=["201"] * 20))
    assert apart["accuracy_interval"] is not None
    assert together["patients"] == 1
    assert together["accuracy_interval"] is None
    assert together["average"] == apart["average"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="time_s"), "time_s"),
        (lambda t: t.drop(columns="p_V"), "p_V"),
        (lambda t: t.iloc[:0], "at least one beat"),
        (lambda t: t.assign(label=[0, 2]), r"labels 0 to 1, got \[.*2"),
        (lambda t: t.assign(label=[0, -1]), "labels 0 to 1"),
        (lambda t: t.assign(patient=["a", None]), "1 beats without"),
        (lambda t: t.assign(p_N=[0.5, 0.5]), "sum of 1"),
        (lambda t: t.assign(p_N=[1.0, math.nan]), "row 1"),
        (lambda t: t.assign(p_N=[2.0, 0.0], p_V=[-1.0, 1.0]), "row 0"),
    ],
)
def test_unusable_predictions_are_refused(change: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        measure(change(table_of([0, 1], [0, 1])))


def test_headline_and_about_are_checked() -> None:
    table = table_of([0, 1], [0, 1])
    with pytest.raises(ConfigError, match="headline"):
        measure(table, headline=("S",))
    with pytest.raises(ConfigError, match="headline"):
        measure(table, headline=())
    with pytest.raises(ConfigError, match="accuracy"):
        measure(table, accuracy=1.0)
    with pytest.raises(ConfigError, match="weights_sha256"):
        evaluate(table, ("N", "V"), ("N",), replicates=100, seed=0, about={"recipe": "r"})


def test_per_record_table_agrees_with_the_average_view(table, evaluation) -> None:
    records = per_record_table(table, CLASSES)
    assert records["beats"].sum() == len(table)
    assert records["se_S"].mean() == pytest.approx(evaluation["average"]["S"]["se"])
    assert records["ppv_S"].mean() == pytest.approx(evaluation["average"]["S"]["ppv"])
    assert records["se_S"].isna().sum() == 12 - evaluation["average"]["S"]["se_records"]


def test_curves_are_thin_and_keep_their_shape() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 20_000)
    score = np.clip(rng.normal(0.4 + 0.2 * labels, 0.15), 0, 1)
    table = table_of(labels.tolist(), [0] * 20_000).assign(p_N=1 - score, p_V=score)
    assert len(roc_curve(labels, score)[0]) > 1000
    curve = roc_points(table, ("N", "V")).query("`class` == 'V'")
    assert len(curve) <= 500
    assert curve[["fpr", "tpr"]].iloc[[0, -1]].to_numpy().tolist() == [[0, 0], [1, 1]]
    area = np.trapezoid(curve["tpr"], curve["fpr"])
    assert area == pytest.approx(roc_auc_score(labels, score), abs=1e-3)
    assert pr_points(table, ("N", "V")).groupby("class").size().max() <= 500


def test_mistakes_are_wrong_sure_and_spread_over_records(table) -> None:
    mistakes = confident_mistakes(table, CLASSES)
    wrong = table.iloc[mistakes["row"]]
    assert (mistakes["actual"] != mistakes["predicted"]).all()
    assert [CLASSES[i] for i in wrong["label"]] == mistakes["actual"].tolist()
    assert mistakes.groupby("actual").size().max() <= 8
    assert mistakes.groupby(["actual", "record"]).size().max() <= 2
    for _, group in mistakes.groupby("actual"):
        assert group["confidence"].is_monotonic_decreasing
    sure_of_s = table[table["label"] == 1]
    wrongly = sure_of_s[["p_N", "p_V", "p_F", "p_Q"]].max(axis=1)
    surest = wrongly[wrongly > sure_of_s["p_S"]].max()
    assert mistakes.query("actual == 'S'")["confidence"].iloc[0] == pytest.approx(surest)


@pytest.fixture(scope="module")
def written(tmp_path_factory, table, evaluation) -> Path:
    out = tmp_path_factory.mktemp("written") / "evaluation"
    write(out, table, evaluation)
    return out


def write(out: Path, table: pd.DataFrame, evaluation: dict[str, Any]) -> None:
    average = ClassAverage(3, np.full((48, 64), 128.0), np.linspace(-1, 1, 48 * 64).reshape(48, 64))
    write_evaluation(
        out,
        table,
        evaluation,
        history=history(),
        images=fake_images,
        saliency={"N": average, "V": average},
        sheets={"N": b"\x89PNG"},
    )


def test_all_files_are_written(written: Path, evaluation) -> None:
    names = {p.relative_to(written).as_posix() for p in written.rglob("*") if p.is_file()}
    pictures = (
        *("confusion", "roc", "pr", "reliability", "coverage", "records", "history"),
        *("mistakes", "saliency"),
    )
    assert names == {
        "metrics.json",
        "per_record.csv",
        "index.html",
        *(f"plots/{name}.png" for name in pictures),
        *(f"curves/{name}.csv" for name in ("confusion", "roc", "pr", "coverage", "history")),
    }
    assert json.loads((written / "metrics.json").read_text()) == evaluation


def test_plots_are_pictures_without_date_or_version(written: Path) -> None:
    for path in (written / "plots").glob("*.png"):
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
            assert min(image.size) > 300
            assert not {"Software", "Creation Time", "date:create"} & set(image.info)
            assert len(image.convert("RGB").getcolors(2**24)) > 10


def test_csvs_are_what_dvc_plots_takes(written: Path, evaluation) -> None:
    confusion = pd.read_csv(written / "curves" / "confusion.csv")
    counts = pd.crosstab(confusion["actual"], confusion["predicted"])
    assert counts.loc["S", "N"] == evaluation["confusion"]["counts"][1][0]
    assert list(pd.read_csv(written / "curves" / "roc.csv")) == ["class", "fpr", "tpr"]
    assert list(pd.read_csv(written / "curves" / "pr.csv")) == ["class", "recall", "precision"]
    coverage = pd.read_csv(written / "curves" / "coverage.csv")
    assert list(coverage) == ["threshold", "coverage", "accuracy", "macro_f1"]
    assert coverage["accuracy"].iloc[0] == pytest.approx(evaluation["accuracy"])
    assert "epoch" in pd.read_csv(written / "curves" / "history.csv")


def test_the_same_input_gives_the_same_bytes(written: Path, tmp_path, table, evaluation) -> None:
    write(tmp_path / "again", table, evaluation)
    for path in (p for p in written.rglob("*") if p.is_file()):
        again = tmp_path / "again" / path.relative_to(written)
        assert path.read_bytes() == again.read_bytes(), path.name


def test_a_flawless_model_on_few_beats_can_be_written(tmp_path: Path) -> None:
    table = table_of([0, 0, 1], [0, 0, 1], classes=("N", "V", "Q"))
    evaluation = measure(table, ("N", "V", "Q"), ("N", "V"))
    write_evaluation(tmp_path / "out", table, evaluation, images=fake_images)
    assert not (tmp_path / "out" / "plots" / "mistakes.png").exists()
    assert not (tmp_path / "out" / "plots" / "history.png").exists()
    assert (tmp_path / "out" / "index.html").is_file()
