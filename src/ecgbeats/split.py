"""Which beats train, which stop training, which test: by patient first, all else after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ecgbeats.config import BeatSplit, PatientSplit, Protocol
from ecgbeats.errors import ConfigError, DataError
from ecgbeats.files import folder_written_aside, read_json, write_json
from ecgbeats.labels import LabelScheme

TRAIN, VALIDATION, TEST, UNUSED = "train", "validation", "test", "unused"

_SMALL_CLASS = 20
_MANY_PATIENTS = 1000


def assign_sides(beats: pd.DataFrame, scheme: LabelScheme, protocol: Protocol) -> pd.DataFrame:
    """The table of beats with two more columns: label (class name) and side.

    A share of patients is one of round(1 / share) folds, so 0.34 gives a third and 0.4 a
    half; a share of beats is taken as it is.

    Parameters
    ----------
    beats : DataFrame
        With columns record, patient and symbol, one row a beat.

    Raises
    ------
    ConfigError
        The split names records that are not there, a fold that does not exist, or a share
        of patients above one half.
    DataError
        A side would be empty, or there are too few patients or beats to part.
    """
    encoded = scheme.encode(beats["symbol"].to_numpy())
    if isinstance(protocol.split, PatientSplit):
        side = _by_patient(beats, encoded, protocol.split)
    else:
        side = beat_sides(encoded, protocol.split)
    for name in (TRAIN, VALIDATION, TEST):
        if not (side == name).any():
            raise DataError(f"split: no beat on the {name} side of {len(beats)} beats")
    return beats.assign(label=np.array(scheme.names, object)[encoded], side=side)


def _by_patient(beats: pd.DataFrame, labels: np.ndarray, split: PatientSplit) -> np.ndarray:
    records = beats["record"].to_numpy()
    side = np.full(len(beats), UNUSED, object)
    if split.test_records:
        absent = sorted(({*split.test_records, *split.train_records}) - set(records))
        if absent:
            raise ConfigError(f"split: records that are not in the data: {', '.join(absent)}")
        side[np.isin(records, split.test_records)] = TEST
        trains = np.isin(records, split.train_records) if split.train_records else side != TEST
        side[trains] = TRAIN
    else:
        assert split.test_share is not None
        everything = np.arange(len(beats))
        if split.published_part and "part" in beats and (beats["part"] == TEST).any():
            test = np.flatnonzero(beats["part"] == TEST)
        else:
            test = grouped_share(beats, labels, everything, split.test_share, split.seed)
        side[:] = TRAIN
        side[test] = TEST
    training = np.flatnonzero(side == TRAIN)
    side[grouped_share(beats, labels, training, split.validation_share, split.seed)] = VALIDATION
    return side


def grouped_share(
    beats: pd.DataFrame, labels: np.ndarray, index: np.ndarray, share: float, seed: int
) -> np.ndarray:
    """Beats of whole patients, about `share` of `index`, classes balanced as patients allow.

    They are one of round(1 / share) folds, the one that comes nearest to `share`.

    Parameters
    ----------
    beats : DataFrame
        With a column patient.
    labels : ndarray of int, shape (beats,)
    index : ndarray of int
        Rows of `beats` to choose from.

    Raises
    ------
    ConfigError
        `share` is above one half.
    DataError
        Too few patients, or no class large enough.
    """
    if share > 0.5:
        raise ConfigError(
            f"split: expected a share of patients of at most 0.5 (one fold of two), got {share}"
        )
    patients = beats["patient"].to_numpy()[index]
    folds = round(1 / share)
    if len(np.unique(patients)) < folds:
        raise DataError(
            f"split: a share of {share} needs {folds} patients, got {len(np.unique(patients))}"
        )
    _, group, table = class_counts(patients, labels[index])
    if table.sum(axis=0).max() < folds:
        raise DataError(
            f"split: a share of {share} needs a class of at least {folds} beats, "
            f"the largest has {table.sum(axis=0).max()}"
        )
    # Every fold is a candidate; the best is the one whose classes come nearest to the
    # share. Rare classes live in few patients: one draw alone often misses them. Among very
    # many patients (or groups of pictures) one draw is as good as another, and slow.
    best, best_error = None, np.inf
    for offset in range(8 if len(table) <= _MANY_PATIENTS else 1):
        fold = group_folds(table, folds, seed + offset)
        for k in range(folds):
            have = table[fold == k].sum(axis=0)
            ratio = (have + 1) / (share * table.sum(axis=0) + 1)
            error = float(np.abs(np.log(ratio)).sum())
            if error < best_error:
                best, best_error = fold[group] == k, error
    assert best is not None
    return np.asarray(index[best])


def class_counts(
    groups: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Names of groups; the group of each beat; beats of each group (row) and class (column).

    Classes that no beat has get no column.
    """
    names, group = np.unique(groups, return_inverse=True)
    classes, label = np.unique(labels, return_inverse=True)
    table = np.zeros((len(names), len(classes)), np.int64)
    np.add.at(table, (group, label), 1)
    return names, group, table


