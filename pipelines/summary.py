"""What a person reads at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines.retrain import Run


def summary(run: Run, root: Path) -> str:
    """The result of a run in some lines: data, figures, verdict, version, bento, where to look."""
    return "\n".join(["", *_lines(run, root), ""])


def _lines(run: Run, root: Path) -> Iterator[str]:
    metrics, verdict = run.metrics, run.verdict
    data = metrics["dataset"]
    yield f"Recipe {run.recipe}"
    if metrics["synthetic"]:
        yield "  SAMPLE DATA: synthetic recordings; the figures are evidence of nothing."
    yield f"  dataset     {data['name']} {data['version']}"
    yield (
        f"  test side   {metrics['beats']} beats, {metrics['records']} records, "
        f"{metrics['patients']} patients"
    )
    headline = metrics["headline"]
    classes = " ".join(headline["classes"])
    yield (
        f"  macro-F1    {_with_interval(headline['macro_f1'], headline['macro_f1_interval'])}"
        f"  over {classes}"
    )
    yield f"  accuracy    {_with_interval(metrics['accuracy'], metrics['accuracy_interval'])}"
    for name in headline["classes"]:
        row = metrics["gross"][name]
        yield (
            f"  {name:<11} Se {_figure(row['se'])}  +P {_figure(row['ppv'])}  "
            f"F1 {_with_interval(row['f1'], row['f1_interval'])}"
        )
    passed = sum(check["passed"] for check in verdict["checks"])
    word = "passed" if verdict["passed"] else "REJECTED"
    yield f"  gate        {word}, {passed} of {len(verdict['checks'])} checks"
    for check in verdict["checks"]:
        if not check["passed"]:
            measured = "undefined" if check["measured"] is None else f"{check['measured']:.6g}"
            yield f"              {check['what']}: {measured}, {check['required']}"
    for check in verdict["checks"]:
        if check["metric"].startswith("champion."):
            yield f"  champion    {check['metric'].removeprefix('champion.')}: {check['detail']}"
    yield from _registered(run)
    if run.skipped:
        yield f"  unchanged   {', '.join(name.partition('@')[0] for name in run.skipped)}"
    if any(name.startswith("train@") for name in run.skipped):
        yield "              nothing was trained again"
    for name, seconds in run.seconds.items():
        peak = f", {run.peak_mb[name]:.0f} MB" if name in run.peak_mb else ""
        yield f"  {name.partition('@')[0]:<11} {seconds:.0f} s{peak}"
    if run.report is not None:
        yield f"  report      {run.report.relative_to(root)}"
    yield "  UIs         make mlflow (port 5000), make prefect (port 4200)"
    if run.bento:
        yield f"  serve it    make serve RECIPE={run.recipe} (port 3000)"


def _registered(run: Run) -> Iterator[str]:
    made, champion = run.registered, run.champion
    if made is not None:
        standing = made.alias or ("approved" if made.approved else "rejected, no alias")
        again = "" if made.created else ", registered before"
        yield f"  registered  {made.name} version {made.version} ({standing}{again})"
        if champion is not None and champion.version != made.version:
            yield f"              champion stays version {champion.version}"
    yield f"  bento       {run.bento or 'none'}"
    if run.release is not None:
        yield f"  release     {run.release}"


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _with_interval(value: Any, interval: Sequence[float | None] | None) -> str:
    if interval is None or None in interval:
        return _figure(value)
    return f"{_figure(value)} (95 % {_figure(interval[0])} to {_figure(interval[1])})"
