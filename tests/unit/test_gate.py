from __future__ import annotations

import json
import math
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from ecgbeats.config import Check, EvaluateParams, NoRegression
from ecgbeats.errors import ConfigError, ContractError, GateFailed
from ecgbeats.evaluation import evaluate
from ecgbeats.gate import (
    enforce,
    failed_metrics,
    joined,
    judge,
    rows_of,
    verdict_junit,
    verdict_markdown,
)
from ecgbeats.leakage import leakage_rows
from ecgbeats.regression import no_regression_rows
from tests.support.predictions import CLASSES, HEADLINE, about, fake_predictions, table_of

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def evaluation() -> dict[str, Any]:
    return evaluate(
        fake_predictions(), CLASSES, HEADLINE, replicates=100, seed=0, about=about(synthetic=False)
    )


def figures(value: Any) -> dict[str, Any]:
    return {
        "recipe": "r",
        "weights_sha256": "ab" * 32,
        "synthetic": False,
        "calibration": {"ece": value},
        "gross": {"S": {"se": value}},
    }


@pytest.mark.parametrize(
    ("bound", "value", "passed"),
    [
        ({"at_least": 0.9}, 0.91, True),
        ({"at_least": 0.9}, 0.9, True),
        ({"at_least": 0.9}, 0.8999999, False),
        ({"at_most": 0.05}, 0.04, True),
        ({"at_most": 0.05}, 0.05, True),
        ({"at_most": 0.05}, 0.0500001, False),
        ({"at_least": 0.0}, None, False),
        ({"at_most": 1.0}, None, False),
        ({"at_least": 0.0}, math.nan, False),
        ({"at_most": 1.0}, math.nan, False),
        ({"at_least": 0.0}, math.inf, False),
        ({"at_most": 1.0}, -math.inf, False),
    ],
)
def test_a_bound_holds_or_blocks(bound: dict[str, float], value: Any, passed: bool) -> None:
    verdict = judge(figures(value), [Check(metric="calibration.ece", **bound)])
    assert verdict["passed"] is passed
    assert verdict["checks"][0]["passed"] is passed
    json.dumps(verdict, allow_nan=False)
    if passed:
        enforce(verdict)
    else:
        with pytest.raises(GateFailed, match=r"calibration\.ece"):
            enforce(verdict)


def test_a_floor_on_the_mean_of_records_sees_a_small_record_that_is_missed() -> None:
    # 190 V beats of one record are found; of another's 10, none.
    records = ["a"] * 380 + ["b"] * 20
    labels = [0, 1] * 190 + [0, 1] * 10
    predicted = [0, 1] * 190 + [0] * 20
    table = table_of(labels, predicted, records=records)
    found = evaluate(table, ("N", "V"), ("N", "V"), replicates=50, seed=0, about=about())
    names = ("gross.V.se", "average.V.se", "without_largest_patient.V.se")
    verdict = judge(found, [Check(metric=name, at_least=0.6) for name in names])
    assert failed_metrics(verdict) == ["average.V.se", "without_largest_patient.V.se"]
    assert [row["measured"] for row in verdict["checks"]] == [0.95, 0.5, 0.0]
    assert verdict["checks"][1]["what"] == "V: sensitivity, mean of records"


def test_one_failed_check_of_several_fails_the_model(evaluation) -> None:
    checks = [
        Check(metric="headline.macro_f1", at_least=0.5),
        Check(metric="gross.Q.se", at_least=0.2),
    ]
    verdict = judge(evaluation, checks)
    assert [row["passed"] for row in verdict["checks"]] == [True, False]
    with pytest.raises(GateFailed) as caught:
        enforce(verdict)
    assert "gross.Q.se: required >= 0.2, measured 0" in str(caught.value)
    assert "headline" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_verdict_says_what_it_is_about(evaluation) -> None:
    verdict = judge(evaluation, [Check(metric="average.S.se", at_least=0.1)])
    assert verdict["recipe"] == "aami5-composite"
    assert verdict["weights_sha256"] == "0f" * 32
    assert verdict["synthetic"] is False
    assert verdict["checks"] == [
        {
            "what": "S: sensitivity, mean of records",
            "metric": "average.S.se",
            "measured": evaluation["average"]["S"]["se"],
            "required": ">= 0.1",
            "passed": True,
        }
    ]


@pytest.mark.parametrize(
    "path", ["gross.S.sensitivity", "gross.X.se", "gross", "recipe", "synthetic", ""]
)
def test_a_path_that_is_no_figure_is_an_error(evaluation, path: str) -> None:
    with pytest.raises(ConfigError, match="dotted path"):
        judge(evaluation, [Check(metric=path, at_least=0.5)])


