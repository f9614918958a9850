import pytest

from ecgbeats.evaluation import evaluate
from ecgbeats.model_card import model_card
from tests.support.predictions import CLASSES, HEADLINE, about, fake_predictions

pytestmark = pytest.mark.unit

MODEL = {
    "classes": list(CLASSES),
    "image": {"representation": "composite"},
    "spec_id": "0123456789abcdef",
    "parameters": 55_000,
    "weights_sha256": "0f" * 32,
    "answer": {"abstain_below": 0.0},
}


def card(representation: str = "composite", **changes: object) -> str:
    metrics = evaluate(
        fake_predictions(), CLASSES, HEADLINE, replicates=200, seed=1, about=about(**changes)
    )
    model = MODEL | {"image": {"representation": representation}}
    return model_card(model, metrics, "ecgbeats-x")


def test_a_card_says_what_was_measured_and_on_whom() -> None:
    text = card(synthetic=False)
    metrics = evaluate(
        fake_predictions(), CLASSES, HEADLINE, replicates=200, seed=1, about=about(synthetic=False)
    )
    assert text.startswith("# ecgbeats-x\n\n**No medical device.**")
    assert f"{metrics['beats']:,} beats of 12 patients" in text
    low, high = metrics["gross"]["V"]["f1_interval"]
    row = next(line for line in text.splitlines() if line.startswith("| V |"))
    assert f"{metrics['gross']['V']['f1']:.3f} [{low:.3f}, {high:.3f}]" in row
    assert "synthetic" not in text
    assert "evidence of nothing" in card(synthetic=True)
    assert "Licence: CC0" in text


def test_a_card_names_weaknesses_by_the_model_s_own_figures() -> None:
    weak = card().partition("## Where it fails")[2]
    # One patient has most S beats; of Q there are three, of which hardly one is found.
    assert "- S: 82% of its beats are one patient's (p01)" in weak
    assert "- Q: " in weak
    assert "- N: " not in weak
    assert "It never abstains" in weak


def test_a_card_asks_for_a_recording_only_where_images_are_compared_with_one() -> None:
    def seen(representation: str) -> str:
        return card(representation).partition("## What it was measured on")[0]

    assert "a recording is needed" in seen("composite")
    assert "a recording is needed" not in seen("picture")
    assert "without rhythm" in seen("picture")
