"""What the commands that run a flow have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipelines.retrain import Run


def mirror_option(words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--mirror`, which stages and flows read from the environment, where Makefiles put it too."""
    return click.option(
        "--mirror",
        envvar="ECGBEATS_MIRROR",
        help=words,
        expose_value=False,
        callback=_keep_mirror,
    )


def _keep_mirror(context: click.Context, option: click.Parameter, mirror: str | None) -> None:
    if mirror:
        # Relative to where the user stands, not to the project.
        folder = Path(mirror)
        os.environ["ECGBEATS_MIRROR"] = str(folder.resolve()) if folder.exists() else mirror


def retrain_and_tell(
    root: Path, recipe: str, *, with_: Sequence[str] = (), without: Sequence[str] = ()
) -> None:
    """Run the whole flow for `recipe` (`pipelines.retrain.retrain`), and tell what it found."""
    from ecgbeats.config import read_params
    from pipelines.importing import without_collector
    from pipelines.prefect_server import start_ahead

    start_ahead(root)
    # A slip ends it here, before the server has opened anything.
    read_params(root / "params.yaml").recipe(recipe)
    with without_collector():
        from pipelines.retrain import retrain
    tell(retrain(root, recipe, with_=with_, without=without), root)


def tell(outcome: Run, root: Path) -> None:
    """Print what a flow found; then raise what stopped it, if anything did."""
    from pipelines.summary import summary

    if outcome.metrics:
        click.echo(summary(outcome, root))
    if outcome.error is not None:
        raise outcome.error
