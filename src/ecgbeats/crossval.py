"""Cross-validation: an experiment a fold and seed, pooled, measured and written down.

Predictions of all folds of one seed make one table, in which every beat was classified once,
by a model that had not seen its fold; that table is evaluated as a test side is. Seeds differ
in training alone: the folds are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgbeats import metrics
from ecgbeats.config import EvaluateParams, ModelParams, TrainParams
from ecgbeats.devices import training_as_asked
from ecgbeats.errors import ConfigError
from ecgbeats.evaluation import evaluate, write_evaluation
from ecgbeats.experiment import Outcome, finished, look_up, run_experiment, training_code
from ecgbeats.files import (
    canonical_json,
    folder_written_aside,
    sha256_arrays,
    sha256_text,
    write_json,
    write_text,
)
from ecgbeats.folds import Folds
from ecgbeats.imaging.store import BeatImages
from ecgbeats.processes import each_in_a_process

METRICS, PER_FOLD, REPORT = "metrics.json", "folds.csv", "index.html"

# What is averaged over seeds, of the evaluation of each.
_AVERAGED = (
    "headline",
    "accuracy",
    "macro_f1_all",
    "gross",
    "average",
    "without_largest_patient",
    "ec57",
    "calibration",
)


@dataclass(frozen=True, order=True)
class Part:
    """One experiment of a cross-validation; `fold` counts from 0."""

    seed: int
    fold: int

    @property
    def name(self) -> str:
        return f"seed-{self.seed}/fold-{self.fold}"


@dataclass(frozen=True)
class Crossval:
    """What is cross-validated.

    Attributes
    ----------
    images : Path
        Folder of images; `folds` parts the same beats, in the same order.
    classes, headline : tuple of str
    seeds : tuple of int
        Each takes the place of the one in `train`.
    folder : Path
        Each part has a folder below it, named as the part is.
    """

    images: Path
    folds: Folds
    classes: tuple[str, ...]
    headline: tuple[str, ...]
    model: ModelParams
    train: TrainParams
    seeds: tuple[int, ...]
    folder: Path

    def parts(self, only: Sequence[int] = ()) -> list[Part]:
        """All parts, or those of the folds `only`; fold by fold, so that seeds keep pace.

        Raises
        ------
        ConfigError
            No such fold.
        """
        unknown = [k for k in only if not 0 <= k < len(self.folds)]
        if unknown:
            raise ConfigError(f"fold {unknown[0]} of {len(self.folds)}; folds count from 0")
        folds = sorted(set(only)) or range(len(self.folds))
        return [Part(seed, fold) for fold in folds for seed in self.seeds]

    def identity(self, digest: str) -> str:
        """Hash of all that decides the figures; `digest` is that of the images."""
        return sha256_text(
            canonical_json(
                {
                    "images": digest,
                    "sides": sha256_arrays([self.folds.side]),
                    "labels": sha256_text(",".join(self.folds.beats["label"])),
                    "classes": self.classes,
                    "headline": self.headline,
                    "model": self.model.model_dump(mode="json"),
                    "train": self.train.model_dump(mode="json", exclude={"seed"}),
                    "seeds": self.seeds,
                    "code": training_code(self.model.name),
                }
            )
        )

    def train_params(self, part: Part) -> TrainParams:
        return self.train.model_copy(update={"seed": part.seed})


def run_part(crossval: Crossval, part: Part) -> None:
    """Do one part, or go on with it; its outcome is in its folder."""
    train = crossval.train_params(part)
    with training_as_asked(crossval.model, train):
        run_experiment(
            BeatImages.open(crossval.images),
            crossval.folds.sides(part.fold),
            crossval.classes,
            crossval.headline,
            crossval.model,
            train,
            crossval.folder / part.name,
        )


def done_parts(crossval: Crossval, digest: str) -> dict[Part, Outcome]:
    """The outcomes that are there already, of just these images, folds, parameters and code.

    Parameters
    ----------
    digest : str
        Of the images, as `BeatImages.digest` gives it.
    """
    images = BeatImages.open(crossval.images)
    done = {}
    for part in crossval.parts():
        if not (crossval.folder / part.name).is_dir():
            continue
        outcome = look_up(
            images,
            crossval.folds.sides(part.fold),
            crossval.classes,
            crossval.headline,
            crossval.model,
            crossval.train_params(part),
            crossval.folder / part.name,
            digest=digest,
        )
        if outcome is not None:
            done[part] = outcome
    return done


def run_parts(
    crossval: Crossval, parts: Sequence[Part], *, jobs: int
) -> Iterator[tuple[Part, Outcome]]:
    """Do `parts`, `jobs` at a time, each in a process of its own; yield them as they end.

    The first that fails ends the others; what they had done is gone on with the next time.
    """
    job = partial(run_part, crossval)
    for part, _ in each_in_a_process(job, parts, jobs=jobs, name=lambda part: part.name):
        done = finished(crossval.folder / part.name)
        assert done is not None
        yield part, done


def pooled(outcomes: Mapping[Part, Outcome], seed: int) -> pd.DataFrame:
    """Predictions of all folds of `seed` in one table, ordered by record and position."""
    tables = [outcomes[part].predictions for part in sorted(outcomes) if part.seed == seed]
    table = pd.concat(tables, ignore_index=True)
    return table.sort_values(["record", "sample"], kind="stable", ignore_index=True)


def fold_figures(crossval: Crossval, part: Part, outcome: Outcome) -> dict[str, Any]:
    """One row of folds.csv: what was tested, what it cost, how well it went; None undefined."""
    classes = outcome.classes
    table = outcome.predictions
    confusion = metrics.confusion_matrix(
        table["label"], metrics.predicted_classes(table, classes), len(classes)
    )
    scores = metrics.class_scores(confusion)
    chosen = [classes.index(name) for name in crossval.headline]
    training = outcome.card["training"]
    row: dict[str, Any] = {
        "seed": part.seed,
        "fold": part.fold,
        "beats": len(table),
        "records": int(table["record"].nunique()),
        "patients": int(table["patient"].nunique()),
        "accuracy": metrics.or_none(metrics.accuracy(confusion)),
        "macro_f1": metrics.or_none(metrics.macro_f1(scores.f1, chosen)),
    }
    for i, name in enumerate(classes):
        row |= {
            f"support_{name}": int(scores.support[i]),
            f"se_{name}": metrics.or_none(scores.se[i]),
            f"ppv_{name}": metrics.or_none(scores.ppv[i]),
            f"f1_{name}": metrics.or_none(scores.f1[i]),
        }
    return row | {
        "best_epoch": training["best_epoch"],
        "validation_macro_f1": training["validation_macro_f1"],
        "train_seconds": outcome.train_seconds,
        "parameters": outcome.card["parameters"],
        "weights_sha256": outcome.card["weights_sha256"],
        "tested_patients": " ".join(sorted(table["patient"].unique())),
    }


def measure(
    crossval: Crossval,
    outcomes: Mapping[Part, Outcome],
    params: EvaluateParams,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """All figures of a finished cross-validation: the content of its metrics.json.

    Parameters
    ----------
    outcomes : mapping
        Of every part.
    about : mapping
        recipe, dataset and synthetic, merged in as they are.

    Returns
    -------
    dict
        `seeds` has the evaluation of each seed's pooled predictions, with intervals over
        patients; `mean` and `spread` (standard deviation, None for one seed) are taken over
        seeds, in the same layout. JSON values only.

    Raises
    ------
    ConfigError
        A part is missing.
    """
    missing = [part.name for part in crossval.parts() if part not in outcomes]
    if missing:
        raise ConfigError(f"crossval: expected all parts, {', '.join(missing)} not done")
    first = outcomes[crossval.parts()[0]].card
    common = {
        **about,
        "model": first["model"]["name"],
        "parameters": first["parameters"],
        "spec_id": first["spec_id"],
        "image": first["image"],
        "protocol": {
            "by": crossval.folds.by,
            "over": crossval.folds.over,
            "folds": len(crossval.folds),
        },
    }
    seeds = {}
    for seed in crossval.seeds:
        cards = [outcomes[part].card for part in crossval.parts() if part.seed == seed]
        seconds = [outcomes[part].train_seconds for part in crossval.parts() if part.seed == seed]
        seeds[str(seed)] = evaluate(
            pooled(outcomes, seed),
            crossval.classes,
            params.headline,
            replicates=params.bootstrap,
            seed=params.seed,
            about={
                **common,
                # Of one network a fold: together they are what was measured.
                "weights_sha256": sha256_text(" ".join(card["weights_sha256"] for card in cards)),
                "training": {"seed": seed, "minutes": round(sum(seconds) / 60, 2)},
            },
        )
    every = [{key: one[key] for key in _AVERAGED} for one in seeds.values()]
    return {
        "schema": 1,
        **common,
        "seeds": seeds,
        "mean": _over_seeds(every, np.mean),
        "spread": _over_seeds(every, _deviation),
        "train_minutes": round(sum(o.train_seconds for o in outcomes.values()) / 60, 2),
    }


def _deviation(values: list[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _over_seeds(values: Sequence[Any], how: Any) -> Any:
    """`how` applied to each number of equally built values; what is not a number is dropped."""
    first = values[0]
    if isinstance(first, Mapping):
        inner = {key: _over_seeds([value[key] for value in values], how) for key in first}
        return {key: value for key, value in inner.items() if value is not _DROPPED}
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(numbers) == len(values):
        found = how(numbers)
        return None if found is None else float(found)
    # A figure that is undefined for one seed has no mean over seeds.
    return None if all(v is None or isinstance(v, (int, float)) for v in values) else _DROPPED


_DROPPED = object()


def write_crossval(
    out: Path,
    crossval: Crossval,
    outcomes: Mapping[Part, Outcome],
    figures: Mapping[str, Any],
) -> None:
    """Write the folder `out`, whole or not at all.

    It holds metrics.json, folds.csv (a row per part), index.html, and for each seed a folder
    seed-S, as `ecgbeats.evaluation.write_evaluation` writes it.
    """
    rows = [fold_figures(crossval, part, outcomes[part]) for part in sorted(outcomes)]
    # It loads jinja2, which nothing else here needs.
    from ecgbeats.crossval_page import page

    images = BeatImages.open(crossval.images)
    place = images.beats.assign(at=np.arange(len(images.beats)))[["record", "sample", "at"]]
    with folder_written_aside(Path(out)) as aside:
        for seed in crossval.seeds:
            table = pooled(outcomes, seed)
            at = table.merge(place, on=["record", "sample"], how="left")["at"].to_numpy()

            def drawn(rows: np.ndarray, at: np.ndarray = at) -> np.ndarray:
                return images.take(at[rows])

            write_evaluation(
                aside / f"seed-{seed}", table, figures["seeds"][str(seed)], images=drawn
            )
        write_json(aside / METRICS, figures)
        write_text(aside / PER_FOLD, pd.DataFrame(rows).to_csv(index=False))
        write_text(aside / REPORT, page(figures, rows))
