"""The library's commands: one a DVC stage, and those that need files alone.

Each is a thin shell: read arguments and parameters, call one function. Imports are
inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ecgbeats.errors import EcgbeatsError, is_of_storage, of_storage

if TYPE_CHECKING:
    from ecgbeats.config import Params

_FILE = click.Path(path_type=Path)
_FOLDER = click.Path(path_type=Path, file_okay=False)

params_option = click.option(
    "--params",
    "params_file",
    type=_FILE,
    default=Path("params.yaml"),
    show_default=True,
    help="Parameter file.",
)
workers_option = click.option(
    "--workers", type=click.IntRange(1), help="Processes; one per processor by default."
)


def _ask_cluster(context: click.Context, option: click.Parameter, address: str | None) -> None:
    if address:
        from ecgbeats.cluster import on_cluster

        # For the stages that a flow starts, too.
        os.environ[DASK_ADDRESS] = address
        context.with_resource(on_cluster(address))


DASK_ADDRESS = "DASK_SCHEDULER_ADDRESS"
dask_option = click.option(
    "--dask",
    envvar=DASK_ADDRESS,
    metavar="ADDRESS",
    help="Scheduler of a Dask cluster to work on, e.g. tcp://scheduler:8786; see docs/scale.md.",
    expose_value=False,
    callback=_ask_cluster,
)


def folder(name: str, text: str) -> Callable[..., Any]:
    """A required option that takes a folder."""
    return click.option(name, type=_FOLDER, required=True, help=text)


def in_words(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn an error that ecgbeats raises on purpose into one line and an exit code.

    Any other is a fault, told with its traceback and exit code 2: 1 is the gate's no alone.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except EcgbeatsError as error:
            click.echo(f"{type(error).__name__}: {error}", err=True)
            sys.exit(error.exit_code)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if isinstance(error, OSError) and is_of_storage(error):
                found = of_storage(error)
                click.echo(f"{type(found).__name__}: {found}", err=True)
            else:
                traceback.print_exc()
            sys.exit(2)

    return wrapped


def _params(path: Path) -> Params:
    from ecgbeats.config import read_params

    return read_params(path)


@click.group()
def stage() -> None:
    """The steps of dvc.yaml, one command each (usually run by `dvc repro`)."""


@stage.command()
@click.argument("dataset")
@params_option
@folder("--out", "Dataset folder to fill.")
@click.option(
    "--mirror",
    envvar="ECGBEATS_MIRROR",
    help="Folder or URL of PhysioNet's layout, instead of PhysioNet; for pictures, their "
    "folder or zip.",
)
@workers_option
@dask_option
@in_words
def fetch(
    dataset: str, params_file: Path, out: Path, mirror: str | None, workers: int | None
) -> None:
    """Bring DATASET to a folder: download, copy and verify it, or generate it."""
    from ecgbeats.config import ImageFolderSource, SampleSource, WfdbFolderSource

    source = _params(params_file).dataset(dataset)
    if isinstance(source, SampleSource):
        from ecgbeats.sources.sample import make_sample

        make_sample(source, out, workers=workers)
    elif isinstance(source, WfdbFolderSource):
        from ecgbeats.sources.wfdb_folder import fetch_wfdb_folder

        fetch_wfdb_folder(source, dataset, out, base=params_file.absolute().parent)
    elif isinstance(source, ImageFolderSource):
        from ecgbeats.sources.image_folder import fetch_image_folder

        fetch_image_folder(source, dataset, out, origin=mirror or None)
    else:
        from ecgbeats.sources.physionet import fetch_physionet

        fetch_physionet(source, dataset, out, mirror=mirror or None)


@stage.command()
@click.argument("union")
@folder("--base", "Dataset folder.")
@folder("--added", "Folder of an added dataset.")
@folder("--out", "Dataset folder to fill.")
@in_words
def unite(union: str, base: Path, added: Path, out: Path) -> None:
    """Join an added dataset to its base; copies of the base's records are left out."""
    from ecgbeats.additions.union import unite as join

    join(union, base, added, out)


