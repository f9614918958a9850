"""`ecgbeats monitor`: is the service asked what its model learnt?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ecgbeats.cli import in_words
from pipelines.environment import enter

# 1 is the gate's no, 2 a failure.
ASKS_FOR_RETRAINING = 3


@click.command()
@click.argument("recipe")
@click.option(
    "--log",
    "logs",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    multiple=True,
    help="Log of the service, also as .gz; repeatable.",
)
@click.option(
    "--model",
    help="Whose requests: NAME@ALIAS, NAME/VERSION, or a reference.json.  "
    "[default: the champion, else the carried model]",
)
@click.option("--windows", type=click.IntRange(1), help="So many of the last decide.")
@click.option("--window-size", type=click.IntRange(20), help="Logged beats in a window.")
@click.option("--hours", type=click.FloatRange(0, min_open=True), help="Windows by time instead.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for page and verdict.  [default: reports/RECIPE/monitoring]",
)
@click.option("--docs", is_flag=True, help="Also Great Expectations' Data Docs.")
@in_words
def monitor(
    recipe: str,
    logs: tuple[Path, ...],
    model: str | None,
    windows: int | None,
    window_size: int | None,
    hours: float | None,
    out: Path | None,
    docs: bool,
) -> None:
    """Compare the service's log with what the model of RECIPE learnt on.

    What is not given is as in the recipe's section `monitor`. Exits 0 while all is well or not
    enough is known, 3 when drift persists and retraining is asked for, 2 when something failed.
    """
    if hours is not None and window_size is not None:
        raise click.UsageError("give --window-size or --hours, not both")
    # Relative to where the user stands.
    logs = tuple(path.absolute() for path in logs)
    out = None if out is None else out.absolute()
    if model is not None and Path(model).is_file():
        model = str(Path(model).absolute())
    root = enter()
    from pipelines.monitoring import watch

    done = watch(
        root,
        recipe,
        logs,
        model=model,
        windows=windows,
        window_beats=window_size,
        hours=hours,
        out=out,
        docs=docs,
    )
    _say(done.verdict, done.where)
    click.echo(f"  page        {done.out / 'index.html'}")
    if done.retrain:
        sys.exit(ASKS_FOR_RETRAINING)


def _say(verdict: dict[str, object], where: str) -> None:
    click.echo(f"{verdict['recipe']}: {verdict['words']}")
    click.echo(f"  reference   {where}")
    windows = verdict["windows"]
    assert isinstance(windows, list)
    for window in windows:
        said = f"  window {window['number']:<4} {window['state']}"
        if window["drifted_in"]:
            said += f" in {', '.join(window['drifted_in'])}"
        click.echo(f"{said} ({window['requests']} requests, {window['logged_beats']} logged beats)")
    log = verdict["log"]
    assert isinstance(log, dict)
    for reason, found in log["ignored"].items():
        click.echo(f"  ignored     {found['lines']} lines: {reason} (first: {found['first']})")
    for model, count in log["of_others"].items():
        click.echo(f"  not judged  {count} requests to {model}")
