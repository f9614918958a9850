"""Systems x protocols: which rows there are, what each measured, and the page on them.

Nothing here trains or reads a recording. A row is one system under one protocol. What it
measured is a JSON file, kept in git, that holds for each seed the figures of
`ecgbeats.evaluation` and the confusion matrix of each record. Means, intervals and
differences are made of those, on any machine.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ecgbeats import bootstrap, metrics
from ecgbeats.config import BenchmarkProtocol, Params, Setup
from ecgbeats.errors import ConfigError, DataError
from ecgbeats.evaluation import evaluate
from ecgbeats.files import canonical_json, read_json, sha256_text

SCHEMA = 1
COMPLETE, PARTIAL, STALE, NOT_RUN = "complete", "partial", "stale", "not run"
BEGIN, END = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"

_DIGITS = 6


@dataclass(frozen=True)
class Row:
    """One system under one protocol.

    Attributes
    ----------
    system, protocol : str
        Names in params.yaml's section benchmark.
    of : str or None
        For an ablation, the system that it changes.
    training : str
        Hash of all parameters and code that decide what its models answer, seeds left out.
    key : str
        The same, with the code that measures the answers.
    """

    system: str
    protocol: str
    of: str | None
    setup: Setup
    training: str
    key: str

    @property
    def name(self) -> str:
        return f"{self.system}@{self.protocol}"

    @property
    def command(self) -> str:
        """What makes the row anew, from the data on."""
        return f"ecgbeats benchmark --system {self.system} --protocol {self.protocol} --again"


class Peer(BaseModel):
    """What others reach, with what to know about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str
    # Names of the benchmark's protocols beside which it is shown.
    protocols: tuple[str, ...]
    # Published by its authors, or measured by us on a machine like ours.
    how: Literal["published", "measured"]
    # Over the headline's classes; drawn beside ours where it is given.
    macro_f1: float | None = None
    figures: Mapping[str, float | str] = {}
    note: str = ""
    # Why the figures are no evidence, where they are not.
    invalid: str = ""


def plan(params: Params, training: Callable[[str], str], measuring: str) -> tuple[Row, ...]:
    """All rows that params.yaml asks for, systems first, then ablations.

    Parameters
    ----------
    training : callable
        From a model's name to the hash of the code that splits beats and trains it.
    measuring : str
        Hash of the code that measures answers.
    """
    wanted = [
        (name, protocol, None)
        for name, system in params.benchmark.systems.items()
        for protocol in system.protocols
    ] + [
        (name, ablation.protocol, ablation.of)
        for name, ablation in params.benchmark.ablations.items()
    ]
    rows = []
    for name, protocol, of in wanted:
        setup = params.setup(name)
        trained = training_key(params, protocol, setup, training(setup.model.name))
        key = sha256_text(f"{trained} {measuring}")[:16]
        rows.append(Row(name, protocol, of, setup, trained, key))
    return tuple(rows)


def training_key(params: Params, protocol: str, setup: Setup, code: str) -> str:
    """Hash of all that decides what `setup` answers under `protocol`, seeds left out."""
    table = params.benchmark.protocols[protocol]
    rules = params.protocols[table.protocol]
    value = {
        "schema": SCHEMA,
        "dataset": params.datasets[table.dataset].model_dump(mode="json"),
        # The order of the classes is that of the network's outputs.
        "classes": list(rules.labels.classes.items()),
        "exclude": rules.exclude_records,
        "split": rules.split.model_dump(mode="json"),
        "folds": table.folds.model_dump(mode="json") if table.folds else None,
        "headline": table.headline,
        # The renderer's version is part of it.
        "image": setup.image.spec_id,
        "model": setup.model.model_dump(mode="json"),
        "train": setup.train.model_dump(mode="json", exclude={"seed"}),
        "code": code,
    }
    return sha256_text(canonical_json(value))[:16]


