"""`ecgbeats promote`, `rollback`, `status` and `lineage`: who is champion, and made of what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ecgbeats.cli import in_words
from pipelines.environment import enter

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.promotion import Moved, Project
    from pipelines.promotion_log import Entry

_by = click.option("--by", help="Who decides.  [default: git's user.name]")


@click.command()
@click.argument("recipe")
@click.option("--version", type=click.IntRange(1), help="Of the registry.  [default: challenger]")
@_by
@click.option("--reason", help="Why. Together with --by it overrules a gate that fails.")
@in_words
def promote(recipe: str, version: int | None, by: str | None, reason: str | None) -> None:
    """Make a version of RECIPE champion, if the gate passes now.

    The gate is asked anew: floors, calibration, leaks and size as the version was measured;
    latency on this machine; and the champion, run again on the same test beats. The bento is
    built and checked before anything changes. Exits 1 when the gate says no. Afterwards the
    version's release folder is made (`ecgbeats release`).
    """
    from pipelines.alone import alone
    from pipelines.bentos import Bentos
    from pipelines.promotion import promote as run_promote

    with alone(enter(), "promotion"):
        project = _project(recipe)
        moved = run_promote(
            project, recipe, Bentos(project.root), version=version, by=by, reason=reason, tell=_tell
        )
        _say(project.root, recipe, moved)


@click.command()
@click.argument("recipe")
@_by
@click.option("--reason", help="Why; kept in the log.")
@in_words
def rollback(recipe: str, by: str | None, reason: str | None) -> None:
    """Make the champion before the present one champion again.

    Its model and its bento first answer the golden batch of its evaluation as they did then.
    Again, it goes back one more. Afterwards its release folder is made anew, if it can be.
    """
    from pipelines.alone import alone
    from pipelines.bentos import Bentos
    from pipelines.promotion import rollback as run_rollback

    # Nothing of parameters or data: they may be broken, or the recipe gone, when it is needed.
    root = enter()
    _check_registered(recipe)
    with alone(root, "promotion"):
        moved = run_rollback(root, recipe, Bentos(root), by=by, reason=reason, tell=_tell)
        _say(root, recipe, moved)


@click.command()
@click.argument("recipe", required=False)
@click.option("--on", "when", help="As it was then: 2026-03-31 (its end, UTC), or with a time.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@in_words
def status(recipe: str | None, when: str | None, as_json: bool) -> None:
    """Say which version of RECIPE, or of all, is champion, since when and by whom.

    With its data, commit, figures and bento, and all that the promotion log says.
    """
    enter()
    import json

    from ecgbeats.errors import ContractError
    from pipelines import packaging, registry
    from pipelines.promotion_log import read_when
    from pipelines.standing import in_words as table
    from pipelines.standing import standing
    from pipelines.tracking import model_name

    on = None if when is None else read_when(when)
    if recipe:
        _check_registered(recipe)
    names = [model_name(recipe)] if recipe else registry.model_names()
    found = [standing(name, on=on, has_bento=packaging.has_bento, tell=_tell) for name in names]
    if as_json:
        click.echo(json.dumps(found[0] if recipe else found, indent=2))
    else:
        for each in found:
            click.echo(table(each))
        if not found:
            click.echo("no model is registered yet")
    apart = [each["model"] for each in found if each["apart"]]
    if apart:
        raise ContractError(
            f"{', '.join(apart)}: expected aliases and tags as the promotion log says; they were "
            "changed by other means. `ecgbeats promote` and `ecgbeats rollback` set them anew"
        )


@click.command()
@click.argument("reference")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@in_words
def lineage(reference: str, as_json: bool) -> None:
    """Print what REFERENCE was made of, hash by hash, and verify each that can be reached.

    REFERENCE is a bento tag (NAME:VERSION) or a model version (NAME/3, NAME@champion). Exits 2
    when something is here and is not what the chain says.
    """
    root = enter()
    import json

    from ecgbeats.errors import ContractError
    from pipelines.lineage import in_words as table
    from pipelines.lineage import lineage as trace

    links = trace(root, reference)
    click.echo(
        json.dumps([link.to_json() for link in links], indent=2) if as_json else table(links)
    )
    apart = [link.what for link in links if link.state == "DIFFERS"]
    if apart:
        raise ContractError(f"{reference}: not what its lineage says: {', '.join(apart)}")


def _project(recipe: str) -> Project:
    root = enter()
    from ecgbeats.config import read_params
    from pipelines.dag import Dag
    from pipelines.promotion import Project

    params = read_params(root / "params.yaml")
    params.recipe(recipe)
    return Project(root, Dag(root), params)


def _check_registered(recipe: str) -> None:
    """Make sure that the registry has a model of RECIPE, whatever params.yaml says by now."""
    from ecgbeats.errors import ConfigError
    from pipelines import registry
    from pipelines.tracking import model_name

    have = registry.model_names()
    if model_name(recipe) not in have:
        prefix = model_name("")
        known = ", ".join(name.removeprefix(prefix) for name in have)
        raise ConfigError(
            f"recipe: expected one with a registered model ({known or 'there is none yet'}), got "
            f"{recipe!r}; `make run RECIPE={recipe}` registers its first"
        )


def _tell(words: str) -> None:
    click.echo(words, err=True)


def _say(root: Path, recipe: str, moved: Moved) -> None:
    """Tell of the decision, and then make its release, which takes a while."""
    from pipelines.release import after_move

    if moved.entry is None:
        click.echo(f"{recipe}: version {moved.version} is champion already")
    else:
        _say_entry(recipe, moved, moved.entry)
    click.echo(f"  release: {after_move(root, recipe, moved.version)}")


def _say_entry(recipe: str, moved: Moved, entry: Entry) -> None:
    click.echo(f"{recipe}: version {entry.version} is champion ({entry.action}, by {entry.by})")
    if entry.overridden:
        click.echo(f"  OVERRULED: {', '.join(entry.overridden)}: {entry.reason}")
    if moved.report is not None:
        click.echo(f"  verdict: {moved.report / 'verdict.md'}")
    click.echo(f"  bento: {entry.bento}")
    click.echo(f"  log: entry {entry.number}, {entry.hash[:16]}")


COMMANDS = (promote, rollback, status, lineage)
