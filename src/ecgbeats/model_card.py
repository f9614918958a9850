"""A model's card: what it is for, on what it was measured, and where it fails.

After Mitchell et al., Model cards for model reporting, FAT* 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NOT_MEDICAL = (
    "**No medical device.** For research and engineering; no answer of it may be used to diagnose "
    "or treat anybody."
)


def model_card(model: Mapping[str, Any], metrics: Mapping[str, Any], name: str) -> str:
    """The card as Markdown.

    Parameters
    ----------
    model, metrics : mapping
        The content of model.json and of metrics.json.
    name : str
        What the model is called.
    """
    dataset, head = metrics["dataset"], metrics["headline"]
    lines = [
        f"# {name}",
        "",
        _NOT_MEDICAL,
        "",
        "## What it does",
        "",
        f"Tells heartbeats apart, one image a beat: {', '.join(model['classes'])}. Images are of "
        f"the representation `{model['image']['representation']}`, spec `{model['spec_id']}`; "
        "intervals and amplitudes are compared with the recording's own, so that a recording is "
        "needed, and minutes of it are better than seconds.",
        "",
        f"{model['parameters']:,} parameters; weights SHA-256 `{model['weights_sha256']}`.",
        "",
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
        f"{_number(head['macro_f1'], head['macro_f1_interval'])}; accuracy "
        f"{_number(metrics['accuracy'], metrics['accuracy_interval'])}; expected calibration "
        f"error {_number(metrics['calibration']['ece'])}.",
        "",
        "| class | beats | Se | +P | F1 | Se, mean of records | F1 without the largest patient |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    for label, gross in metrics["gross"].items():
        rest = metrics["without_largest_patient"].get(label) or {}
        cells = [
            label,
            f"{gross['support']:,}",
            _number(gross["se"]),
            _number(gross["ppv"]),
            _number(gross["f1"], gross["f1_interval"]),
            _number(metrics["average"][label]["se"]),
            _number(rest.get("f1")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Where it fails", "", *_failures(model, metrics), ""]
    if dataset.get("licence"):
        words = f"Licence: {dataset['licence']}. {dataset.get('citation', '')}".strip()
        lines += ["## Data", "", words, ""]
    return "\n".join(lines)


def _failures(model: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """What its own figures say of its weaknesses, one line each."""
    found = []
    for label, gross in metrics["gross"].items():
        rest = metrics["without_largest_patient"].get(label) or {}
        if not gross["support"]:
            found.append(f"- {label}: no beat to measure it on.")
        elif (gross["f1"] or 0) < 0.1:
            found.append(f"- {label}: practically not recognised (F1 {_number(gross['f1'])}).")
        elif (gross["f1_interval"] or [0, 1])[0] < 0.5:
            found.append(
                f"- {label}: with other patients its F1 may be anything from "
                f"{_number(gross['f1_interval'][0])} to {_number(gross['f1_interval'][1])}."
            )
        if (rest.get("share") or 0) > 0.5 and gross["support"]:
            found.append(
                f"- {label}: {rest['share']:.0%} of its beats are one patient's "
                f"({rest['patient']}); without that one F1 is {_number(rest['f1'])}."
            )
    low = model.get("answer", {}).get("abstain_below", 0)
    found.append(
        f'- Below a confidence of {low:g} it answers "uncertain".'
        if low
        else "- It never abstains: every beat gets a class, however unsure."
    )
    return found


def _number(value: float | None, interval: list[float] | None = None) -> str:
    if value is None:
        return "undefined"
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
