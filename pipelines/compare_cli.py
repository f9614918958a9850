"""`ecgbeats compare`: two models side by side."""

from __future__ import annotations

from pathlib import Path

import click

from ecgbeats.cli import in_words
from pipelines.environment import enter


@click.command()
@click.argument("first")
@click.argument("second")
@click.option("--recipe", help="Of commits and experiments.  [default: the other side's]")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write; an earlier comparison there is replaced."
    "  [default: reports/comparisons/FIRST--SECOND]",
)
@in_words
def compare(first: str, second: str, recipe: str | None, out: Path | None) -> None:
    """Compare SECOND with FIRST on the same test beats: figures, tests, pictures.

    Each is a registered version (mitdb-aami5@3, mitdb-aami5@champion), an MLflow run, a commit,
    branch, tag or DVC experiment whose outputs are in DVC's cache or remote, or "." for the
    working tree. Versions are run now; of the others what was evaluated is taken. Refused where
    the test sides differ.
    """
    out = None if out is None else out.absolute()
    root = enter()
    from ecgbeats.comparison_page import PAGE, WORDS, check_out
    from ecgbeats.config import read_params
    from pipelines.compare import compare_references, folder_name
    from pipelines.dag import Dag

    params = read_params(root / "params.yaml")
    references = (first, second)
    if out is None:
        out = root / "reports" / "comparisons" / folder_name(references)
    check_out(out)
    compare_references(root, Dag(root), params, references, out, recipe=recipe)
    click.echo((out / WORDS).read_text(encoding="utf-8"))
    click.echo(out / PAGE)


COMMANDS = (compare,)