@stage.command()
@click.argument("recipe")
@params_option
@folder("--raw", "Dataset folder.")
@folder("--out", "Folder for the findings and their page.")
@folder("--docs", "Folder for Great Expectations' Data Docs.")
@workers_option
@dask_option
@in_words
def validate(
    recipe: str, params_file: Path, raw: Path, out: Path, docs: Path, workers: int | None
) -> None:
    """Check the records and beats that RECIPE uses; fail on a critical finding."""
    from ecgbeats.validation import validate_dataset, validate_pictures

    params = _params(params_file)
    scheme = params.scheme_of(recipe)
    if scheme.of_folders:
        validate_pictures(raw, scheme, out, docs=docs).raise_if_critical()
        return
    summary = validate_dataset(
        raw,
        scheme,
        out,
        exclude=params.protocol_of(recipe).exclude_records,
        docs=docs,
        workers=workers,
    )
    summary.raise_if_critical()


@stage.command()
@click.argument("recipe")
@params_option
@folder("--raw", "Dataset folder.")
@folder("--out", "Folder for the images.")
@workers_option
@dask_option
@in_words
def render(recipe: str, params_file: Path, raw: Path, out: Path, workers: int | None) -> None:
    """Draw the beats of RECIPE as images."""
    from ecgbeats.imaging.store import render_dataset, store_pictures

    params = _params(params_file)
    spec, scheme = params.recipe(recipe).image, params.scheme_of(recipe)
    if scheme.of_folders:
        store_pictures(raw, spec, scheme, out, workers=workers)
        return
    render_dataset(
        raw,
        spec,
        scheme,
        out,
        exclude=params.protocol_of(recipe).exclude_records,
        workers=workers,
    )


@stage.command()
@click.argument("recipe")
@params_option
@folder("--images", "Image folder.")
@folder("--out", "Folder for the split.")
@folder("--report", "Folder for the findings and their page.")
@folder("--docs", "Folder for Great Expectations' Data Docs.")
@in_words
def split(
    recipe: str, params_file: Path, images: Path, out: Path, report: Path, docs: Path
) -> None:
    """Assign the beats of RECIPE to training, validation and test; fail on a leak."""
    from ecgbeats.additions.frozen import assign_with_additions
    from ecgbeats.imaging.store import BeatImages
    from ecgbeats.split import write_split
    from ecgbeats.validation import validate_split

    params = _params(params_file)
    protocol = params.protocol_of(recipe)
    beats = assign_with_additions(
        BeatImages.open(images).beats,
        params.scheme_of(recipe),
        protocol,
        params.additions_of(recipe),
    )
    summary = validate_split(
        beats,
        report,
        by=protocol.split.by,
        headline=params.recipe(recipe).evaluate.headline,
        allowed_patients=protocol.patients_on_both_sides,
        docs=docs,
    )
    summary.raise_if_critical()
    write_split(out, beats, params.scheme_of(recipe), params.recipe(recipe).evaluate.headline)


@stage.command()
@click.argument("recipe")
@params_option
@folder("--images", "Image folder.")
@folder("--split", "Split folder.")
@folder("--out", "Folder for the model.")
@folder("--checkpoints", "Folder for unfinished training.")
@in_words
def train(
    recipe: str, params_file: Path, images: Path, split: Path, out: Path, checkpoints: Path
) -> None:
    """Train the model of RECIPE; goes on where a killed training stopped."""
    from ecgbeats.devices import tell_in_card, training_as_asked
    from ecgbeats.imaging.store import BeatImages
    from ecgbeats.inference import CARD
    from ecgbeats.split import read_split
    from ecgbeats.training import make_task
    from ecgbeats.training import train as train_model

    chosen = _params(params_file).recipe(recipe)
    sides = read_split(split)
    task = make_task(BeatImages.open(images), sides.beats, sides.classes, sides.headline)
    with training_as_asked(chosen.model, chosen.train):
        train_model(
            task, chosen.model, chosen.train, out, checkpoints=checkpoints, answer=chosen.answer
        )
    tell_in_card(out / CARD, chosen.train)


@stage.command()
@click.argument("recipe")
@params_option
@folder("--raw", "Dataset folder, for its description.")
@folder("--images", "Image folder.")
@folder("--split", "Split folder.")
@folder("--model", "Model folder.")
@folder("--predictions", "Folder for the predictions and the golden batch.")
@folder("--report", "Folder for metrics, plots and page.")
@in_words
def evaluate(
    recipe: str,
    params_file: Path,
    raw: Path,
    images: Path,
    split: Path,
    model: Path,
    predictions: Path,
    report: Path,
) -> None:
    """Measure the model of RECIPE on its test side."""
    from ecgbeats.datasets import read_description
    from ecgbeats.imaging.store import BeatImages
    from ecgbeats.inference import Classifier
    from ecgbeats.measuring import evaluate_model
    from ecgbeats.split import read_split

    evaluate_model(
        recipe,
        read_description(raw),
        BeatImages.open(images),
        read_split(split),
        Classifier.load(model),
        _params(params_file).recipe(recipe).evaluate,
        predictions=predictions,
        report=report,
        model_folder=model,
    )


