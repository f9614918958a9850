"""The page on a cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ecgbeats.study_page import Card, Link, Table, figure, render_study


def page(figures: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """A self-contained HTML page.

    Parameters
    ----------
    figures : mapping
        The content of metrics.json, as `ecgbeats.crossval.measure` gives it.
    rows : sequence of mapping
        The rows of folds.csv, as `ecgbeats.crossval.fold_figures` gives them.
    """
    seeds, mean, spread = figures["seeds"], figures["mean"], figures["spread"]
    first = next(iter(seeds.values()))
    headline = first["headline"]["classes"]
    protocol, data = figures["protocol"], figures["dataset"]
    one = len(seeds) == 1

    def over(view: str, name: str, key: str) -> str:
        return figure(mean[view][name][key], spread[view][name][key])

    cards = [
        Card(
            f"Macro-F1 over {', '.join(headline)}",
            figure(mean["headline"]["macro_f1"], spread["headline"]["macro_f1"]),
            range_of(first["headline"]["macro_f1_interval"]) if one else f"{len(seeds)} seeds",
        ),
        *(Card(f"F1 of {name}", over("gross", name, "f1")) for name in headline),
        Card("Accuracy", figure(mean["accuracy"], spread["accuracy"])),
        Card("ECE", figure(mean["calibration"]["ece"], spread["calibration"]["ece"])),
    ]
    classes = Table(
        "Each class",
        ("Class", "Beats", "Se", "+P", "F1", "Se, mean of records", "F1 without largest patient"),
        [
            (
                name,
                f"{first['gross'][name]['support']:,}",
                *(over("gross", name, key) for key in ("se", "ppv", "f1")),
                over("average", name, "se"),
                over("without_largest_patient", name, "f1"),
            )
            for name in first["confusion"]["classes"]
        ],
        "Gross: predictions of all folds pooled."
        + ("" if one else " Mean over seeds ± standard deviation."),
    )
    each_seed = Table(
        "Each seed",
        ("Seed", "Macro-F1", "95 % interval", "Accuracy", "Minutes of training"),
        [
            (
                Link(f"seed {seed}", f"seed-{seed}/index.html"),
                figure(value["headline"]["macro_f1"]),
                range_of(value["headline"]["macro_f1_interval"]),
                figure(value["accuracy"]),
                f"{value['training']['minutes']:.1f}",
            )
            for seed, value in seeds.items()
        ],
        "Intervals from resampling patients. Each page has curves, records and mistakes.",
    )
    each_fold = Table(
        "Each fold",
        (
            *("Seed, fold", "Patients", "Beats", "Macro-F1", "Accuracy"),
            *(f"F1 of {name}" for name in headline),
            *("Best epoch", "Minutes"),
        ),
        [
            (
                f"{row['seed']}, {row['fold']}",
                str(row["patients"]),
                f"{row['beats']:,}",
                figure(row["macro_f1"]),
                figure(row["accuracy"]),
                *(figure(row[f"f1_{name}"]) for name in headline),
                str(row["best_epoch"]),
                f"{row['train_seconds'] / 60:.1f}",
            )
            for row in rows
        ],
        "A dash: the fold tests no beat of a class, and none was called so.",
    )
    what = "patients apart" if protocol["by"] == "patient" else "beats at random: known patients"
    beats = "all beats" if protocol["over"] == "all" else "the training side alone"
    return render_study(
        f"{figures['recipe']}: cross-validation",
        f"{protocol['folds']} folds over {beats}, {what}, on {data['name']} {data['version']}: "
        f"{first['beats']:,} beats, {first['records']} records, {first['patients']} patients; "
        f"{figures['model']}, {figures['parameters']:,} parameters.",
        cards,
        [classes, each_seed, each_fold],
        synthetic=bool(figures["synthetic"]),
    )


def range_of(interval: Sequence[float | None] | None) -> str:
    """The ends of an interval in words."""
    if interval is None or None in interval:
        return "no interval"
    return f"{interval[0]:.3f} to {interval[1]:.3f}"
