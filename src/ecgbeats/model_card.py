"""A model's card: what it is for, on what it was measured, and where it fails.

After Mitchell et al., Model cards for model reporting, FAT* 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ecgbeats.gate import with_interval

_NOT_MEDICAL = (
    "**No medical device.** For research and engineering; no answer of it may be used to diagnose "
    "or treat anybody."
)

_COMPARED = (
    "intervals and amplitudes are compared with the recording's own, so that a recording is "
    "needed, and minutes of it are better than seconds"
)
# Representations that are not compared with a recording.
_SEES = {
    "picture": (
        "a picture shows the shape of one beat in its own frame, without rhythm and without scale, "
        "so that early beats of a usual shape cannot be told from others"
    ),
    "waveform": (
        "an image shows the trace of one beat in millivolts; nothing of the recording is in it "
        "but the neighbouring beats' distance, where the window ends by them"
    ),
}

_USE = (
    "For engineers and researchers: sorting the beats of ECG recordings into the classes below, to "
    "compare methods, or to find beats that a person then looks at. Recordings like those that it "
    "was measured on; with other leads, devices or patients measure it anew "
    "(`ecgbeats evaluate`). Not for alarms, not for decisions about a person, not for rhythms as a "
    "whole, and not for paced beats where the classes do not name them."
)


def model_card(
    model: Mapping[str, Any],
    metrics: Mapping[str, Any],
    name: str,
    *,
    split: Mapping[str, Any] | None = None,
    overruled: Sequence[str] = (),
    citation: str = "",
) -> str:
    """The card as Markdown.

    Parameters
    ----------
    model, metrics : mapping
        The content of model.json and of metrics.json.
    name : str
        What the model is called.
    split : mapping, optional
        The content of split.json: from whom and from how many beats it learnt.
    overruled : sequence of str, optional
        Of each gate that was overruled for it: which checks, by whom, when and why.
    citation : str, optional
        Of the data.
    """
    dataset, head = metrics["dataset"], metrics["headline"]
    representation = model["image"]["representation"]
    lines = [
        f"# {name}",
        "",
        _NOT_MEDICAL,
        "",
        *_overruled(overruled),
        "## Intended use",
        "",
        _USE,
        "",
        "## What it does",
        "",
        f"Tells heartbeats apart, one image a beat: {', '.join(model['classes'])}. Images are of "
        f"the representation `{representation}`, spec `{model['spec_id']}`; "
        f"{_SEES.get(representation, _COMPARED)}.",
        "",
        f"{model['parameters']:,} parameters; weights SHA-256 `{model['weights_sha256']}`.",
        "",
        *_learnt(split),
        "## What it was measured on",
        "",
        f"{metrics['beats']:,} beats of {metrics['patients']} patients of {dataset['name']} "
        f"({dataset['version']}), in brackets 95 % intervals by resampling patients.",
        *(
            ["", "The recordings are synthetic: these figures are evidence of nothing."]
            if metrics["synthetic"]
            else []
        ),
        "",
        f"Macro-F1 over {', '.join(head['classes'])}: "
        f"{with_interval(head['macro_f1'], head['macro_f1_interval'])}; accuracy "
        f"{with_interval(metrics['accuracy'], metrics['accuracy_interval'])}; expected calibration "
        f"error {with_interval(metrics['calibration']['ece'])}.",
        "",
        "| class | beats | Se | +P | F1 | Se, mean of records | F1 without the largest patient |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    for label, gross in metrics["gross"].items():
        rest = metrics["without_largest_patient"].get(label) or {}
        cells = [
            label,
            f"{gross['support']:,}",
            with_interval(gross["se"]),
            with_interval(gross["ppv"]),
            with_interval(gross["f1"], gross["f1_interval"]),
            with_interval(metrics["average"][label]["se"]),
            with_interval(rest.get("f1")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Where it fails", "", *_failures(model, metrics), ""]
    if dataset.get("licence"):
        words = f"Licence: {dataset['licence']}. {citation}".strip()
        lines += ["## Data", "", words, ""]
    return "\n".join(lines)


def _overruled(rows: Sequence[str]) -> list[str]:
    """What the gate said no to, and who put it aside: before all else, and for ever."""
    if not rows:
        return []
    lines = ["## The gate was overruled", ""]
    return [*lines, *(f"- {row}" for row in rows), ""]


def _learnt(split: Mapping[str, Any] | None) -> list[str]:
    if split is None or "beats" not in split:
        return []
    sides = [side for side in ("train", "validation") if side in split["beats"]]
    lines = ["## What it learnt from", ""]
    for side in sides:
        counts = ", ".join(f"{label} {count:,}" for label, count in split["beats"][side].items())
        lines.append(f"- {side}: {len(split['patients'].get(side, ()))} patients; beats {counts}")
    return [*lines, ""]


def _failures(model: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """What its own figures say of its weaknesses, one line each."""
    found = []
    for label, gross in metrics["gross"].items():
        rest = metrics["without_largest_patient"].get(label) or {}
        if not gross["support"]:
            found.append(f"- {label}: no beat to measure it on.")
        elif (gross["f1"] or 0) < 0.1:
            found.append(
                f"- {label}: practically not recognised (F1 {with_interval(gross['f1'])})."
            )
        elif (gross["f1_interval"] or [0, 1])[0] < 0.5:
            low, high = gross["f1_interval"]
            found.append(
                f"- {label}: with other patients its F1 may be anything from {low:.3f} to "
                f"{high:.3f}."
            )
        if (rest.get("share") or 0) > 0.5 and gross["support"]:
            found.append(
                f"- {label}: {rest['share']:.0%} of its beats are one patient's "
                f"({rest['patient']}); without that one F1 is {with_interval(rest['f1'])}."
            )
    unsure = model.get("answer", {}).get("abstain_below", 0)
    found.append(
        f'- Below a confidence of {unsure:g} it answers "uncertain".'
        if unsure
        else "- It never abstains: every beat gets a class, however unsure."
    )
    return found
