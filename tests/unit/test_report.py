from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from ecgbeats.config import Check
from ecgbeats.evaluation import evaluate
from ecgbeats.gate import judge
from ecgbeats.report import render_report
from tests.support.predictions import CLASSES, HEADLINE, about, fake_predictions, table_of

pytestmark = pytest.mark.unit

BANNER = "SAMPLE DATA: synthetic, no evidence"
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """All attributes that may load something, all text, and whether every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def evaluation() -> dict[str, Any]:
    return evaluate(fake_predictions(), CLASSES, HEADLINE, replicates=100, seed=0, about=about())


def test_nothing_is_loaded_from_elsewhere(evaluation) -> None:
    plots = dict.fromkeys(("confusion", "roc", "mistakes"), b"\x89PNG")
    html = render_report(evaluation, plots, {"N": b"sheet"})
    page = Page(html)
    assert page.references
    assert all(reference.startswith("data:") for reference in page.references)
    assert "script" not in page.tags
    assert not re.search(r"https?://|url\(|@import", html)
    uri = "data:image/png;base64," + base64.b64encode(b"sheet").decode()
    assert uri in page.references


def test_the_banner_marks_sample_data_and_nothing_else(evaluation) -> None:
    assert BANNER in Page(render_report(evaluation, {}, {})).text
    real = evaluation | {"synthetic": False}
    assert BANNER not in Page(render_report(real, {}, {})).text


def test_names_are_escaped() -> None:
    name = "<img src=x onerror=alert(1)>"
    table = table_of([0, 1], [0, 1], classes=("N", name), patients=["<b>a", "<b>b"])
    changes = {"recipe": "<script>x</script>", "training": {"note": "</main>"}}
    evaluation = evaluate(
        table, ("N", name), ("N", name), replicates=100, seed=0, about=about(**changes)
    )
    page = Page(render_report(evaluation, {"roc": b""}, {name: b""}, verdict_link="verdict.md"))
    assert "script" not in page.tags
    assert "x" not in page.references
    assert "<script>x</script>" in page.text
    assert "<b>a" in page.text
    assert name in page.text


def test_headline_figures_and_intervals_are_on_the_page(evaluation) -> None:
    text = Page(render_report(evaluation, {}, {})).text
    low, high = evaluation["headline"]["macro_f1_interval"]
    assert "Macro-F1 over N, S, V" in text
    assert f"{evaluation['headline']['macro_f1']:.3f}" in text
    assert f"{low:.3f} to {high:.3f}" in text
    assert "0f" * 32 in text
    assert "compact" in text


def test_the_verdict_is_shown_check_by_check(evaluation) -> None:
    checks = [
        Check(metric="accuracy", at_least=0.5),
        Check(metric="calibration.ece", at_most=0.0001),
    ]
    text = Page(render_report(evaluation, {}, {}, judge(evaluation, checks))).text
    assert "Gate: failed" in text
    assert "calibration.ece" in text
    assert "<= 0.0001" in text
    assert (
        "Gate: passed"
        in Page(render_report(evaluation, {}, {}, judge(evaluation, checks[:1]))).text
    )
    assert "Gate:" not in Page(render_report(evaluation, {}, {})).text


def test_the_verdicts_own_page_is_linked_relatively(evaluation) -> None:
    page = Page(render_report(evaluation, {}, {}, verdict_link="../verdict.md"))
    assert "../verdict.md" in page.references


def test_undefined_figures_are_dashes() -> None:
    table = table_of([0, 0], [0, 0])
    evaluation = evaluate(table, ("N", "V"), ("N", "V"), replicates=100, seed=0, about=about())
    text = Page(render_report(evaluation, {}, {})).text
    assert "None" not in text
    assert "nan" not in text.lower().split()
    assert "No recording is longer than five minutes" in text


def test_pictures_that_were_not_made_are_left_out(evaluation) -> None:
    assert "Most confident mistakes" not in render_report(evaluation, {}, {})
    assert "Most confident mistakes" in render_report(evaluation, {"mistakes": b"x"}, {})


def test_abstention_is_tabled_only_where_a_threshold_is_set(evaluation) -> None:
    assert "every beat is answered" in Page(render_report(evaluation, {"roc": b""}, {})).text
    strict = evaluate(
        fake_predictions(),
        CLASSES,
        HEADLINE,
        replicates=100,
        seed=0,
        about=about(),
        abstain_below=0.7,
    )
    text = Page(render_report(strict, {"roc": b""}, {})).text
    assert "Below a confidence of 0.7" in text
    assert f"{100 * strict['abstention']['coverage']:.1f} %" in text
    assert "every beat is answered" not in text


def test_temperature_and_saliency_are_told_in_words(evaluation) -> None:
    calibration = {
        "method": "temperature",
        "temperature": 1.4142,
        "validation_ece_before": 0.0312,
        "validation_ece": 0.0123,
    }
    explanation = {
        "method": "integrated gradients",
        "beats": {"N": 3},
        "shares": {"N": {"beat": 0.75, "pre_rr": 0.25}},
        "steps": 16,
        "incompleteness": 0.005,
        "randomised": {
            "images": 3,
            "layers": ["logits", "conv1"],
            "signed": [0.5, -0.04],
            "absolute": [0.7, 0.6],
            "rank_correlation": -0.04,
            "rank_correlation_absolute": 0.6,
        },
    }
    told = evaluation | {"training": {"calibration": calibration}, "explanation": explanation}
    text = Page(render_report(told, {"roc": b"", "saliency": b"x"}, {})).text
    assert "temperature of 1.414" in text
    assert "correlates by -0.04" in text
    assert "depend on the model" in text
    by_squares = explanation | {"method": "occlusion", "shares": {}, "randomised": None}
    text = Page(render_report(told | {"explanation": by_squares}, {"saliency": b"x"}, {})).text
    assert "no gradient" in text
    assert "What it looks at" not in Page(render_report(evaluation, {}, {})).text
