"""`ecgbeats changed` and `review`: what a branch does to the recipes, for CI and before it."""

from __future__ import annotations

from pathlib import Path

import click

from ecgbeats.cli import in_words
from pipelines.environment import enter

_base = click.option(
    "--base", default="origin/main", show_default=True, help="Commit or branch to compare with."
)


@click.command()
@_base
@in_words
def changed(base: str) -> None:
    """Name the recipes whose stages, parameters or code are not as at the base, one a line."""
    root = enter()
    from pipelines.dag import Dag
    from pipelines.review import changed_recipes

    for recipe in changed_recipes(root, Dag(root), base):
        click.echo(recipe)


@click.command()
@_base
@click.option(
    "--summary",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to append the Markdown to, such as $GITHUB_STEP_SUMMARY.  [default: printed]",
)
@in_words
def review(base: str, summary: Path | None) -> None:
    """Reproduce the recipes that are not as at the base, compare them with it, and judge them.

    Stages that a DVC remote has are pulled, not run. Without a remote only recipes on generated
    data are reproduced, and the others named. Exits 1 when a gate says no, 2 when something failed.
    """
    summary = None if summary is None else summary.absolute()
    root = enter()
    from ecgbeats.config import read_params
    from pipelines.dag import Dag
    from pipelines.retrain import retrain
    from pipelines.review import review as run_review

    params = read_params(root / "params.yaml")
    done = run_review(
        root,
        Dag(root),
        params,
        base,
        lambda recipe: retrain(root, recipe),
        lambda words: click.echo(words, err=True),
    )
    if summary is None:
        click.echo(done.markdown)
    else:
        with summary.open("a", encoding="utf-8") as handle:
            handle.write(done.markdown)
    if done.error is not None:
        raise done.error


COMMANDS = (changed, review)