def test_an_unknown_path_is_told_its_neighbours(evaluation) -> None:
    with pytest.raises(ConfigError, match=r"headline\.macro_f1.*'headline\.macrof1'"):
        judge(evaluation, [Check(metric="headline.macrof1", at_least=0.5)])


def test_no_checks_is_no_pass(evaluation) -> None:
    with pytest.raises(ConfigError, match="at least one check"):
        judge(evaluation, [])


@pytest.mark.parametrize(
    "edit",
    [
        {"checks": []},
        {"passed": False},
        {"passed": "no"},
        {"checks": [{"metric": "m", "required": ">= 1", "measured": 0.0, "passed": False}]},
    ],
)
def test_enforce_does_not_rely_on_one_flag(edit: dict[str, Any]) -> None:
    verdict = judge(figures(0.99), [Check(metric="gross.S.se", at_least=0.5)])
    with pytest.raises(GateFailed):
        enforce(verdict | edit)


def test_markdown_answers_first_and_shows_every_check(evaluation) -> None:
    checks = [
        Check(metric="headline.macro_f1", at_least=0.5),
        Check(metric="calibration.ece", at_most=0.001),
    ]
    text = verdict_markdown(judge(evaluation, checks), evaluation)
    assert text.splitlines()[0] == "## aami5-composite: FAILED"
    assert "| pass | macro-F1 of the headline classes" in text
    assert "| **FAIL** | expected calibration error" in text
    assert "Sample data" not in text
    assert len([line for line in text.splitlines() if line.startswith(("| N ", "| Q "))]) == 2


def test_markdown_warns_of_sample_data_and_keeps_its_table_whole(evaluation) -> None:
    odd = evaluation | {"synthetic": True, "recipe": "a|b<script>"}
    text = verdict_markdown(judge(odd, [Check(metric="accuracy", at_least=0.5)]), odd)
    assert "Sample data" in text
    assert "<script>" not in text
    assert text.splitlines()[0] == "## a\\|b&lt;script>: passed"


# Each kind of check: bounds that this evaluation keeps, and one that it alone breaks.
KEPT = {
    "accuracy": {"at_least": 0.5},
    "gross.V.se": {"at_least": 0.2},
    "average.S.se": {"at_least": 0.1},
    "calibration.ece": {"at_most": 0.5},
    "size.onnx_mb": {"at_most": 2},
    "latency.one_ms": {"at_most": 20},
    "latency.batch_ms": {"at_most": 500},
}
BROKEN = {
    "accuracy": {"at_least": 0.9999},
    "gross.V.se": {"at_least": 0.9999},
    "average.S.se": {"at_least": 0.9999},
    "calibration.ece": {"at_most": 0.0001},
    "size.onnx_mb": {"at_most": 0.2},
    "latency.one_ms": {"at_most": 0.2},
    "latency.batch_ms": {"at_most": 2},
}
LIVE = {"size": {"onnx_mb": 0.3}, "latency": {"one_ms": 0.5, "batch_ms": 9.0}}


def sides(**spoilt: dict[str, Any]) -> pd.DataFrame:
    """Six beats of three patients; `spoilt` gives the last other values."""
    table = pd.DataFrame(
        {
            "record": ["a", "a", "b", "b", "c", "c"],
            "patient": ["a", "a", "b", "b", "c", "c"],
            "sample": range(6),
            "symbol": "N",
            "label": "N",
            "side": ["train", "train", "validation", "validation", "test", "test"],
            "window_sha": [None, None, "1", "2", "3", "4"],
        }
    )
    for column, value in spoilt.items():
        table.loc[5, column] = value
    return table


def gate_of(evaluation: dict[str, Any], broken: str = "") -> dict[str, Any]:
    """A verdict with every kind of check, of which just one fails."""
    bounds = KEPT | {key: bound for key, bound in BROKEN.items() if key == broken}
    files = [Check(metric=key, **bound) for key, bound in bounds.items()]
    spoilt = {"leakage.patients": {"patient": "a"}, "leakage.twins": {"window_sha": "1"}}
    leaks = leakage_rows(sides(**spoilt.get(broken, {})), by="patient", allowed_patients=())
    champion = fake_predictions()
    challenger = champion.copy()
    if broken == "champion.gross.V.se":
        # Every third V is called N; nothing else is worse.
        these = np.flatnonzero(champion["label"] == CLASSES.index("V"))[::3]
        for name in CLASSES:
            challenger.loc[these, f"p_{name}"] = float(name == "N")
    against = no_regression_rows(
        challenger,
        champion,
        CLASSES,
        [NoRegression(metric="gross.V.se", margin=0.05)],
        EvaluateParams(headline=HEADLINE, bootstrap=200),
        name="version 1",
    )
    return joined(judge(evaluation | LIVE, files), [*leaks, *against])


