"""The pictures of an evaluation, each a function from figures to PNG bytes.

Figures are drawn without pyplot, so there is no global state and no display, and carry no
date or version, so equal figures give equal bytes. Colours are those of Okabe and Ito
(Color universal design, 2008), which people with any colour vision can tell apart; line
styles repeat what colour says.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ecgbeats.metrics import Ints, Reliability

if TYPE_CHECKING:
    from ecgbeats.explanation import ClassAverage

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", "-.", ":")
_INK, _FAINT, _GRID = "#1f2933", "#5f6b7a", "#d9dee4"
_DPI = 130
# More records than this cannot be told apart on one axis.
_RECORDS_SHOWN = 60
# Share of an image's rows that a name at its side takes.
_ROWS_OF_A_NAME = 0.06


def confusion(counts: Ints, classes: Sequence[str]) -> bytes:
    """Confusion matrix, as counts and as shares of each reference class.

    Parameters
    ----------
    counts : ndarray of int64, shape (classes, classes)
        Rows are reference classes.
    """
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    size = 1.9 + 0.62 * len(classes)
    figure = _figure(2 * size + 0.4, size)
    texts = (
        ("Beats", [[f"{n:,}" for n in row] for row in counts]),
        (
            "Share of the reference class",
            [
                [f"{x:.1%}" if total else "–" for x in row]
                for row, total in zip(share, totals[:, 0], strict=True)
            ],
        ),
    )
    for axis, (title, cells) in zip(figure.subplots(1, 2), texts, strict=True):
        # Both are coloured by share: by count, the commonest class would hide the others.
        axis.imshow(share, cmap=colormaps["Blues"], vmin=0, vmax=1.15)
        for i, row in enumerate(cells):
            for j, text in enumerate(row):
                colour = "white" if share[i, j] > 0.6 else _INK
                axis.text(j, i, text, ha="center", va="center", fontsize=8.5, color=colour)
        ticks = range(len(classes))
        axis.set_xticks(ticks, classes)
        axis.set_yticks(ticks, classes)
        axis.set_xlabel("predicted")
        axis.set_ylabel("reference")
        _title(axis, title)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    return _png(figure)


def roc(points: pd.DataFrame, areas: Mapping[str, float | None]) -> bytes:
    """ROC curve of each class against the rest.

    Parameters
    ----------
    points : DataFrame
        Columns class, fpr and tpr.
    areas : mapping of str to float or None
        Area under the curve per class, in the order of the legend.
    """
    figure, axis = _square("false positive rate (1 - specificity)", "sensitivity")
    axis.plot([0, 1], [0, 1], color=_FAINT, linewidth=0.8, linestyle=(0, (1, 3)))
    _lines(axis, points, ("fpr", "tpr"), areas, "AUC")
    _title(axis, "ROC, one class against the rest")
    return _png(figure)


def precision_recall(points: pd.DataFrame, areas: Mapping[str, float | None]) -> bytes:
    """Precision-recall curve of each class against the rest.

    Parameters
    ----------
    points : DataFrame
        Columns class, recall and precision.
    areas : mapping of str to float or None
        Average precision per class, in the order of the legend.
    """
    figure, axis = _square("sensitivity (recall)", "positive predictivity (precision)")
    # Steps, as average precision sums them: between two recalls the later precision holds.
    _lines(axis, points, ("recall", "precision"), areas, "AP", drawstyle="steps-pre")
    _title(axis, "Precision and recall, one class against the rest")
    return _png(figure)


def reliability(table: Reliability, ece: float | None) -> bytes:
    """Accuracy against confidence of the predicted class, with the beats per bin below."""
    figure = _figure(5.0, 5.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    filled = table.beats > 0
    width = table.upper - table.lower
    upper.plot([0, 1], [0, 1], color=_FAINT, linewidth=0.8, linestyle=(0, (1, 3)))
    upper.bar(
        table.lower[filled],
        table.accuracy[filled],
        width[filled],
        align="edge",
        color="#9ecae1",
        edgecolor="white",
        label="accuracy in the bin",
    )
    upper.plot(
        table.confidence[filled],
        table.accuracy[filled],
        "o",
        color=_COLOURS[0],
        markersize=4,
        label="at the mean confidence",
    )
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    _title(upper, "Reliability" + (f" (ECE {ece:.4f})" if ece is not None else ""))
    _legend(upper, "upper left")
    lower.bar(table.lower, table.beats, width, align="edge", color=_FAINT, edgecolor="white")
    lower.set_yscale("symlog", linthresh=1)
    lower.set(xlabel="confidence (probability of the predicted class)", ylabel="beats")
    for axis in (upper, lower):
        _tidy(axis)
    return _png(figure)


def coverage(table: pd.DataFrame, abstention: Mapping[str, Any]) -> bytes:
    """Accuracy and macro-F1 of answered beats against their share; thresholds below.

    Parameters
    ----------
    table : DataFrame
        As `ecgbeats.evaluation.coverage_points` gives.
    abstention : mapping
        That part of the evaluation, for the threshold in use and the area.
    """
    figure = _figure(5.0, 5.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    share = table["coverage"]
    for i, (name, label) in enumerate((("accuracy", "accuracy"), ("macro_f1", "macro-F1"))):
        upper.plot(share, table[name], **_line_style(i), label=label)
    upper.set(ylabel="of the answered beats")
    area = abstention["aurc"]
    _title(upper, "Answering less" + (f" (AURC {area:.4f})" if area is not None else ""))
    lower.plot(share, table["threshold"], color=_FAINT, linewidth=1.6)
    lower.set(xlabel="coverage (share of beats answered)", ylabel="threshold", ylim=(0, 1.02))
    if abstention["below"] > 0:
        for axis in (upper, lower):
            axis.axvline(
                abstention["coverage"],
                color=_INK,
                linewidth=0.9,
                linestyle=(0, (1, 2)),
                label=f"at the threshold {abstention['below']:g}",
            )
    for axis in (upper, lower):
        _tidy(axis)
    _legend(upper)
    # All beats at the right: reading leftwards, the model answers less and less.
    upper.set_xlim(min(0.5, float(share.max())), 1.005)
    return _png(figure)


def class_saliency(averages: Mapping[str, ClassAverage]) -> bytes:
    """For each class its mean image above, and its mean saliency below."""
    columns = max(len(averages), 3)
    one = next(iter(averages.values())).image
    height = 1.75 * one.shape[0] / one.shape[1]
    figure = _figure(0.6 + 1.85 * columns, 1.0 + 2 * height)
    axes = figure.subplots(2, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for (upper, lower), (name, average) in zip(axes.T, averages.items(), strict=False):
        upper.imshow(average.image, cmap="gray", vmin=0, vmax=255)
        _saliency(lower, average.saliency)
        upper.set_title(f"{name}, {average.beats} beats", fontsize=9, fontweight="bold")
    return _png(figure)


def explanation(
    image: npt.NDArray[np.uint8],
    saliency: npt.NDArray[np.floating[Any]],
    title: str,
    *,
    parts: Mapping[str, tuple[slice, slice]],
    label: str,
) -> bytes:
    """One beat image, and the same with what speaks for (red) and against (blue) a class.

    Parameters
    ----------
    image, saliency : ndarray, shape (rows, columns)
    parts : mapping of str to (slice, slice)
        Named parts of the image (`ecgbeats.explanation.regions`); those that span it are
        named at its side, others below it.
    label : str
        The class that the saliency is of.
    """
    ratio = image.shape[0] / image.shape[1]
    figure = _figure(8.0, 1.6 + 3.0 * ratio)
    left, right = figure.subplots(1, 2)
    for axis in (left, right):
        axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_color(_GRID)
    # Over a washed-out image, opaque where saliency is strong.
    right.imshow(np.full((*image.shape, 3), 1.0), alpha=0.55)
    shown = _saliency(right, saliency, by_strength=True)
    beside: dict[str, float] = {}
    below: dict[str, float] = {}
    for name, (rows, columns) in parts.items():
        if columns.stop - columns.start == image.shape[1]:
            at = (rows.start + rows.stop - 1) / 2
            last = next(reversed(beside), None)
            if last is not None and at - beside[last] < _ROWS_OF_A_NAME * image.shape[0]:
                # Too near to be read apart: one name for both.
                at = (beside.pop(last) + at) / 2
                name = f"{last}, {name}"
            beside[name] = at
        else:
            below[name.replace("_", " ")] = (columns.start + columns.stop - 1) / 2
    left.set_yticks(list(beside.values()), list(beside))
    left.set_xticks(list(below.values()), list(below), rotation=45, ha="right")
    left.tick_params(length=0, labelsize=8, colors=_FAINT)
    _title(left, title)
    _title(right, f"for (red) and against (blue) {label}")
    bar = figure.colorbar(shown, ax=right, shrink=0.85, pad=0.02)
    bar.set_label("nats of log-odds per pixel", fontsize=8)
    bar.ax.tick_params(labelsize=7.5)
    bar.outline.set_visible(False)
    return _png(figure)


def _saliency(
    axis: Any, values: npt.NDArray[np.floating[Any]], *, by_strength: bool = False
) -> Any:
    """Signed values from blue over white to red; a hundredth of the pixels may saturate."""
    strength = np.abs(values)
    limit = float(np.quantile(strength, 0.99)) or float(strength.max()) or 1.0
    style: dict[str, Any] = {"cmap": colormaps["RdBu_r"], "vmin": -limit, "vmax": limit}
    if by_strength:
        style["alpha"] = np.clip(strength / limit, 0, 1) ** 0.5
    return axis.imshow(values, **style)


def history(table: pd.DataFrame) -> bytes:
    """Learning curves: losses above, other figures below.

    Parameters
    ----------
    table : DataFrame
        A column epoch, perhaps a column phase (drawn as one line each; those of further
        members, "select-2", in the colour of the first's, pale), and figures.
    """
    figures = [str(c) for c in table.select_dtypes("number") if c != "epoch"]
    losses = [c for c in figures if "loss" in c]
    panels = [group for group in (losses, [c for c in figures if c not in losses]) if group]
    phases = table.groupby("phase", sort=False) if "phase" in table else [("", table)]
    several = len({str(phase).partition("-")[0] for phase, _ in phases}) > 1
    figure = _figure(5.0, 5.4)
    axes = np.atleast_1d(figure.subplots(max(len(panels), 1), 1))
    for axis, group in zip(axes, panels, strict=False):
        styles: dict[str, dict[str, Any]] = {}
        for phase, rows in phases:
            first, _, member = str(phase).partition("-")
            for name in group:
                values = rows[["epoch", name]].dropna()
                if values.empty:
                    continue
                label = name.replace("_", " ") + (f" ({first})" if several else "")
                style = styles.setdefault(label, _line_style(len(styles)))
                shown = {"alpha": 0.35} if member else {"marker": ".", "label": label}
                axis.plot(values["epoch"], values[name], **style, **shown)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(axis)
        _tidy(axis)
    axes[-1].set_xlabel("epoch")
    return _png(figure)


def records(table: pd.DataFrame, classes: Sequence[str]) -> bytes:
    """Se and F1 of each class in each record; a dot's area grows with the record's beats.

    Parameters
    ----------
    table : DataFrame
        As `ecgbeats.evaluation.per_record_table` gives. Of more than 60 records, the 60
        with the lowest accuracy are drawn.
    """
    shown = table
    if len(table) > _RECORDS_SHOWN:
        lowest = table.sort_values("accuracy").head(_RECORDS_SHOWN)
        shown = lowest.sort_values("record", ignore_index=True)
    figure = _figure(max(6.0, 2.0 + 0.2 * len(shown)), 0.9 + 1.05 * len(classes))
    axes = np.atleast_1d(figure.subplots(len(classes), 1, sharex=True))
    places = np.arange(len(shown))
    for i, (axis, name) in enumerate(zip(axes, classes, strict=True)):
        support = shown[f"support_{name}"].to_numpy(float)
        area = 8 + 150 * support / max(support.max(initial=0), 1)
        axis.scatter(
            places, shown[f"se_{name}"], s=area, color=_COLOURS[0], alpha=0.75, linewidth=0
        )
        axis.scatter(places, shown[f"f1_{name}"], s=46, marker="_", color=_COLOURS[1])
        axis.set_ylim(-0.18, 1.18)
        axis.set_yticks([0, 1])
        axis.set_ylabel(name, rotation=0, ha="right", va="center", labelpad=12, fontsize=10)
        axis.text(
            1.005,
            0.5,
            f"{support.sum():,.0f}\nbeats",
            transform=axis.transAxes,
            fontsize=8,
            color=_FAINT,
            va="center",
        )
        _tidy(axis)
        axis.grid(axis="x", color=_GRID, linewidth=0.5)
        if i == 0:
            some = f"; {len(shown)} of {len(table)} records" if len(shown) < len(table) else ""
            _title(axis, "Dot: sensitivity (area: beats of the class). Bar: F1" + some)
    axes[-1].set_xticks(places, shown["record"], rotation=90, fontsize=8)
    axes[-1].set_xlim(-0.7, len(shown) - 0.3)
    axes[-1].set_xlabel("record")
    return _png(figure)


def mistakes(images: npt.NDArray[np.uint8], table: pd.DataFrame) -> bytes:
    """Beat images that the model was surely wrong about, a row per reference class.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, rows, columns) or (n, rows, columns, 1 or 3)
    table : DataFrame
        Their rows of `ecgbeats.evaluation.confident_mistakes`.
    """
    groups = list(table.groupby("actual", sort=False).indices.items())
    columns = max(len(places) for _, places in groups)
    figure = _figure(0.5 + 1.25 * max(columns, 4), 0.2 + 1.75 * len(groups))
    axes = figure.subplots(len(groups), max(columns, 4), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, (actual, places) in zip(axes, groups, strict=True):
        for axis, place in zip(row, places, strict=False):
            beat = table.iloc[place]
            axis.imshow(images[place].squeeze(), cmap="gray", vmin=0, vmax=255)
            axis.set_axis_on()
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_color(_GRID)
            axis.set_title(
                f"{actual} as {beat['predicted']}, {beat['confidence']:.3f}",
                fontsize=8,
                fontweight="bold",
            )
            axis.set_xlabel(f"{beat['record']}, {beat['time_s']:.1f} s", fontsize=7.5)
    return _png(figure)


def _figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, on a canvas that renders it."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _square(xlabel: str, ylabel: str) -> tuple[Figure, Any]:
    figure = _figure(5.0, 5.4)
    axis = figure.subplots()
    axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=xlabel, ylabel=ylabel)
    _tidy(axis)
    return figure, axis


def _lines(
    axis: Any,
    points: pd.DataFrame,
    columns: tuple[str, str],
    areas: Mapping[str, float | None],
    area_name: str,
    **style: Any,
) -> None:
    x, y = columns
    for i, (name, area) in enumerate(areas.items()):
        curve = points[points["class"] == name]
        if area is not None and len(curve):
            label = f"{name}  {area_name} {area:.3f}"
            axis.plot(curve[x], curve[y], **_line_style(i), **style, label=label)
    # Beside the curves, which may take any corner of the axes.
    if axis.get_legend_handles_labels()[0]:
        axis.figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)


def _line_style(i: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[i % len(_COLOURS)],
        "linestyle": _STYLES[i % len(_STYLES)],
        "linewidth": 1.6,
    }


def _tidy(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(_FAINT)
    axis.tick_params(color=_FAINT, labelcolor=_INK, labelsize=8.5)
    axis.grid(axis="y", color=_GRID, linewidth=0.6)
    axis.set_axisbelow(True)


def _title(axis: Any, text: str) -> None:
    axis.set_title(text, fontsize=10, color=_INK)


def _legend(axis: Any, place: str = "best") -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc=place, frameon=False, fontsize=8.5)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # Else matplotlib writes its own version into the file.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
