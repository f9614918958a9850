"""`ecgbeats`: all commands, those of the library and those that join it to other tools."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ecgbeats import cli as library
from ecgbeats.cli import in_words
from pipelines import (
    compare_cli,
    data_cli,
    deploy_cli,
    monitor_cli,
    promotion_cli,
    release_cli,
    review_cli,
    serving_cli,
)
from pipelines.environment import enter, project_root
from pipelines.flow_cli import mirror_option, retrain_and_tell

if TYPE_CHECKING:
    from ecgbeats.config import Params

# Naming one of these names the folder that it lies in.
_MODEL_FILES = ("model.json", "model.onnx", "model.keras")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ecgbeats")
def main() -> None:
    """From annotated ECG recordings to a deployed beat classifier, again and again, safely."""


main.add_command(library.stage)
main.add_command(library.export_images)
main.add_command(library.explain)
for module in (promotion_cli, compare_cli, data_cli, release_cli, review_cli, serving_cli):
    for command in module.COMMANDS:
        main.add_command(command)
main.add_command(monitor_cli.monitor)
main.add_command(deploy_cli.deploy)


@main.command()
@click.argument("recipe", default="sample-aami5")
@mirror_option("Folder or URL of PhysioNet's layout, instead of PhysioNet.")
@library.dask_option
@in_words
def run(recipe: str) -> None:
    """Run the whole flow for RECIPE: data to bento, gate included.

    Exits 0 when the model passes, 1 when the gate rejects it, 2 when something failed.
    """
    retrain_and_tell(enter(), recipe)


@main.command()
@click.argument("recipe")
@in_words
def gate(recipe: str) -> None:
    """Enforce the verdict on RECIPE: exit 0 when it passed, 1 when not.

    That of its last run, latency and champion included; else that of the files alone.
    """
    root = enter()
    from ecgbeats.errors import DataError
    from ecgbeats.gate import enforce
    from pipelines.dag import Dag
    from pipelines.gating import last_verdict

    dag = Dag(root)
    # Git keeps verdicts: one may lie there that is of other data, code or parameters.
    stale = [stage.address for stage in dag.plan(recipe) if not dag.unchanged(stage)]
    if stale:
        raise DataError(
            f"{recipe}: expected a verdict on the present data, code and parameters; "
            f"not up to date: {', '.join(stale)}. Run `make run RECIPE={recipe}` first."
        )
    verdict, whole = last_verdict(dag, recipe)
    for check in verdict["checks"]:
        mark = "pass" if check["passed"] else "FAIL"
        click.echo(f"{mark}  {check['what']}: {check['measured']} (required {check['required']})")
    if not whole:
        click.echo("of the files only: latency and champion were not asked; `make run` asks them")
    enforce(verdict)


@main.command()
@click.option(
    "--model",
    "reference",
    required=True,
    help="A model folder, or a registered model: NAME@ALIAS, NAME/VERSION.",
)
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of annotated WFDB records, also in subfolders.",
)
@click.option("--labels", required=True, help="Protocol whose label scheme to use, e.g. aami5.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="New folder for metrics, predictions and page; an earlier output is replaced.",
)
@click.option("--annotator", help="Suffix of the annotation files.  [default: atr]")
@click.option("--lead", help="Lead to draw; the model's own choice by default.")
@click.option("--exclude", multiple=True, help="Leave this record out; repeatable.")
@click.option(
    "--patients",
    help="CSV file (record,patient), or a regular expression whose one group is the patient; "
    "by default each record is a patient.",
)
@click.option("--exclude-paced", is_flag=True, help="Leave out records with paced beats (EC57).")
@click.option(
    "--headline",
    help="Classes of the headline, e.g. N,S,V; by default as in the protocol's recipes.",
)
@click.option("--bootstrap", default=1000, show_default=True, type=click.IntRange(100))
@click.option(
    "--predictions",
    type=click.Choice(["parquet", "csv"]),
    default="parquet",
    show_default=True,
    help="Format of the table of predictions.",
)
@library.workers_option
@library.dask_option
@click.option(
    "--params",
    "params_file",
    type=click.Path(path_type=Path),
    help="Parameter file.  [default: the project's params.yaml]",
)
@in_words
def evaluate(
    reference: str,
    data: Path,
    labels: str,
    out: Path,
    annotator: str | None,
    lead: str | None,
    exclude: tuple[str, ...],
    patients: str | None,
    exclude_paced: bool,
    headline: str | None,
    bootstrap: int,
    predictions: Literal["parquet", "csv"],
    workers: int | None,
    params_file: Path | None,
) -> None:
    """Measure any model on anybody's annotated records.

    Sampling frequency, lead names and number of leads are as they come. Records that cannot
    be measured are left out, with the reason, in skipped.csv, on the page and here.
    """
    import tempfile
    import time

    from ecgbeats import cluster
    from ecgbeats.config import read_params
    from ecgbeats.measuring_records import (
        Reading,
        check_out,
        choose_records,
        measure_records,
    )
    from ecgbeats.measuring_records import in_words as table
    from pipelines import model_folder

    began = time.monotonic()
    # Before anything moves to the project's folder: relative to where the user stands.
    data, out, folder = data.absolute(), out.absolute(), Path(reference).absolute()
    if params_file is None:
        params_file = project_root() / "params.yaml"
    params = read_params(params_file)
    scheme = params.scheme(labels)
    asked = _headline(params, labels, headline)
    check_out(out)
    records = choose_records(data, patients=patients, exclude=exclude)
    with tempfile.TemporaryDirectory(".ecgbeats-model", ".", cluster.scratch()) as scratch:
        about = {"reference": reference}
        title = reference
        if folder.is_file() and folder.name in _MODEL_FILES:
            folder = folder.parent
        if folder.is_dir():
            title = folder.name
        else:
            enter()
            from pipelines import registry

            registered = registry.find(reference)
            title = f"{registered.name} version {registered.version}"
            about["registered"] = title
            folder = registry.fetch_model(registered, Path(scratch))
        # What is damaged in it is told before any record is read.
        model_folder.load(folder)
        figures = measure_records(
            folder,
            records,
            scheme,
            out,
            title=f"{title} on {data.name}",
            headline=asked,
            reading=Reading(annotator, lead, exclude_paced),
            about=about,
            replicates=bootstrap,
            predictions=predictions,
            workers=workers,
        )
    click.echo(table(figures))
    click.echo(f"  page        {out / 'index.html'}")
    click.echo(f"  took        {time.monotonic() - began:.0f} s")


def _headline(params: Params, protocol: str, given: str | None) -> tuple[str, ...]:
    """Classes of the headline: as given, as most of the protocol's recipes have it, else all."""
    if given is not None:
        wanted = tuple(name.strip() for name in given.split(",") if name.strip())
        classes = params.scheme(protocol).names
        if not wanted or not set(wanted) <= set(classes):
            raise click.UsageError(
                f"--headline: expected classes of {protocol}, {' '.join(classes)}; got {given}"
            )
        return wanted
    of_recipes = Counter(
        recipe.evaluate.headline
        for recipe in params.recipes.values()
        if recipe.protocol == protocol
    )
    if of_recipes:
        return of_recipes.most_common(1)[0][0]
    return params.scheme(protocol).names