def group_folds(table: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each group, so that classes are spread evenly: int, shape (groups,).

    Groups in the order of how unlike their classes' counts are, equals in an order drawn from
    the seed, each to the fold that then leaves the shares of classes most even. The same as
    scikit-learn's StratifiedGroupKFold gives, which walks over all beats for it, and takes
    minutes for a cross-validation of a large database.

    Parameters
    ----------
    table : ndarray of int, shape (groups, classes)
        Beats of each group and class; every class has some.
    """
    order = np.arange(len(table))
    np.random.RandomState(seed).shuffle(order)
    total = table.sum(axis=0)
    held = np.zeros((folds, table.shape[1]))
    fold = np.empty(len(table), np.int64)
    for group in order[np.argsort(-np.std(table[order], axis=1), kind="stable")]:
        best, best_spread, best_size = 0, np.inf, np.inf
        for k in range(folds):
            held[k] += table[group]
            spread = np.mean(np.std(held / total, axis=0))
            held[k] -= table[group]
            size = held[k].sum()
            if spread < best_spread or (np.isclose(spread, best_spread) and size < best_size):
                best, best_spread, best_size = k, spread, size
        held[best] += table[group]
        fold[group] = best
    return fold


def beat_sides(labels: np.ndarray, split: BeatSplit) -> np.ndarray:
    """The side of each beat: one stratified fold tests, a share of the rest validates.

    Raises
    ------
    ConfigError
        No such fold.
    DataError
        Classes too small to be parted.
    """
    # Whoever only reads a split, as every run does, need not wait for it.
    from sklearn.model_selection import StratifiedKFold, train_test_split

    if split.fold >= split.folds:
        raise ConfigError(f"split: fold {split.fold} of {split.folds}; folds count from 0")
    counts = np.bincount(labels)
    if counts.max() < split.folds:
        raise DataError(
            f"split: {split.folds} folds need a class of at least {split.folds} beats, "
            f"the largest has {counts.max()}"
        )
    splitter = StratifiedKFold(split.folds, shuffle=True, random_state=split.seed)
    side = np.full(len(labels), TRAIN, object)
    rest, test = list(splitter.split(labels, labels))[split.fold]
    side[test] = TEST
    # A class too small to be parted stays whole on the training side.
    parted = rest[counts[labels[rest]] > _SMALL_CLASS]
    if not len(parted):
        raise DataError(
            f"split: a validation side needs a class of more than {_SMALL_CLASS} beats, "
            f"the largest has {counts.max()}"
        )
    try:
        _, validation = train_test_split(
            parted,
            test_size=split.validation_share,
            stratify=labels[parted],
            random_state=split.seed,
        )
    except ValueError as error:
        raise DataError(
            f"split: a validation share of {split.validation_share} of {len(parted)} beats "
            f"cannot hold every class: {error}"
        ) from error
    side[validation] = VALIDATION
    return side


@dataclass(frozen=True)
class Split:
    """A split as it is stored: the table of beats with label and side, and the classes."""

    beats: pd.DataFrame
    classes: tuple[str, ...]
    headline: tuple[str, ...]


def write_split(
    folder: Path, beats: pd.DataFrame, scheme: LabelScheme, headline: Sequence[str]
) -> None:
    """Write split.parquet (one row a beat) and split.json (classes, counts) to `folder`."""
    counts = pd.crosstab(beats["side"], beats["label"])
    patients = beats.groupby("side")["patient"].unique()
    with folder_written_aside(folder) as aside:
        beats.to_parquet(aside / "split.parquet", index=False)
        write_json(
            aside / "split.json",
            {
                "classes": list(scheme.names),
                "headline": list(headline),
                "beats": {
                    str(side): {str(k): int(v) for k, v in row.items()}
                    for side, row in counts.iterrows()
                },
                "patients": {str(side): sorted(names) for side, names in patients.items()},
            },
        )


def read_split(folder: Path) -> Split:
    """Read what `write_split` wrote.

    Raises
    ------
    DataError
        `folder` holds no split.
    """
    folder = Path(folder)
    if not (folder / "split.json").is_file():
        raise DataError(f"{folder}: expected split.json; run the split stage first")
    about = read_json(folder / "split.json")
    beats = pd.read_parquet(folder / "split.parquet")
    return Split(beats, tuple(about["classes"]), tuple(about["headline"]))
