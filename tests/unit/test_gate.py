from __future__ import annotations

import json
import math
from typing import Any

import pytest

from ecgbeats.config import Check
from ecgbeats.errors import ConfigError, GateFailed
from ecgbeats.evaluation import evaluate
from ecgbeats.gate import enforce, judge, verdict_markdown
from tests.support.predictions import CLASSES, HEADLINE, about, fake_predictions

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
