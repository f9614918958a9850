"""Two models on the same beats: figures, tests and pictures of what they answer otherwise."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgbeats.bootstrap import paired_difference
from ecgbeats.comparison import Answers, by_patient, compare, disagreements, mcnemar
from ecgbeats.comparison_page import Drawn, comparison_markdown, write_comparison
from ecgbeats.errors import ConfigError, ContractError
from ecgbeats.files import read_json, write_text
from tests.support.predictions import CLASSES, HEADLINE, fake_images, fake_predictions

pytestmark = pytest.mark.unit


def answers(name: str = "a", seed: int = 0) -> Answers:
    """Of one test side whatever the seed: only the probabilities are others."""
    table = fake_predictions()
    other = fake_predictions(seed).sort_values(["patient", "label"])
    columns = [f"p_{label}" for label in CLASSES]
    order = table.sort_values(["patient", "label"]).index
    table.loc[order, columns] = other[columns].to_numpy()
    return Answers(name, {"commit": "<1>"}, CLASSES, table, False)


def together(first: Answers, second: Answers) -> dict:
    return compare(first, second, HEADLINE, replicates=200, seed=1)


def test_mcnemar_is_the_exact_binomial_test_of_the_discordant_beats() -> None:
    # Of 10 discordant beats 1 against 9: 2 * (1 + 10) / 2^10.
    first = [True] * 5 + [False] * 9 + [True] * 1 + [False] * 3
    second = [True] * 5 + [True] * 9 + [False] * 1 + [False] * 3
    found = mcnemar(first, second)
    assert (found["only_first"], found["only_second"]) == (1, 9)
    assert (found["both"], found["neither"]) == (5, 3)
    assert found["p"] == pytest.approx(22 / 1024)
    assert mcnemar(first, first)["p"] == 1.0


def test_one_patient_who_turns_all_the_beats_is_no_evidence_among_patients() -> None:
    patient = np.repeat(np.arange(4), 50)
    first = np.zeros(200, bool)
    second = patient == 2
    assert mcnemar(first, second)["p"] < 1e-10
    found = by_patient(first, second, patient, list("abcd"), seed=1)
    assert (found["better"], found["worse"], found["same"]) == (1, 0, 3)
    assert found["p"] == 1.0
    # Five who all turn the same way: 2 of 2^5 signs are as far out.
    patient = np.repeat(np.arange(5), 40)
    found = by_patient(np.zeros(200, bool), np.ones(200, bool), patient, list("abcde"), seed=1)
    assert found["p"] == pytest.approx(2 / 32)


def test_differences_are_those_of_the_gate_s_bootstrap_second_minus_first() -> None:
    first, second = answers(seed=1), answers("b", seed=2)
    found = together(first, second)
    row = next(row for row in found["figures"] if row["figure"] == "macro_f1")
    gate = paired_difference(
        second.predictions, first.predictions, CLASSES, HEADLINE, replicates=200, seed=1
    )["macro_f1"]
    assert row["difference"] == gate["difference"] == pytest.approx(row["second"] - row["first"])
    assert row["interval"] == gate["interval"]
    # The order in which beats are listed says nothing.
    shuffled = replace(second, predictions=second.predictions.sample(frac=1, random_state=1))
    assert together(first, shuffled) == found
    counts = np.array(found["confusion"]["answers"])
    assert counts.sum() == found["beats"] and found["mcnemar"]["both"] <= np.trace(counts)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.iloc[1:], "on 5573, and 5573 of the first"),
        (lambda table: table.assign(label=(table["label"] + 1) % 5), "another reference class"),
        (lambda table: table.assign(sample=table["sample"] + 1), "on 5574, and"),
    ],
)
def test_another_test_side_is_refused(change, words: str) -> None:
    first = answers()
    second = replace(first, name="b", predictions=change(first.predictions))
    with pytest.raises(ContractError, match=words):
        together(first, second)


def test_other_classes_are_refused() -> None:
    with pytest.raises(ContractError, match="b N V"):
        together(answers(), replace(answers(), name="b", classes=("N", "V")))


def test_beats_that_are_shown_differ_and_the_surest_come_first() -> None:
    first, second = answers(seed=1), answers("b", seed=2)
    table = disagreements(first, second, each=5, of_record=2)
    assert (table["first"] != table["second"]).all()
    right = table["first"] == table["actual"], table["second"] == table["actual"]
    assert (right[0] == (table["outcome"] == "only_first")).all()
    assert (right[1] == (table["outcome"] == "only_second")).all()
    for _, group in table.groupby(["outcome", "actual"]):
        sure = group[["first_confidence", "second_confidence"]].min(axis=1)
        assert len(group) <= 5 and sure.is_monotonic_decreasing
        assert group["record"].value_counts().max() <= 2


class Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for key, value in attrs if key in ("src", "href")]


def test_the_page_stands_alone_and_shows_what_each_saw(tmp_path: Path) -> None:
    first, second = answers("champion <3>", seed=1), answers("b|c", seed=2)
    found = together(first, second)

    def images(beats: pd.DataFrame) -> np.ndarray:
        return fake_images(np.arange(len(beats)))

    out = tmp_path / "comparison"
    write_comparison(out, found, first, second, [Drawn("s1", images), Drawn("s1", images)])
    page = (out / "index.html").read_text()
    shown = len(disagreements(first, second))
    assert page.count("<img") == shown == len(pd.read_csv(out / "beats.csv"))
    assert "<3>" not in page and "champion &lt;3&gt;" in page
    addresses = Addresses()
    addresses.feed(page)
    assert all(address.startswith("data:") for address in addresses.found)
    assert read_json(out / "comparison.json") == found
    text = comparison_markdown(found)
    assert text == (out / "comparison.md").read_text()
    assert "## b\\|c against champion &lt;3>" in text
    # Two specs: two images a beat.
    write_comparison(out, found, first, second, [Drawn("s1", images), Drawn("s2", images)])
    assert (out / "index.html").read_text().count("<img") == 2 * shown
    # Whatever else lies there is somebody's.
    write_text(out / ".git" / "HEAD", "ref")
    with pytest.raises(ConfigError, match=r"earlier output of this command; found \.git"):
        write_comparison(out, found, first, second, [Drawn("s1", images)] * 2)
    (out / ".git" / "HEAD").unlink()
    (out / ".git").rmdir()
    write_text(out / "comparison.json", "{}")
    with pytest.raises(ConfigError, match=r"found beats\.csv"):
        write_comparison(out, found, first, second, [Drawn("s1", images)] * 2)


def test_the_same_answers_leave_nothing_to_show(tmp_path: Path) -> None:
    first, second = answers("a"), answers("b")
    found = together(first, second)
    assert all(row["difference"] in (0, None) for row in found["figures"])
    assert found["mcnemar"]["p"] == found["by_patient"]["p"] == 1.0

    def never(_: pd.DataFrame) -> np.ndarray:
        raise AssertionError

    write_comparison(tmp_path / "c", found, first, second, [Drawn("s", never)] * 2)
    assert "<img" not in (tmp_path / "c" / "index.html").read_text()