@stage.command()
@click.argument("recipe")
@params_option
@click.option("--metrics", type=_FILE, required=True, help="The recipe's metrics.json.")
@folder("--split", "Split folder.")
@folder("--model", "Model folder.")
@folder("--out", "Folder for verdict.json, verdict.md and verdict.xml.")
@in_words
def verdict(
    recipe: str, params_file: Path, metrics: Path, split: Path, model: Path, out: Path
) -> None:
    """Judge the model of RECIPE by its gate; says yes or no and exits 0 either way."""
    from ecgbeats.files import read_json
    from ecgbeats.gate import joined, judge, write_verdict
    from ecgbeats.leakage import leakage_rows
    from ecgbeats.split import read_split

    protocol = _params(params_file).protocol_of(recipe)
    measured = read_json(metrics)
    onnx = {"size": {"onnx_mb": (model / "model.onnx").stat().st_size / 1e6}}
    rows = leakage_rows(
        read_split(split).beats,
        by=protocol.split.by,
        allowed_patients=protocol.patients_on_both_sides,
    )
    write_verdict(out, joined(judge({**measured, **onnx}, protocol.gate), rows), measured)


@stage.command()
@click.argument("recipe")
@folder("--raw", "Dataset folder.")
@folder("--images", "Image folder.")
@folder("--split", "Split folder.")
@folder("--model", "Model folder.")
@folder("--predictions", "Folder of the evaluation's predictions.")
@folder("--out", "Folder for reference.json.")
@in_words
def reference(
    recipe: str, raw: Path, images: Path, split: Path, model: Path, predictions: Path, out: Path
) -> None:
    """Describe what the model of RECIPE learnt on and how it answers, for `ecgbeats monitor`."""
    import pandas as pd

    from ecgbeats.datasets import read_description
    from ecgbeats.files import canonical_json, folder_written_aside, read_json, write_text
    from ecgbeats.imaging.store import BeatImages
    from ecgbeats.monitoring.reference import REFERENCE, make_reference
    from ecgbeats.split import read_split

    made = make_reference(
        recipe,
        raw,
        read_description(raw),
        BeatImages.open(images),
        read_split(split),
        read_json(model / "model.json"),
        pd.read_parquet(predictions / "predictions.parquet"),
    )
    with folder_written_aside(out) as aside:
        # Thousands of numbers, which indented would be a line each.
        write_text(aside / REFERENCE, canonical_json(made) + "\n")


@click.command("export-images")
@folder("--images", "Image folder of a recipe, e.g. data/images/mitdb-aami5.")
@folder("--out", "New folder for the PNGs.")
@click.option("--labels", required=True, help="Protocol whose label scheme to use, e.g. aami5.")
@click.option("--record", "records", multiple=True, help="Only this record; repeatable.")
@click.option("--each", type=click.IntRange(1), help="At most so many images a class.")
@params_option
@in_words
def export_images(
    images: Path,
    out: Path,
    labels: str,
    records: tuple[str, ...],
    each: int | None,
    params_file: Path,
) -> None:
    """Write class folders of PNGs, as the 2-D-image projects use them."""
    from ecgbeats.imaging.sheets import export_pngs
    from ecgbeats.imaging.store import BeatImages

    scheme = _params(params_file).scheme(labels)
    counts = export_pngs(BeatImages.open(images), scheme, out, records=records, each=each)
    click.echo(f"{out}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))


@click.command()
@folder("--model", "Model folder, e.g. data/models/mitdb-aami5.")
@click.option(
    "--image", "images", type=_FILE, required=True, multiple=True, help="Beat image; repeatable."
)
@click.option(
    "--out", type=_FILE, required=True, help="PNG to write; of several images, a new folder."
)
@click.option("--class", "label", help="Class to explain; the most probable one by default.")
@in_words
def explain(model: Path, images: tuple[Path, ...], out: Path, label: str | None) -> None:
    """Draw what in a beat image speaks for and against the class that the model gives it."""
    from ecgbeats.explanation import explain_files

    for path, answer in explain_files(model, images, out, label=label):
        click.echo(f"{path}: {answer}")
