"""`ecgbeats data add`, `list`, `show` and `remove`, and `ecgbeats retrain --with`."""

from __future__ import annotations

from pathlib import Path

import click

from ecgbeats.cli import dask_option, in_words
from pipelines.environment import enter
from pipelines.flow_cli import mirror_option, retrain_and_tell


@click.group()
def data() -> None:
    """New annotated data: added, listed, shown, removed."""


@data.command()
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--patients",
    "table",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="CSV file (record,patient). A patient of another dataset is written DATASET/PATIENT.",
)
@click.option(
    "--patient-rule",
    "rule",
    help="Regular expression whose one group is the patient. By default each record is one.",
)
@click.option("--annotator", default="atr", show_default=True, help="Suffix of annotation files.")
@click.option("--licence", default="not stated", show_default=True)
@click.option("--citation", default="not stated", show_default=True)
@click.option("--labels", help="Protocol whose classes are counted.  [default: params.yaml's]")
@click.option(
    "--against",
    multiple=True,
    help="Dataset to look for copies and twins in; repeatable.  [default: all that are here]",
)
@click.option("--exclude-paced", is_flag=True, help="Leave out records with paced beats (EC57).")
@click.option("--no-model", is_flag=True, help="Do not hold the labels against a trained model.")
@click.option(
    "--trust-labels",
    metavar="REASON",
    help="Why findings on the labels shall not stop the batch; kept with the data.",
)
@dask_option
@in_words
def add(
    name: str,
    path: Path,
    table: Path | None,
    rule: str | None,
    annotator: str,
    licence: str,
    citation: str,
    labels: str | None,
    against: tuple[str, ...],
    exclude_paced: bool,
    no_model: bool,
    trust_labels: str | None,
) -> None:
    """Check annotated WFDB records, or class folders of images, and add them as dataset NAME.

    PATH is a folder or a zip. Records that cannot be used are quarantined, with the reason; a
    batch that fails is not added at all, and the exit status is 2. The same data again change
    nothing; other data under the same name are a new version.
    """
    from ecgbeats.errors import ConfigError

    if table is not None and rule is not None:
        raise ConfigError("patients: expected --patients or --patient-rule, got both")
    path, table = path.resolve(), table.resolve() if table is not None else None
    root = enter()
    from ecgbeats.config import read_params
    from pipelines import added
    from pipelines.adding import Options
    from pipelines.adding import add as run_add

    options = Options(
        annotator=annotator,
        patients=table or rule,
        licence=licence,
        citation=citation,
        labels=labels,
        against=against,
        ask_model=not no_model,
        labels_trusted=trust_labels,
        exclude_paced=exclude_paced,
    )
    params = read_params(root / "params.yaml")
    done = run_add(root, params, name, path, options, lambda words: click.echo(words, err=True))
    version = done.entry.version
    if not done.changed:
        click.echo(f"{name}: version {version.number} holds these data already; nothing changed")
        return
    click.echo(f"{name}: version {version.number} added ({version.md5})")
    for line in done.lines:
        click.echo(line)
    click.echo(f"  page        {added.page_of(root, name).relative_to(root)}")
    click.echo(f"  git         git add {added.FOLDER}/{name}.dvc")
    click.echo(f"  train       ecgbeats retrain RECIPE --with {name}")


@data.command("list")
@in_words
def list_() -> None:
    """What was added: version, records, patients, beats, and the recipes that use it."""
    root = enter()
    from ecgbeats.config import read_params
    from ecgbeats.errors import DataError
    from pipelines import added
    from pipelines.placing import as_listed
    from pipelines.uniting import users_of

    params = read_params(root / "params.yaml")
    for name in added.names(root):
        try:
            entry = added.get(root, name)
        except DataError as error:
            click.echo(f"{name}  broken: {error}")
            continue
        beats = " ".join(f"{label} {count:,}" for label, count in entry.beats.items())
        users = ", ".join(users_of(params, name)) or "no recipe"
        people = f"{entry.patients} {'patients' if entry.kind == 'recordings' else 'groups'}"
        here = ""
        if not added.folder_of(root, name).is_dir():
            here = f"  not here: dvc pull {added.FOLDER}/{name}.dvc"
        elif not as_listed(root, name):
            here = f"  broken: {added.FOLDER}/{name} holds something else; add {name} again"
        click.echo(
            f"{name}  version {entry.version.number} of {entry.version.added}  "
            f"{entry.records} {entry.kind} of {people}  {beats}  used by {users}{here}"
        )
    if not added.names(root):
        click.echo("nothing was added yet: ecgbeats data add NAME PATH")


@data.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@in_words
def show(name: str, as_json: bool) -> None:
    """Versions, content, quarantine and page of NAME."""
    root = enter()
    import json
    from dataclasses import asdict

    from ecgbeats.config import read_params
    from pipelines import added
    from pipelines.dag import tracked_as_is
    from pipelines.uniting import users_of

    entry = added.get(root, name)
    folder = added.folder_of(root, name)
    users = users_of(read_params(root / "params.yaml"), name)
    here = tracked_as_is(root, folder)
    if as_json:
        click.echo(json.dumps({**asdict(entry), "used_by": users, "here": here}, indent=2))
        return
    people = "patients" if entry.kind == "recordings" else "groups"
    click.echo(f"{name}: {entry.records} {entry.kind}, {entry.patients} {people}")
    click.echo("  classes     " + ", ".join(f"{k} {v:,}" for k, v in entry.beats.items()))
    click.echo(f"  quarantined {entry.quarantined}")
    quarantine = folder / "quarantine.csv"
    if quarantine.is_file():
        for line in quarantine.read_text("utf-8").splitlines()[1:]:
            click.echo(f"              {line}")
    click.echo(f"  licence     {entry.licence}")
    click.echo(f"  citation    {entry.citation}")
    if entry.labels_trusted:
        click.echo(f"  labels      trusted: {entry.labels_trusted}")
    for version in entry.history:
        click.echo(f"  version {version.number:<3} {version.added}  {version.md5}  {version.by}")
    click.echo(f"  used by     {', '.join(users) or 'no recipe'}")
    click.echo(f"  here        {'yes' if here else f'no: dvc pull {added.FOLDER}/{name}.dvc'}")
    page = added.page_of(root, name)
    if page.is_file():
        click.echo(f"  page        {page.relative_to(root)}")


@data.command()
@click.argument("name")
@in_words
def remove(name: str) -> None:
    """Remove NAME: folder, page and listing. DVC's cache, and git's history, keep it.

    Refused while a recipe is trained with it.
    """
    root = enter()
    from pipelines.removing import remove as run_remove

    entry = run_remove(root, name)
    click.echo(f"{name}: version {entry.version.number} removed; DVC's cache still holds it")


@click.command("retrain")
@click.argument("recipe")
@click.option("--with", "with_", multiple=True, help="Train with this addition too; repeatable.")
@click.option("--without", multiple=True, help="Train without this addition; repeatable.")
@mirror_option("Folder or URL of PhysioNet's layout, instead of PhysioNet.")
@dask_option
@in_words
def retrain(recipe: str, with_: tuple[str, ...], without: tuple[str, ...]) -> None:
    """Run the whole flow for RECIPE on its dataset and what was added to it.

    What it is trained with is kept in params.yaml, and adds up. The test patients stay those
    of the protocol; nobody who is added is ever tested. Exits as `ecgbeats run` does.
    """
    retrain_and_tell(enter(), recipe, with_=with_, without=without)


COMMANDS = (data, retrain)