@main.command()
@click.argument("recipe", required=False)
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@in_words
def serve(recipe: str | None, port: int) -> None:
    """Serve the bento of RECIPE's champion on 127.0.0.1.

    Without RECIPE that of the newest champion; where none is here, of the model that the
    repository carries. A champion of RECIPE that another machine made is built here first.
    """
    root = enter()
    from pipelines import carried, elsewhere, standing

    bento = elsewhere.bento_of(root, recipe, click.echo) if recipe else standing.newest_bento(root)
    if bento is None:
        bento = carried.build(root)
        click.echo(f"no champion's bento is here: {bento}, the model that the repository carries")
    command = ["bentoml", "serve", bento, "--host", "127.0.0.1"]
    os.execvp("bentoml", [*command, "--port", str(port)])


@main.command("api-key")
@click.argument("name")
@in_words
def api_key(name: str) -> None:
    """Make an API key for the service, for the client NAME.

    Prints the key, which nothing keeps, and the line for ECGBEATS_API_KEYS or its file.
    """
    from pipelines.api_keys import make

    key, line = make(name)
    click.echo("key, for the client alone:", err=True)
    click.echo(key)
    click.echo("line, for the service (ECGBEATS_API_KEYS or ECGBEATS_API_KEYS_FILE):", err=True)
    click.echo(line)


@main.command()
@click.argument("recipe")
@in_words
def carry(recipe: str) -> None:
    """Put RECIPE's champion into the repository, for `serve` where nothing has run."""
    root = enter()
    from ecgbeats.errors import DataError
    from pipelines import carried, registry

    champion = registry.champion(recipe)
    if champion is None:
        raise DataError(f"{recipe}: no champion yet; run `make run RECIPE={recipe}` first")
    folder = carried.carry(root, champion)
    click.echo(f"{folder}: {champion.name} version {champion.version}")


