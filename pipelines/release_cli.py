"""`ecgbeats release`: make the folder of a version, and check one."""

from __future__ import annotations

from pathlib import Path

import click

from ecgbeats.cli import in_words
from pipelines.environment import enter


class _MakeByDefault(click.Group):
    """`release RECIPE` is `release make RECIPE`."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in context.help_option_names:
            args = ["make", *args]
        return super().parse_args(context, args)


_key = click.option(
    "--key",
    envvar="ECGBEATS_RELEASE_KEY",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Ed25519 private key (PEM) to sign with.",
)


@click.group(cls=_MakeByDefault)
def release() -> None:
    """Make, or check, the release folder of a version.

    `ecgbeats release RECIPE` makes it, `ecgbeats release verify DIR` checks one.
    """


@release.command()
@click.argument("recipe")
@click.option("--version", type=click.IntRange(1), help="Of the registry.  [default: champion]")
@_key
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


@release.command()
@click.argument("recipe")
@click.option(
    "--out",
    default=Path("dist"),
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the files; an earlier one is replaced.",
)
@_key
@in_words
def export(recipe: str, out: Path, key: Path | None) -> None:
    """Write the bento of RECIPE's champion and its release folder as files to hand over.

    With their checksums, which are signed where there is a key. `release verify` checks them.
    The bento is tried out first. `bentoml import FILE` takes it into another store.
    """
    out = out.absolute()
    key = None if key is None else key.absolute()
    root = enter()
    from pipelines import registry
    from pipelines.release_export import export as write_files

    champion = registry.champion(recipe)
    for path in write_files(root, recipe, champion, out, key):
        click.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


COMMANDS = (release,)
