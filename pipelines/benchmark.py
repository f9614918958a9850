"""`ecgbeats benchmark`: run the rows that are wanted, keep what they measured, make the page.

A row is many experiments, one a seed and fold. Each is kept under data/interim/benchmark by
a key of all that decides it, so that a benchmark that was killed goes on where it was. What
a row measured goes to reports/benchmark/rows, which git keeps.
"""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from ecgbeats import cluster
from ecgbeats.benchmark import (
    COMPLETE,
    Row,
    measure,
    merged,
    patients_of,
    plan,
    read_peers,
    read_rows,
    status,
    tables,
)
from ecgbeats.benchmark_page import html, insert_block, markdown, readme_block
from ecgbeats.codehash import code_hash
from ecgbeats.config import BenchmarkProtocol, Params, Protocol, read_params
from ecgbeats.datasets import Description, ImageManifest, read_description
from ecgbeats.errors import ConfigError, EcgbeatsError
from ecgbeats.files import canonical_json, read_json, sha256_text, write_json, write_text
from ecgbeats.parallel import slots, workers_here
from ecgbeats.processes import Processes
from ecgbeats.progress import Progress, say
from pipelines.alone import alone, locked
from pipelines.dag import Dag, reproduce
from pipelines.provenance import code_of

CACHE, REPORT, PEERS = Path("data/interim/benchmark"), Path("reports/benchmark"), "docs/peers.yaml"
ROWS = "rows"

# What decides answers, and what measures them. Images are told apart by their spec, whose id
# holds the renderer's version.
_TRAINING = ("ecgbeats.experiment", "ecgbeats.split", "ecgbeats.folds", "ecgbeats.labels")
_MEASURING = ("ecgbeats.evaluation", "ecgbeats.metrics", "ecgbeats.bootstrap")
_BY_SPEC = ("ecgbeats.imaging", "ecgbeats.records", "ecgbeats.beats", "ecgbeats.datasets")
_DRAWN = ("ecgbeats.plots", "ecgbeats.report")
# Training refuses an exported network that does not answer as the trained one.
_CHECKED = ("ecgbeats.export",)

_THREADS, _THREADS_FILE = "TF_NUM_INTRAOP_THREADS", "threads.json"


@dataclass(frozen=True)
class Images:
    """A dataset's beats drawn to one spec, and where they lie."""

    folder: Path
    key: str
    dataset: Description


@dataclass(frozen=True)
class Trial:
    """One seed and fold of one row; fold None for the protocol's own split."""

    root: Path
    row: Row
    table: BenchmarkProtocol
    rules: Protocol
    images: Images
    seed: int
    fold: int | None
    # The commit, and whether the tree differed from it.
    code: Mapping[str, Any]

    @property
    def folds(self) -> tuple[int | None, ...]:
        """All folds of the row; with the protocol's own split the one that is None."""
        return (None,) if self.table.folds is None else tuple(range(self.table.folds.number))

    @property
    def name(self) -> str:
        fold = "" if self.fold is None else f", fold {self.fold + 1} of {len(self.folds)}"
        return f"{self.row.name}, seed {self.seed}{fold}"

    @property
    def folder(self) -> Path:
        return self.of_fold(self.fold)

    def of_fold(self, fold: int | None) -> Path:
        key = sha256_text(f"{self.row.training} {self.images.key}")[:16]
        whole = self.root / CACHE / "runs" / key / f"seed-{self.seed}"
        return whole / ("whole" if fold is None else f"fold-{fold}")


def rows_of(params: Params) -> tuple[Row, ...]:
    """All rows of params.yaml, with the keys that the present code gives them."""

    @cache
    def training(model: str) -> str:
        return code_hash(_TRAINING, model=model, without=(*_BY_SPEC, *_CHECKED))

    return plan(params, training, code_hash(_MEASURING, without=(*_BY_SPEC, *_DRAWN)))


def chosen(
    rows: Sequence[Row], systems: Sequence[str] = (), protocols: Sequence[str] = ()
) -> list[Row]:
    """Those of `rows` whose system and protocol are named; all of them where none is.

    Raises
    ------
    ConfigError
        A name is not there, or no row has the two.
    """
    for kind, wanted, known in (
        ("system", systems, {row.system for row in rows}),
        ("protocol", protocols, {row.protocol for row in rows}),
    ):
        for name in wanted:
            if name not in known:
                raise ConfigError(
                    f"{kind}: expected one of {', '.join(sorted(known))}; got {name!r}"
                )
    found = [
        row
        for row in rows
        if (not systems or row.system in systems) and (not protocols or row.protocol in protocols)
    ]
    if not found:
        raise ConfigError(
            f"benchmark: expected a system that fits the protocol; {', '.join(systems)} under "
            f"{', '.join(protocols)} is no row of params.yaml"
        )
    return found