@main.command()
@click.option("--system", "systems", multiple=True, help="Only this system or ablation.")
@click.option("--protocol", "protocols", multiple=True, help="Only this protocol.")
@click.option(
    "--seed", "seeds", multiple=True, type=click.IntRange(0), help="Instead of the protocol's."
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Trainings at a time.  [default: 1; on a Dask cluster one per worker]",
)
@click.option("--again", is_flag=True, help="Also rows that are there and up to date.")
@click.option("--page-only", is_flag=True, help="Run nothing; needs no data.")
@click.option("--readme", is_flag=True, help="Also put the table into README.md.")
@mirror_option("Where data that is not there yet comes from; see run.")
@library.dask_option
@in_words
def benchmark(
    systems: tuple[str, ...],
    protocols: tuple[str, ...],
    seeds: tuple[int, ...],
    jobs: int | None,
    again: bool,
    page_only: bool,
    readme: bool,
) -> None:
    """Run systems under protocols, as params.yaml lists them, and write the page on them.

    SYSTEM, PROTOCOL and SEED may be given several times; all are run where none is given.
    Goes on where it was killed; rows that are there and of the present code and parameters
    are not run again. Writes reports/benchmark/index.html, benchmark.md and rows/.
    """
    root = enter()
    from ecgbeats.errors import ServiceError
    from pipelines.benchmark import REPORT
    from pipelines.benchmark import benchmark as run_benchmark

    failed = run_benchmark(
        root,
        systems=systems,
        protocols=protocols,
        seeds=seeds,
        jobs=jobs,
        again=again,
        page_only=page_only,
        readme=readme,
    )
    click.echo(REPORT / "index.html")
    if failed:
        raise ServiceError("benchmark: not all rows could be run\n  " + "\n  ".join(failed))


def _seeds(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, ...]:
    """Whole numbers, separated by commas."""
    try:
        words = [word for word in (text or "").split(",") if word.strip()]
        return tuple(dict.fromkeys(int(word) for word in words))
    except ValueError as error:
        raise click.BadParameter(f"expected whole numbers, as 1,2,3; got {text!r}") from error


@main.command()
@click.argument("recipe")
@click.option("--folds", type=click.IntRange(2), help="How many.")
@click.option(
    "--over",
    type=click.Choice(["all", "training"]),
    help="All beats, to measure; or those that the protocol does not test, to choose.",
)
@click.option(
    "--by",
    type=click.Choice(["patient", "beat"]),
    help="Whole patients, or beats at random: recognition of known patients, no more.",
)
@click.option("--seeds", callback=_seeds, help="Seeds of training, e.g. 1,2,3.")
@click.option("--jobs", type=click.IntRange(1), help="Folds at a time; one per processor.")
@click.option("--only-fold", "only", multiple=True, type=int, help="From 0; repeatable.")
@library.dask_option
@in_words
def crossval(
    recipe: str,
    folds: int | None,
    over: Literal["all", "training"] | None,
    by: Literal["patient", "beat"] | None,
    seeds: tuple[int, ...],
    jobs: int | None,
    only: tuple[int, ...],
) -> None:
    """Cross-validate RECIPE: every beat tested once, by a model that has not seen its fold.

    What is not given is as in the recipe's section `crossval`. Goes on where it was killed.
    """
    root = enter()
    from pipelines.crossval import Asked, summary
    from pipelines.crossval import crossval as run_crossval

    outcome = run_crossval(root, recipe, Asked(folds, over, by, seeds, jobs, only))
    if outcome.error is not None:
        raise outcome.error
    click.echo(summary(outcome, root))


@main.command()
@click.argument("recipe")
@click.option("--trials", type=click.IntRange(1), help="In all, those of earlier runs included.")
@click.option("--jobs", type=click.IntRange(1), help="Trials at a time; one per processor.")
@library.dask_option
@in_words
def tune(recipe: str, trials: int | None, jobs: int | None) -> None:
    """Search better parameters for RECIPE, on its training patients alone.

    The search space is the recipe's section `tune`. Goes on where it was killed. Prints the
    best values, as they are to be put into params.yaml.
    """
    root = enter()
    from pipelines.tune import summary
    from pipelines.tune import tune as run_tune

    outcome = run_tune(root, recipe, trials=trials, jobs=jobs)
    if outcome.error is not None:
        raise outcome.error
    click.echo(summary(outcome, root))


@main.command()
@click.argument("tool", type=click.Choice(["mlflow", "prefect"]))
@click.option("--port", type=click.IntRange(1, 65535), help="Default: the tool's own.")
@in_words
def ui(tool: str, port: int | None) -> None:
    """Open the server of TOOL over what ran here, on 127.0.0.1."""
    enter()
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
