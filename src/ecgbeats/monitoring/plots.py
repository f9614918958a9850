"""The pictures of a monitoring, each a function to PNG bytes; as those of `ecgbeats.plots`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from ecgbeats.monitoring.drift import Compared
from ecgbeats.monitoring.expectations import TITLES
from ecgbeats.monitoring.reference import CONFIDENCE, Reference

# Okabe and Ito, Color universal design, 2008.
_COLOURS = ("#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#5f6b7a")
_STEADY, _DRIFTED, _REFERENCE = "#0072B2", "#D55E00", "#c3cad2"
_INK, _FAINT, _GRID = "#1f2933", "#5f6b7a", "#d9dee4"
_DPI = 130
# Of a share of the threshold: pale up to 1, a step there, orange beyond.
_SCALE = ((0, "#ffffff"), (0.499, "#c9dbe9"), (0.5, "#f6c9a8"), (1, _DRIFTED))
_LOGARITHMIC = ("amplitude_mv", "noise_mv")


def overview(compared: Sequence[Compared]) -> bytes:
    """Windows by features: the furthest distance as a share of its threshold."""
    judged = [each for each in compared if each.distances]
    features = list(dict.fromkeys(d.feature for each in judged for d in each.distances))
    cells = np.full((len(features), len(judged)), np.nan)
    for column, each in enumerate(judged):
        for distance in each.distances:
            row = features.index(distance.feature)
            cells[row, column] = np.fmax(cells[row, column], distance.of_threshold)
    figure = Figure(figsize=(3.6 + 1.0 * max(len(judged), 2), 0.9 + 0.34 * len(features)))
    axis = figure.subplots()
    colours = LinearSegmentedColormap.from_list("drift", _SCALE)
    axis.imshow(np.ma.masked_invalid(cells), cmap=colours, vmin=0, vmax=2, aspect="auto")
    for (row, column), value in np.ndenumerate(cells):
        if np.isfinite(value):
            axis.text(
                column, row, f"{value:.2f}", ha="center", va="center", fontsize=8.5,
                color="white" if value > 1.5 else _INK, weight="bold" if value > 1 else "normal",
            )  # fmt: skip
    axis.set_yticks(range(len(features)), [TITLES.get(name, name) for name in features])
    axis.set_xticks(range(len(judged)), [f"{each.window.number}\n{each.state}" for each in judged])
    axis.set_xlabel("window")
    axis.tick_params(length=0, labelsize=8.5)
    axis.spines[:].set_visible(False)
    return _png(figure)


def distributions(compared: Sequence[Compared], reference: Reference) -> bytes:
    """Cumulative distribution of each feature: each patient of the reference, and the windows."""
    numbers = {**reference.inputs, CONFIDENCE: reference.confidence}
    shown = [
        name
        for name in numbers
        if any(np.isfinite(each.window.values(name)).any() for each in compared)
    ]
    columns = 3
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.5 * rows))
    for place, name in enumerate(shown):
        axis = figure.add_subplot(rows, columns, place + 1)
        for patient in numbers[name]:
            _steps(axis, patient, color=_REFERENCE, linewidth=0.6, alpha=0.7)
        _steps(axis, numbers[name].ravel(), color=_INK, linewidth=1.6, label="reference")
        for each in compared:
            drifted = any(d.feature == name and d.of_threshold > 1 for d in each.distances)
            _steps(
                axis, each.window.values(name),
                color=_DRIFTED if drifted and each.state == "drifted" else _STEADY,
                linewidth=1.3, linestyle="--" if drifted and each.state == "drifted" else "-",
            )  # fmt: skip
        if name in _LOGARITHMIC:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(ScalarFormatter())
            axis.xaxis.set_minor_formatter(NullFormatter())
        _clipped(axis, [numbers[name], *(each.window.values(name) for each in compared)])
        axis.set_title(TITLES.get(name, name), fontsize=9.5, loc="left", color=_INK)
        axis.set_ylim(0, 1.02)
        _plain(axis)
    return _png(figure)


def answers(compared: Sequence[Compared], reference: Reference) -> bytes:
    """Shares of the classes answered, the reference first."""
    shares: list[Mapping[str, float]] = [
        dict(zip(reference.classes, reference.shares.mean(axis=0), strict=True))
    ]
    shares += [each.class_mix for each in compared]
    labels = ["reference", *(f"window {each.window.number}" for each in compared)]
    classes = list(dict.fromkeys(name for row in shares for name in row))
    figure = Figure(figsize=(8.4, 0.9 + 0.34 * len(labels)))
    axis = figure.subplots()
    left = np.zeros(len(labels))
    for k, name in enumerate(classes):
        width = np.array([row.get(name, 0.0) for row in shares])
        axis.barh(
            range(len(labels)), width, left=left, label=name, color=_COLOURS[k % len(_COLOURS)],
            height=0.7, edgecolor="white", linewidth=0.5,
        )  # fmt: skip
        left += width
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_xlabel("share of logged beats; the reference: mean of patients")
    axis.legend(ncols=len(classes), fontsize=8.5, frameon=False, loc="lower left",
                bbox_to_anchor=(0, 1))  # fmt: skip
    _plain(axis)
    return _png(figure)


def _steps(axis: Any, values: np.ndarray, **how: Any) -> None:
    known = np.sort(np.ravel(values)[~np.isnan(np.ravel(values))])
    if len(known):
        axis.plot(known, (np.arange(len(known)) + 1) / len(known), drawstyle="steps-post", **how)


def _clipped(axis: Any, values: Sequence[np.ndarray]) -> None:
    """Between the outermost percentiles: one wild beat would squeeze all others."""
    every = np.concatenate([np.ravel(each) for each in values])
    low, high = np.nanpercentile(every, [0.5, 99.5])
    if high > low:
        room = 0.0 if axis.get_xscale() == "log" else 0.03 * (high - low)
        axis.set_xlim(low - room, high + room)


def _plain(axis: Any) -> None:
    axis.grid(color=_GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8, colors=_FAINT, length=0)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(_GRID)


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    figure.tight_layout()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=_DPI, metadata={"Software": None})
    return out.getvalue()