def benchmark(
    root: Path,
    *,
    systems: Sequence[str] = (),
    protocols: Sequence[str] = (),
    seeds: Sequence[int] = (),
    jobs: int | None = None,
    again: bool = False,
    page_only: bool = False,
    readme: bool = False,
) -> list[str]:
    """Run what is wanted and not there yet; then write the page, its Markdown and the README.

    Parameters
    ----------
    systems, protocols : sequence of str
        Names; all where none is given.
    seeds : sequence of int
        Instead of those of the protocol.
    jobs : int
        Experiments at a time, each on its share of the processors. By default one, and on a
        cluster one for each of its workers.
    again : bool
        Also rows that are there and of the present code and parameters.
    page_only : bool
        Run nothing.
    readme : bool
        Replace the README's block by the present table.

    Returns
    -------
    list of str
        What failed, a line each; the rest was run nevertheless.

    Raises
    ------
    EcgbeatsError
        Parameters, names or data are not usable; or another one is at work.
    """
    params = read_params(root / "params.yaml")
    rows = rows_of(params)
    wanted = chosen(rows, systems, protocols)
    failed = []
    if not page_only:
        # Of two at once on one row the second would write over what the first found.
        with locked(root, "benchmark"):
            failed = _run(root, params, wanted, seeds, jobs, again)
    stored = read_rows(root / REPORT / ROWS)
    peers = read_peers(root / PEERS) if (root / PEERS).is_file() else ()
    made = tables(params, rows, stored, peers)
    write_text(root / REPORT / "index.html", html(made))
    write_text(root / REPORT / "benchmark.md", markdown(made))
    if readme:
        text = (root / "README.md").read_text(encoding="utf-8")
        write_text(root / "README.md", insert_block(text, readme_block(made)))
    return failed


def _run(
    root: Path,
    params: Params,
    rows: Sequence[Row],
    seeds: Sequence[int],
    jobs: int | None,
    again: bool,
) -> list[str]:
    stored = read_rows(root / REPORT / ROWS)
    todo = []
    for row in rows:
        table = params.benchmark.protocols[row.protocol]
        for seed in dict.fromkeys(seeds) or table.seeds:
            if again or status(row, stored.get(row.name), (seed,)) != COMPLETE:
                todo.append((row, seed))
    if not todo:
        say("benchmark: every row that is wanted is there and up to date")
        return []
    code = code_of(root)
    about = {"commit": code.commit, "dirty": code.dirty}
    datasets: dict[str, Path] = {}
    images: dict[str, Images] = {}
    trials: list[Trial] = []
    failed: dict[str, str] = {}
    for row, seed in todo:
        table = params.benchmark.protocols[row.protocol]
        rules = params.protocols[table.protocol]
        # A dataset that is not at hand must not keep the others' rows from being made.
        if table.dataset in failed:
            continue
        try:
            if table.dataset not in datasets:
                datasets[table.dataset] = _fetched(root, params, table.dataset)
            if row.name not in images:
                images[row.name] = _drawn(root, datasets[table.dataset], rules, row)
        except EcgbeatsError as error:
            failed[table.dataset] = f"dataset {table.dataset}: {error}"
            continue
        first = Trial(root, row, table, rules, images[row.name], seed, None, about)
        trials += [replace(first, fold=fold) for fold in first.folds]
    if again:
        # From the data on: what was kept of an earlier run would only be compared with itself.
        for trial in trials:
            shutil.rmtree(trial.folder, ignore_errors=True)
    return [*failed.values(), *(_failures(trials, jobs) if trials else ())]


def _failures(trials: Sequence[Trial], jobs: int | None) -> Iterator[str]:
    """Run all, `jobs` at a time, and write each seed down when its last fold ends.

    One system that fails does not end the others; what went wrong comes out in words.
    """
    progress = Progress("benchmark", len(trials))
    jobs = jobs or (slots() if cluster.current() else 1)
    waiting = list(trials)
    with Processes[Trial](max(1, min(jobs, len(trials)))) as processes:
        while waiting or processes.busy:
            while waiting and processes.free:
                trial = waiting.pop(0)
                processes.start(trial, trial.name, _run_trial, trial)
            try:
                trial, failure = processes.next()
                if failure is None:
                    _finish_seed(trial)
            except EcgbeatsError as error:
                # Its process died, or what it left cannot be measured.
                yield str(error)
                continue
            progress.step(trial.name)
            if failure is not None:
                yield failure


def _fetched(root: Path, params: Params, dataset: str) -> Path:
    """The folder of a dataset, made by its stage of dvc.yaml where that is not up to date."""
    dag = Dag(root)
    for recipe in dag.recipes():
        if params.recipe(recipe).dataset == dataset:
            stage = next(stage for stage in dag.plan(recipe) if stage.name == "fetch")
            if not dag.unchanged(stage):
                with alone(root):
                    reproduce(root, stage, say)
            return root / stage.outs[0]
    raise ConfigError(f"benchmark: expected a recipe on dataset {dataset!r}, whose data DVC has")


