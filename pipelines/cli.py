"""`ecgbeats`: all commands, those of the library and those that join it to other tools."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ecgbeats import cli as library
from ecgbeats.cli import in_words
from pipelines.environment import prepare, project_root


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ecgbeats")
def main() -> None:
    """From annotated ECG recordings to a deployed beat classifier, again and again, safely."""


main.add_command(library.stage)
main.add_command(library.export_images)


def _enter() -> Path:
    """Go to the project's folder; relative paths of MLflow and DVC start there."""
    root = project_root()
    os.chdir(root)
    prepare(root)
    return root


@main.command()
@click.argument("recipe", default="sample-aami5")
@click.option(
    "--mirror",
    envvar="ECGBEATS_MIRROR",
    help="Folder or URL of PhysioNet's layout, instead of PhysioNet.",
)
@in_words
def run(recipe: str, mirror: str | None) -> None:
    """Run the whole flow for RECIPE: data to bento, gate included.

    Exits 0 when the model passes, 1 when the gate rejects it, 2 when something failed.
    """
    if mirror:
        # Relative to where the user stands, not to the project.
        folder = Path(mirror)
        os.environ["ECGBEATS_MIRROR"] = str(folder.resolve()) if folder.is_dir() else mirror
    root = _enter()
    from pipelines.retrain import retrain
    from pipelines.summary import summary

    outcome = retrain(root, recipe)
    if outcome.metrics:
        click.echo(summary(outcome, root))
    if outcome.error is not None:
        raise outcome.error


@main.command()
@click.argument("recipe")
@in_words
def gate(recipe: str) -> None:
    """Enforce the verdict on RECIPE: exit 0 when it passed, 1 when not."""
    root = _enter()
    from ecgbeats.errors import DataError
    from ecgbeats.files import read_json
    from ecgbeats.gate import enforce
    from pipelines.dag import Dag

    dag = Dag(root)
    # Git keeps verdicts: one may lie there that is of other data, code or parameters.
    stale = [stage.address for stage in dag.plan(recipe) if not dag.unchanged(stage)]
    if stale:
        raise DataError(
            f"{recipe}: expected a verdict on the present data, code and parameters; "
            f"not up to date: {', '.join(stale)}. Run `make run RECIPE={recipe}` first."
        )
    path = dag.out(recipe, "verdict", "verdict.json")
    verdict = read_json(path)
    for check in verdict["checks"]:
        mark = "pass" if check["passed"] else "FAIL"
        click.echo(f"{mark}  {check['what']}: {check['measured']} (required {check['required']})")
    enforce(verdict)


@main.command()
@click.argument("recipe")
@in_words
def status(recipe: str) -> None:
    """Say which version of RECIPE is champion and what it was made of."""
    _enter()
    from pipelines import registry

    champion = registry.champion(recipe)
    if champion is None:
        click.echo(f"{registry.model_name(recipe)}: no champion")
        return
    click.echo(f"{champion.name} version {champion.version}: {champion.alias}")
    for key, value in sorted(champion.tags.items()):
        click.echo(f"  {key}: {value}")


@main.command()
@click.argument("recipe", default="sample-aami5")
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@in_words
def serve(recipe: str, port: int) -> None:
    """Serve the bento of RECIPE's champion on 127.0.0.1."""
    _enter()
    from ecgbeats.errors import DataError
    from pipelines import registry

    champion = registry.champion(recipe)
    if champion is None or "bento" not in champion.tags:
        raise DataError(f"{recipe}: no bento yet; run `make run RECIPE={recipe}` first")
    command = ["bentoml", "serve", champion.tags["bento"], "--host", "127.0.0.1"]
    os.execvp("bentoml", [*command, "--port", str(port)])


@main.command()
@click.argument("tool", type=click.Choice(["mlflow", "prefect"]))
@click.option("--port", type=click.IntRange(1, 65535), help="Default: the tool's own.")
@in_words
def ui(tool: str, port: int | None) -> None:
    """Open the server of TOOL over what ran here, on 127.0.0.1."""
    _enter()
    if tool == "mlflow":
        store = os.environ["MLFLOW_TRACKING_URI"]
        if store.startswith(("http://", "https://")):
            click.echo(f"MLflow is a server already: {store}")
            return
        command = ["mlflow", "server", "--backend-store-uri", store, "--host", "127.0.0.1"]
        command += ["--port", str(port or 5000)]
    else:
        command = ["prefect", "server", "start", "--host", "127.0.0.1"]
        command += ["--port", str(port or 4200)]
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main())