def measure(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    table: BenchmarkProtocol,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """What one seed's answers are worth: the part of a row's file that belongs to the seed.

    Parameters
    ----------
    predictions : DataFrame
        Predictions table (see `ecgbeats.evaluation`); of all folds together.
    about : mapping
        Merged in as it is: weights, seconds, seeds.
    """
    figures = evaluate(
        predictions,
        classes,
        table.headline,
        # Its intervals are of one seed; those of a row are made from all seeds' matrices.
        replicates=1,
        seed=0,
        about={"recipe": "", "dataset": {}, "synthetic": False, "weights_sha256": ""},
    )
    gross, average = figures["gross"], figures["average"]
    without = figures["without_largest_patient"]
    kept = {
        "accuracy": figures["accuracy"],
        "macro_f1": figures["headline"]["macro_f1"],
        "also_f1": _mean_or_none([gross[name]["f1"] for name in table.also]),
        "mean_se": _mean_or_none([gross[name]["se"] for name in table.headline]),
        "ece": figures["calibration"]["ece"],
        "brier": figures["calibration"]["brier"],
        "classes": {
            name: {
                **{key: gross[name][key] for key in ("support", "se", "ppv", "f1")},
                "record_se": average[name]["se"],
                "record_ppv": average[name]["ppv"],
                "without_f1": without[name]["f1"],
                "without_patient": without[name]["patient"],
                "without_share": without[name]["share"],
            }
            for name in classes
        },
    }
    matrices, records = _by_record(predictions, classes)
    return {
        **about,
        "beats": len(predictions),
        "figures": _rounded(kept),
        "by_record": {
            record: ", ".join(" ".join(str(n) for n in line) for line in matrix)
            for record, matrix in zip(records, matrices, strict=True)
        },
    }


def patients_of(predictions: pd.DataFrame) -> dict[str, str]:
    """Patient of each record; of pictures, whose records are shards, each patient itself."""
    first = predictions.groupby(_unit(predictions))["patient"].first()
    return {str(record): str(patient) for record, patient in first.items()}


def merged(stored: Mapping[str, Any] | None, made: Mapping[str, Any]) -> dict[str, Any]:
    """A row's file with the seeds of `made` added to those of `stored`, if they belong together."""
    if stored is None or stored["key"] != made["key"]:
        return dict(made)
    seeds = {**stored["seeds"], **made["seeds"]}
    return {**made, "seeds": {seed: seeds[seed] for seed in sorted(seeds, key=int)}}


def status(row: Row, stored: Mapping[str, Any] | None, seeds: Sequence[int]) -> str:
    """What the page says of a row's file."""
    if stored is None:
        return NOT_RUN
    if stored["key"] != row.key:
        return STALE
    return COMPLETE if all(str(seed) in stored["seeds"] for seed in seeds) else PARTIAL


@dataclass(frozen=True)
class Figure:
    """Mean over seeds, standard deviation over seeds, 95 % interval from resampled patients.

    The interval is that of the mean over the seeds; the standard deviation is None with one.
    """

    mean: float | None
    sd: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Line:
    """A row of a table as the page shows it; figures only where it was run."""

    row: Row
    about: str
    status: str
    seeds: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    figures: Mapping[str, Figure] | None = None
    stored: Mapping[str, Any] | None = None
    # For an ablation: macro-F1 less that of the system it changes.
    difference: Figure | None = None

    def figure(self, key: str) -> Figure:
        return (self.figures or {}).get(key, Figure(None))

    @property
    def minutes(self) -> Figure:
        """Of training, a seed, all folds together."""
        if self.stored is None:
            return Figure(None)
        spent = [seed["train_seconds"] / 60 for seed in self.stored["seeds"].values()]
        return _over_seeds(spent)

    @property
    def threads(self) -> str:
        """Processor threads that training had."""
        if self.stored is None:
            return ""
        return "/".join(
            sorted({str(seed["threads"] or "?") for seed in self.stored["seeds"].values()})
        )


@dataclass(frozen=True)
class Table:
    """All systems under one protocol, the best first, those not run last."""

    name: str
    protocol: BenchmarkProtocol
    classes: tuple[str, ...]
    by: str
    lines: tuple[Line, ...]
    ablations: tuple[Line, ...]
    peers: tuple[Peer, ...]
    synthetic: bool

    @property
    def peer_columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for peer in self.peers for key in peer.figures))

    @property
    def run(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.figures is not None)


def tables(
    params: Params,
    rows: Sequence[Row],
    stored: Mapping[str, Mapping[str, Any]],
    peers: Sequence[Peer] = (),
) -> tuple[Table, ...]:
    """What the page shows, a table a protocol.

    Parameters
    ----------
    rows : sequence of Row
        See `plan`.
    stored : mapping of str to mapping
        Content of the rows' files by the rows' names, of those that there are.
    """
    made = []
    for name, protocol in params.benchmark.protocols.items():
        lines = [_line(params, row, stored) for row in rows if row.protocol == name]
        classes = params.protocols[protocol.protocol].labels.names
        made.append(
            Table(
                name=name,
                protocol=protocol,
                classes=classes,
                by=_rules(params, protocol),
                lines=_ranked([line for line in lines if line.row.of is None]),
                ablations=_ranked([line for line in lines if line.row.of is not None]),
                peers=tuple(peer for peer in peers if name in peer.protocols),
                synthetic=any(line.stored["synthetic"] for line in lines if line.stored)
                or params.datasets[protocol.dataset].source == "sample",
            )
        )
    return tuple(made)


