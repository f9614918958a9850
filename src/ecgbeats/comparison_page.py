"""A comparison for people: a page that needs nothing else, and Markdown for a pull request."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from jinja2 import Environment, StrictUndefined

from ecgbeats.comparison import OUTCOMES, Answers, disagreements
from ecgbeats.files import folder_written_aside, read_json, write_json, write_text
from ecgbeats.imaging.png import encode_png
from ecgbeats.outputs import check_replaceable

PAGE, FIGURES, WORDS, BEATS = "index.html", "comparison.json", "comparison.md", "beats.csv"
_TEMPLATE = "comparison.html.j2"
_NAMES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "se": "Se", "ppv": "+P", "f1": "F1"}
_OUTCOMES = {
    "only_first": "Only the first is right",
    "only_second": "Only the second is right",
    "neither": "Both are wrong, differently",
}
_CAUTION = (
    "McNemar's test takes beats for independent. Those of one patient are not, so its p-value is "
    "too small; the intervals and the test of whole patients are what to go by."
)

# Images, uint8 (n, rows, columns), of rows of a table with columns record and sample.
Images = Callable[[pd.DataFrame], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Drawn:
    """The images that a model saw.

    Attributes
    ----------
    spec_id : str
    images : callable
        Gives those of rows of `ecgbeats.comparison.disagreements`.
    """

    spec_id: str
    images: Images


def check_out(out: Path) -> None:
    """Make sure that a comparison can be written to `out`: new, empty, or an earlier comparison.

    Raises
    ------
    ConfigError
        It holds something else.
    """
    check_replaceable(out, {PAGE, FIGURES, WORDS, BEATS}.__contains__, _is_comparison)


def _is_comparison(folder: Path) -> bool:
    try:
        content = read_json(folder / FIGURES)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"sides", "mcnemar"} <= content.keys()


def write_comparison(
    out: Path,
    comparison: Mapping[str, Any],
    first: Answers,
    second: Answers,
    drawn: Sequence[Drawn],
) -> None:
    """Write index.html, comparison.json, comparison.md and beats.csv, whole or not at all.

    Parameters
    ----------
    comparison : mapping
        What `ecgbeats.comparison.compare` returned for `first` and `second`.
    drawn : sequence of Drawn
        What each of the two saw.

    Raises
    ------
    ConfigError
        `out` holds something else than an earlier comparison.
    """
    check_out(out)
    beats = disagreements(first, second)
    # Shown once where both models saw the same image.
    views = drawn[:1] if drawn[0].spec_id == drawn[1].spec_id else drawn
    pictures = [
        [encode_png(image, view.spec_id) for image in view.images(beats)] if len(beats) else []
        for view in views
    ]
    with folder_written_aside(Path(out)) as aside:
        write_json(aside / FIGURES, comparison)
        write_text(aside / WORDS, comparison_markdown(comparison))
        write_text(aside / BEATS, beats.to_csv(index=False))
        write_text(aside / PAGE, _render(comparison, beats, pictures))


def comparison_markdown(comparison: Mapping[str, Any]) -> str:
    """The comparison for a pull request: figures, then tests, then both confusion matrices."""
    first, second = (_cell(side["name"]) for side in comparison["sides"])
    lines = [f"## {second} against {first}", ""]
    if comparison["synthetic"]:
        lines += ["> **Sample data.** Synthetic recordings: evidence of nothing.", ""]
    lines += [
        f"{comparison['beats']:,} beats of {comparison['patients']} patients, the same for both. "
        "Intervals: 95 %, patients resampled, both models on the same ones.",
        "",
        f"| figure | {first} | {second} | difference | 95 % of the difference |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    lines += [
        f"| {_name(row)} | {_figure(row['first'])} | {_figure(row['second'])} | "
        f"{_signed(row['difference'])} | {_interval(row['interval'])} |"
        for row in comparison["figures"]
        if _shown(row, comparison)
    ]
    lines += ["", *_tests(comparison), "", f"> {_CAUTION}"]
    for key, name in (("first", first), ("second", second)):
        classes = comparison["classes"]
        lines += ["", f"### Confusion: {name}", "", f"| reference | {' | '.join(classes)} |"]
        lines.append("| --- |" + " ---: |" * len(classes))
        lines += [
            f"| {label} | {' | '.join(f'{count:,}' for count in counts)} |"
            for label, counts in zip(classes, comparison["confusion"][key], strict=True)
        ]
    return "\n".join(lines) + "\n"


def _tests(comparison: Mapping[str, Any]) -> list[str]:
    """Both tests in a sentence each."""
    first, second = (side["name"] for side in comparison["sides"])
    beats, patients = comparison["mcnemar"], comparison["by_patient"]
    return [
        f"- Beats: {beats['only_first']:,} that only {_cell(first)} has right, "
        f"{beats['only_second']:,} that only {_cell(second)} has; McNemar's exact test: "
        f"{_p(beats['p'])}.",
        f"- Patients: {_cell(second)} has more beats right in {patients['better']}, fewer in "
        f"{patients['worse']}, as many in {patients['same']}; randomisation of whole patients: "
        f"{_p(patients['p'])}.",
    ]


def _shown(row: Mapping[str, Any], comparison: Mapping[str, Any]) -> bool:
    """Whether there is such a class in the test side, or one of the two named it."""
    if row["class"] is None:
        return True
    k = comparison["classes"].index(row["class"])
    counts = [np.array(comparison["confusion"][side]) for side in ("first", "second")]
    return any(matrix[k].sum() + matrix[:, k].sum() for matrix in counts)


def _render(
    comparison: Mapping[str, Any], beats: pd.DataFrame, pictures: Sequence[Sequence[bytes]]
) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    environment.filters.update(
        figure=_figure, signed=_signed, interval=_interval, uri=_data_uri, p=_p
    )
    rows = [row for row in comparison["figures"] if _shown(row, comparison)]
    galleries = [
        {
            "title": _OUTCOMES[outcome],
            "name": outcome,
            "beats": [
                {**beat, "pictures": [view[i] for view in pictures]}
                for i, beat in enumerate(beats.to_dict("records"))
                if beat["outcome"] == outcome
            ],
        }
        for outcome in OUTCOMES
    ]
    source = resources.files("ecgbeats").joinpath("templates", _TEMPLATE)
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        c=comparison,
        first=comparison["sides"][0],
        second=comparison["sides"][1],
        rows=[{**row, "name": _name(row), "bar": _bar(row, rows)} for row in rows],
        matrices=_matrices(comparison),
        galleries=galleries,
        caution=_CAUTION,
    )


def _matrices(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Confusion matrices as cells with their share of the reference class, and their difference."""
    counts = [np.array(comparison["confusion"][side], np.int64) for side in ("first", "second")]
    totals = counts[0].sum(axis=1, keepdims=True)
    matrices = []
    for side, matrix in zip(comparison["sides"], counts, strict=True):
        share = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
        cells = [
            [{"text": f"{n:,}", "blue": float(s)} for n, s in zip(*pair, strict=True)]
            for pair in zip(matrix, share, strict=True)
        ]
        matrices.append({"title": side["name"], "cells": cells})
    change = counts[1] - counts[0]
    right = np.eye(len(change), dtype=bool)
    cells = [
        [
            # More beats on the diagonal are good, beside it bad.
            {"text": f"{n:+,}" if n else "0", "good": bool(n and (n > 0) == ok), "bad": bool(n)}
            for n, ok in zip(*pair, strict=True)
        ]
        for pair in zip(change, right, strict=True)
    ]
    return [*matrices, {"title": "Second minus first", "cells": cells}]


def _bar(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """Places of an interval, its difference and zero on an axis that all rows share, per cent."""
    if row["interval"] is None or row["difference"] is None:
        return None
    far = max((abs(end) for each in rows for end in each["interval"] or ()), default=0.0)
    # Around zero, and never so near that a thousandth looks large.
    scale = 48 / max(far, 0.01)
    low, high = (50 + scale * end for end in row["interval"])
    return {"low": low, "width": max(high - low, 0.4), "at": 50 + scale * row["difference"]}


def _name(row: Mapping[str, Any]) -> str:
    word = _NAMES[row["figure"]]
    return word if row["class"] is None else f"{row['class']} {word}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


def _interval(value: Sequence[float] | None) -> str:
    return "no interval" if value is None else f"{value[0]:+.3f} to {value[1]:+.3f}"


def _p(value: float) -> str:
    return f"p = {value:.2g}" if value >= 1e-4 else "p < 0.0001"


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _cell(text: object) -> str:
    """Text that cannot break a Markdown table or smuggle in markup."""
    plain = " ".join(str(text).split()).replace("|", "\\|").replace("`", "'")
    return plain.replace("<", "&lt;")