def test_what_breaks_nothing_passes(evaluation) -> None:
    verdict = gate_of(evaluation)
    enforce(verdict)
    assert verdict["passed"] is True and failed_metrics(verdict) == []


@pytest.mark.parametrize(
    "metric", [*BROKEN, "leakage.patients", "leakage.twins", "champion.gross.V.se"]
)
def test_each_kind_of_check_blocks_alone(evaluation, metric: str) -> None:
    verdict = gate_of(evaluation, metric)
    assert failed_metrics(verdict) == [metric]
    assert verdict["passed"] is False
    with pytest.raises(GateFailed, match=f"fails 1 of 10 checks. {metric}: required"):
        enforce(verdict)
    (failure,) = ElementTree.fromstring(verdict_junit(verdict)).iter("failure")
    assert failure.get("message", "").startswith("required ")
    json.dumps(verdict, allow_nan=False)


def test_beats_at_random_may_share_patients_but_no_signal() -> None:
    shared = sides(patient="a")
    (twins,) = leakage_rows(shared, by="beat", allowed_patients=())
    assert (twins["metric"], twins["passed"]) == ("leakage.twins", True)
    patients, _ = leakage_rows(shared, by="patient", allowed_patients=["a"])
    assert patients["passed"] is True


def test_a_challenger_that_is_as_good_but_on_other_beats_is_an_error(evaluation) -> None:
    champion = fake_predictions()
    with pytest.raises(ContractError, match="the same beats"):
        no_regression_rows(
            champion.iloc[1:],
            champion,
            CLASSES,
            [NoRegression(metric="accuracy", margin=0.05)],
            EvaluateParams(headline=HEADLINE, bootstrap=100),
            name="version 1",
        )


def test_what_is_not_shown_to_be_within_the_margin_fails() -> None:
    """The difference itself is; its interval, of few patients, is not."""
    champion = fake_predictions()
    challenger = champion.copy()
    one = np.flatnonzero((champion["patient"] == "p08") & (champion["label"] == 2))
    for name in CLASSES:
        challenger.loc[one, f"p_{name}"] = float(name == "N")
    evaluate = EvaluateParams(headline=HEADLINE, bootstrap=500)

    def row(margin: float) -> dict[str, Any]:
        check = NoRegression(metric="gross.V.se", margin=margin)
        (found,) = no_regression_rows(
            challenger, champion, CLASSES, [check], evaluate, name="version 1"
        )
        return found

    low, _ = row(0.0)["interval"]
    assert low < row(0.0)["difference"] < 0
    between = -(low + row(0.0)["difference"]) / 2
    assert row(between)["passed"] is False and row(-low)["passed"] is True


@pytest.mark.parametrize("metric", ["gross.X.se", "gross.V.support", "headline", "calibration.ece"])
def test_a_figure_without_a_difference_is_named(metric: str) -> None:
    table = fake_predictions()
    check = NoRegression(metric=metric, margin=0.05)
    with pytest.raises(ConfigError, match=r"no_regression: expected accuracy, headline\.macro_f1"):
        no_regression_rows(
            table,
            table,
            CLASSES,
            [check],
            EvaluateParams(headline=HEADLINE, bootstrap=100),
            name="it",
        )


def test_junit_has_a_case_for_each_check_and_holds_any_text(evaluation) -> None:
    verdict = judge(
        figures(0.4) | {"recipe": "a<b>\x00&"},
        [Check(metric="gross.S.se", at_least=0.5), Check(metric="calibration.ece", at_most=0.5)],
    )
    root = ElementTree.fromstring(verdict_junit(verdict))
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    (suite,) = root
    assert suite.get("name") == "a<b>&"
    assert [(case.get("name"), case[0].tag) for case in suite] == [
        ("gross.S.se", "failure"),
        ("calibration.ece", "system-out"),
    ]
    assert verdict_junit(verdict) == verdict_junit(json.loads(json.dumps(verdict)))


def test_latency_and_size_are_checks_like_others() -> None:
    (row,) = rows_of(LIVE, [Check(metric="latency.one_ms", at_most=0.1)])
    assert row == {
        "what": "latency: ms for one image, median",
        "metric": "latency.one_ms",
        "measured": 0.5,
        "required": "<= 0.1",
        "passed": False,
    }
