"""`ecgbeats release`: make the folder of a version, and check one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecgbeats.cli import in_words
from pipelines.environment import enter

if TYPE_CHECKING:
    from pipelines.promotion import Project
    from pipelines.registry import Registered


class _MakeByDefault(click.Group):
    """`release RECIPE` is `release make RECIPE`."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in context.help_option_names:
            args = ["make", *args]
        return super().parse_args(context, args)


@click.group(cls=_MakeByDefault)
def release() -> None:
    """Make, or check, the release folder of a version.

    `ecgbeats release RECIPE` makes it, `ecgbeats release verify DIR` checks one.
    """


@release.command()
@click.argument("recipe")
@click.option("--version", type=click.IntRange(1), help="Of the registry.  [default: champion]")
@click.option(
    "--key",
    envvar="ECGBEATS_RELEASE_KEY",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Ed25519 private key (PEM) to sign with.",
)
@in_words
def make(recipe: str, version: int | None, key: Path | None) -> None:
    """Make reports/releases/MODEL-VERSION of a version of RECIPE; an earlier one is replaced.

    Model card, evaluation, verdict, comparison with the champion before, licences, SBOM, lineage
    and checksums. Exits 1 for a version that the gate rejected and nobody overruled.
    """
    key = None if key is None else key.absolute()
    root = enter()
    from ecgbeats.config import read_params
    from ecgbeats.errors import DataError
    from pipelines import registry
    from pipelines.dag import Dag
    from pipelines.promotion import Project
    from pipelines.release import release as make_release
    from pipelines.tracking import model_name

    params = read_params(root / "params.yaml")
    params.recipe(recipe)
    if version is None:
        chosen = registry.champion(recipe)
        if chosen is None:
            raise DataError(f"{recipe}: no champion yet; run `make run RECIPE={recipe}` first")
    else:
        chosen = registry.version_of(model_name(recipe), version)
    made = make_release(Project(root, Dag(root), params), chosen, key)
    click.echo(f"{made.folder.relative_to(root)}: {chosen.name} version {chosen.version}")
    for words in made.missing:
        click.echo(f"  WITHOUT {words}")


@release.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Ed25519 public key (PEM) of who signed; without it, checksums alone.",
)
@in_words
def verify(folder: Path, key: Path | None) -> None:
    """Check that the release FOLDER is as it was sealed.

    Exits 2 and names each file that was changed, added or removed.
    """
    from pipelines.release import verify as check

    count = check(folder, key)
    signed = "signature and " if key is not None else ""
    click.echo(f"{folder}: {signed}{count} files as they were sealed")
    if key is None:
        click.echo("  checksums only: who changes a file can change them; --key asks who signed")


def after_decision(project: Project, version: Registered) -> str:
    """Renew the release of a version that was decided on; what came of it, in a line.

    The decision stands, whatever fails here.
    """
    import os

    from ecgbeats.errors import EcgbeatsError
    from pipelines.release import renew

    key = os.environ.get("ECGBEATS_RELEASE_KEY")
    try:
        made = renew(project, version, Path(key) if key else None)
    except EcgbeatsError as error:
        return f"release: not made: {error}. `ecgbeats release` makes it later"
    if made is None:
        return "release: as it was"
    without = f", without {'; '.join(made.missing)}" if made.missing else ""
    return f"release: {made.folder.relative_to(project.root)}{without}"


COMMANDS = (release,)