def summary(
    stored: Mapping[str, Any], table: BenchmarkProtocol, *, replicates: int, seed: int
) -> dict[str, Figure]:
    """Mean, spread and interval of each figure of a row, by dotted name.

    Names are those of `figures` in the row's file, e.g. "macro_f1" or "classes.S.f1".
    """
    seeds = [dict(_leaves(each["figures"])) for each in stored["seeds"].values()]
    moved = replicate_means(stored, table, replicates=replicates, seed=seed)
    out = {}
    for path in seeds[0]:
        values = [figures[path] for figures in seeds]
        if any(isinstance(value, str) for value in values):
            continue
        figure = _over_seeds(values)
        interval = bootstrap.percentile_interval(moved[path]) if path in moved else None
        bounds = (interval[0], interval[1]) if interval else None
        out[path] = Figure(figure.mean, figure.sd, bounds)
    return out


def replicate_means(
    stored: Mapping[str, Any], table: BenchmarkProtocol, *, replicates: int, seed: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Figures over draws of patients, each the mean over seeds, shape (replicates,).

    All seeds, and all rows over the same patients, are measured on the same draws, so that
    rows can be compared draw by draw.
    """
    classes = stored["classes"]
    patients = stored["patients"]
    names = sorted(set(patients.values()))
    chosen = [classes.index(name) for name in table.headline]
    also = [classes.index(name) for name in table.also]
    each: dict[str, list[npt.NDArray[np.float64]]] = {}
    for one in stored["seeds"].values():
        pooled = np.zeros((len(names), len(classes), len(classes)), np.int64)
        for record, text in one["by_record"].items():
            pooled[names.index(patients[record])] += _matrix(text)
        drawn = bootstrap.replicate_confusions(pooled, replicates, seed)
        f1 = metrics.class_scores(drawn).f1
        figures = {"accuracy": metrics.accuracy(drawn), "macro_f1": metrics.macro_f1(f1, chosen)}
        if also:
            figures["also_f1"] = metrics.macro_f1(f1, also)
        figures |= {f"classes.{name}.f1": f1[:, i] for i, name in enumerate(classes)}
        means = _record_means(one["by_record"], patients, names, replicates, seed)
        for key, of_classes in means.items():
            figures |= {f"classes.{n}.{key}": of_classes[:, i] for i, n in enumerate(classes)}
        for key, values in figures.items():
            each.setdefault(key, []).append(values)
    return {key: np.mean(values, axis=0) for key, values in each.items()}


def _record_means(
    by_record: Mapping[str, str],
    patients: Mapping[str, str],
    names: Sequence[str],
    replicates: int,
    seed: int,
) -> dict[str, npt.NDArray[np.float64]]:
    """Se and +P as means over records, each of shape (replicates, classes); NaN where none counts.

    A patient who is drawn twice brings each of his records twice.
    """
    drawn = bootstrap.draws(len(names), replicates if len(names) > 1 else 0, seed)
    whose = np.array([names.index(patients[record]) for record in by_record])
    scores = metrics.class_scores(np.stack([_matrix(text) for text in by_record.values()]))
    out = {}
    for key, values in (("record_se", scores.se), ("record_ppv", scores.ppv)):
        total, number = np.zeros((2, len(names), values.shape[1]))
        np.add.at(total, whose, np.nan_to_num(values))
        np.add.at(number, whose, ~np.isnan(values))
        total, number = drawn @ total, drawn @ number
        out[key] = np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)
    return out


def difference(
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    table: BenchmarkProtocol,
    *,
    replicates: int,
    seed: int,
) -> Figure:
    """Macro-F1 of one row less that of another, patients resampled in pairs.

    No interval where the two were not measured on the same patients.
    """
    a, b = (
        _over_seeds([s["figures"]["macro_f1"] for s in x["seeds"].values()]).mean
        for x in (ours, theirs)
    )
    if a is None or b is None:
        return Figure(None)
    if ours["patients"] != theirs["patients"]:
        return Figure(a - b)
    first, second = (
        replicate_means(x, table, replicates=replicates, seed=seed)["macro_f1"]
        for x in (ours, theirs)
    )
    interval = bootstrap.percentile_interval(first - second)
    return Figure(a - b, None, (interval[0], interval[1]) if interval else None)


def read_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows' files in `folder`, by name.

    Raises
    ------
    DataError
        One is of another form than this code writes.
    """
    found = {}
    for path in sorted(Path(folder).glob("*.json")):
        try:
            content = read_json(path)
        except ValueError as error:
            raise DataError(f"{path}: not JSON: {error}") from error
        if content.get("schema") != SCHEMA:
            raise DataError(
                f"{path}: expected schema {SCHEMA}, got {content.get('schema')}; delete it"
            )
        found[path.stem] = content
    return found


def read_peers(path: Path) -> tuple[Peer, ...]:
    """What others reach, from a YAML file: a list under "peers".

    Raises
    ------
    ConfigError
        It is not such a file.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return tuple(Peer.model_validate(value) for value in values["peers"])
    except (OSError, yaml.YAMLError, ValidationError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: expected a list of peers: {error}") from error


def _line(params: Params, row: Row, stored: Mapping[str, Mapping[str, Any]]) -> Line:
    settings = params.benchmark
    table = settings.protocols[row.protocol]
    entry = settings.ablations[row.system] if row.of else settings.systems[row.system]
    mine = stored.get(row.name)
    state = status(row, mine, table.seeds)
    if mine is None:
        return Line(row, entry.about, state, missing=table.seeds)
    how = {"replicates": settings.bootstrap, "seed": settings.seed}
    base = stored.get(f"{row.of}@{row.protocol}")
    return Line(
        row,
        entry.about,
        state,
        seeds=tuple(int(seed) for seed in mine["seeds"]),
        missing=tuple(seed for seed in table.seeds if str(seed) not in mine["seeds"]),
        figures=summary(mine, table, **how),
        stored=mine,
        difference=difference(mine, base, table, **how) if row.of and base else None,
    )


def _ranked(lines: Sequence[Line]) -> tuple[Line, ...]:
    def place(line: Line) -> tuple[bool, float, str]:
        score = line.figure("macro_f1").mean
        return (line.figures is None, -score if score is not None else 1.0, line.row.system)

    return tuple(sorted(lines, key=place))


def _rules(params: Params, table: BenchmarkProtocol) -> str:
    """How beats come to be tested, in a sentence."""
    rules = params.protocols[table.protocol]
    split, folds = rules.split, table.folds
    if rules.labels.of_folders:
        return (
            "Pictures apart: none that is tested has a twin in training. Patients are on both "
            "sides, as it is not known whom a picture shows; a patient here is a group of twins."
        )
    if folds is None:
        if split.by == "beat":
            return (
                f"Beats at random, fold {split.fold} of {split.folds}: patients are on both sides."
            )
        both = ", ".join(rules.patients_on_both_sides)
        but = f", but for {both}, who is on both sides" if both else ""
        return f"Patients apart: none that is tested was trained on{but}."
    over = "all records" if folds.over == "all" else "the training records alone"
    if folds.by == "patient":
        return f"{folds.number} folds by patient over {over}: every beat is tested once."
    return (
        f"{folds.number} folds by beat over {over}: every beat is tested once, by a model "
        "that was trained on other beats of the same patient."
    )


def _unit(predictions: pd.DataFrame) -> str:
    """The column whose values are of one patient each, so that patients can be drawn."""
    shared = predictions.groupby("record")["patient"].nunique() > 1
    return "patient" if shared.any() else "record"


def _by_record(predictions: pd.DataFrame, classes: Sequence[str]) -> tuple[metrics.Ints, list[str]]:
    group, names = pd.factorize(predictions[_unit(predictions)], sort=True)
    matrices = metrics.grouped_confusion(
        predictions["label"],
        metrics.predicted_classes(predictions, classes),
        group,
        len(names),
        len(classes),
    )
    return matrices, [str(name) for name in names]


def _matrix(text: str) -> metrics.Ints:
    return np.array([[int(n) for n in line.split()] for line in text.split(",")], np.int64)


def _over_seeds(values: Sequence[float | None]) -> Figure:
    """Undefined where it is so for one seed: a mean over fewer would compare unlike things."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return Figure(None)
    spread = statistics.stdev(known) if len(known) > 1 else None
    return Figure(statistics.fmean(known), spread)


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    return _over_seeds(values).mean


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(value, _DIGITS) if isinstance(value, float) else value


def _leaves(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _leaves(inner, f"{before}{key}.")
        else:
            yield f"{before}{key}", inner
