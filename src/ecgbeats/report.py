"""The page on a model: one HTML file that needs nothing else, on a phone as on paper."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from ecgbeats.explanation import in_words

_TEMPLATE = "evaluation.html.j2"

# What each plot shows, in the order of the page.
_CAPTIONS = {
    "confusion": "Which class the model gave to beats of each reference class. Both halves are "
    "coloured by the share of the reference class.",
    "records": "How each class fares in each record. A good pooled figure can rest on one record "
    "with many beats: the large dots.",
    "roc": "Sensitivity against false positives over all thresholds.",
    "pr": "Positive predictivity against sensitivity over all thresholds; for a rare class this "
    "says more than the ROC curve.",
    "reliability": "Whether a stated probability can be believed: on the dotted line, of all beats "
    "called with 80 % confidence 80 % are right.",
    "coverage": 'What is gained when the model may answer "uncertain": from right to left it '
    "answers only the beats that it is surer and surer of. F1 counts answered beats alone; it "
    "falls where the model is least sure of the rare classes.",
    "history": "Training, epoch by epoch.",
}

# Keys of metrics.json that say how the model was made, in the order of the page.
_MAKING = {
    "dataset": "Data",
    "protocol": "Protocol",
    "image": "Beat image",
    "model": "Model",
    "training": "Training",
    "bootstrap": "Intervals",
}


def render_report(
    evaluation: Mapping[str, Any],
    plots: Mapping[str, bytes],
    sheets: Mapping[str, bytes],
    verdict: Mapping[str, Any] | None = None,
    *,
    verdict_link: str | None = None,
) -> str:
    """One self-contained HTML page on an evaluation.

    Parameters
    ----------
    evaluation : mapping
        The content of metrics.json.
    plots : mapping of str to bytes
        PNGs by name: confusion, records, roc, pr, reliability, coverage, history, mistakes,
        saliency.
    sheets : mapping of str to bytes
        A contact sheet (PNG) per class name.
    verdict : mapping, optional
        What `ecgbeats.gate.judge` returned.
    verdict_link : str, optional
        Where the verdict's own page lies, relative to this one.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    environment.filters.update(
        figure=_figure, interval=_interval, measured=_measured, percent=_percent, uri=_data_uri
    )
    source = resources.files("ecgbeats").joinpath("templates", _TEMPLATE)
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        m=evaluation,
        classes=evaluation["confusion"]["classes"],
        plots={name: plots[name] for name in _CAPTIONS if name in plots},
        captions=_CAPTIONS,
        mistakes=plots.get("mistakes"),
        saliency=plots.get("saliency"),
        explanation_in_words=in_words(evaluation["explanation"])
        if evaluation.get("explanation")
        else None,
        sheets=sheets,
        verdict=verdict,
        verdict_link=verdict_link,
        making=[
            (title, list(_flat(evaluation[key])))
            for key, title in _MAKING.items()
            if evaluation.get(key) is not None
        ],
    )


def _figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _interval(value: Sequence[float] | None) -> str:
    return "no interval" if value is None else f"{value[0]:.3f} to {value[1]:.3f}"


def _measured(value: float | None) -> str:
    """With enough digits to be told from a bound that it just misses."""
    return "undefined" if value is None else f"{value:.6g}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested mappings as rows of name and text."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        yield path, ", ".join(str(item) for item in value)
    else:
        yield path, "–" if value is None else str(value)