def _drawn(root: Path, dataset: Path, rules: Protocol, row: Row) -> Images:
    """The images of a row, drawn if they are not there."""
    from ecgbeats.imaging.store import render_dataset, store_pictures

    spec, scheme, exclude = row.setup.image, rules.labels, rules.exclude_records
    description = read_description(dataset)
    about = {
        "dataset": description.model_dump(mode="json"),
        "spec": spec.spec_id,
        "classes": list(scheme.classes.items()),
        "exclude": sorted(exclude),
    }
    key = sha256_text(canonical_json(about))[:16]
    folder = root / CACHE / "images" / key
    if not folder.is_dir():
        say(f"benchmark: drawing {description.name} for {row.name}")
        if isinstance(description, ImageManifest):
            store_pictures(dataset, spec, scheme, folder)
        else:
            render_dataset(dataset, spec, scheme, folder, exclude=exclude)
    return Images(folder, key, description)


def _run_trial(trial: Trial) -> str | None:
    """Run one trial; None, or what went wrong in words."""
    from ecgbeats.devices import training_as_asked
    from ecgbeats.experiment import finished, run_experiment
    from ecgbeats.imaging.store import BeatImages

    # Its folder is named by all that decides it; `run_experiment` would compare more code,
    # that of all networks.
    if finished(trial.folder) is not None:
        return None
    try:
        images = BeatImages.open(trial.images.folder)
        setup = trial.row.setup
        with training_as_asked(setup.model, setup.train):
            run_experiment(
                images,
                _sides(images.beats, trial),
                trial.rules.labels.names,
                trial.table.headline,
                setup.model,
                setup.train.model_copy(update={"seed": trial.seed}),
                trial.folder,
            )
    except EcgbeatsError as error:
        return f"{trial.name}: {type(error).__name__}: {error}"
    except Exception as error:
        # Keras and scikit-learn fail in ways of their own.
        traceback.print_exc()
        return f"{trial.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    write_json(trial.folder / _THREADS_FILE, _threads())
    return None


def _sides(beats: pd.DataFrame, trial: Trial) -> pd.DataFrame:
    from ecgbeats.folds import make_folds
    from ecgbeats.split import assign_sides

    rules, how = trial.rules, trial.table.folds
    if how is None or trial.fold is None:
        return assign_sides(beats, rules.labels, rules)
    folds = make_folds(
        beats, rules.labels, rules, folds=how.number, by=how.by, over=how.over, seed=how.seed
    )
    return folds.sides(trial.fold)


def _finish_seed(trial: Trial) -> None:
    """Measure a seed whose folds are all there and add it to the row's file."""
    from ecgbeats.experiment import MODEL, finished
    from ecgbeats.inference import ONNX
    from ecgbeats.macs import macs_of

    outcomes = [finished(trial.of_fold(fold)) for fold in trial.folds]
    there = [outcome for outcome in outcomes if outcome is not None]
    if len(there) < len(trial.folds):
        return
    predictions = pd.concat([outcome.predictions for outcome in there], ignore_index=True)
    first = there[0]
    dataset = trial.images.dataset
    seed = measure(
        predictions,
        first.classes,
        trial.table,
        {
            "weights_sha256": [outcome.card["weights_sha256"][:16] for outcome in there],
            "train_seconds": round(sum(outcome.train_seconds for outcome in there), 1),
            "threads": _threads_of(first.folder),
        },
    )
    made = {
        "schema": 1,
        "system": trial.row.system,
        "protocol": trial.row.protocol,
        "key": trial.row.key,
        "command": trial.row.command,
        **trial.code,
        "dataset": {"name": dataset.name, "version": dataset.version},
        "synthetic": dataset.synthetic,
        "setup": trial.row.setup.model_dump(mode="json", exclude_unset=True),
        "spec_id": trial.row.setup.image.spec_id,
        "classes": list(first.classes),
        "headline": list(trial.table.headline),
        "parameters": first.parameters,
        "macs": macs_of(first.folder / MODEL / ONNX),
        "patients": patients_of(predictions),
        "seeds": {str(trial.seed): seed},
    }
    path = trial.root / REPORT / ROWS / f"{trial.row.name}.json"
    stored = read_json(path) if path.is_file() else None
    _compare(trial, stored, seed)
    write_json(path, merged(stored, made))


def _compare(trial: Trial, stored: Mapping[str, Any] | None, seed: Mapping[str, Any]) -> None:
    """Say what was measured and, where the row had this seed, whether it came out the same."""
    figures = seed["figures"]
    said = f"macro-F1 {figures['macro_f1'] or float('nan'):.3f}"
    if stored is not None and stored["key"] == trial.row.key:
        before = stored["seeds"].get(str(trial.seed))
        if before is not None:
            same = before["weights_sha256"] == seed["weights_sha256"]
            said += (
                ", as the row said"
                if before["figures"] == figures
                else (f", the row said {before['figures']['macro_f1'] or float('nan'):.3f}")
            )
            said += ", the same weights" if same else ", other weights"
    say(f"benchmark: {trial.row.name}, seed {trial.seed}: {said}")


def _threads() -> int:
    return int(os.environ.get(_THREADS) or workers_here())


def _threads_of(folder: Path) -> int | None:
    """Unknown where the process was killed just before it noted them down."""
    return int(read_json(folder / _THREADS_FILE)) if (folder / _THREADS_FILE).is_file() else None
