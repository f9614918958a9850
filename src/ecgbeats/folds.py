"""Cross-validation: every beat is tested once, by a model that was trained without its fold.

Folds take the place of a protocol's own sides. Over `all` of its beats they measure a model;
over those of its `training` side alone they choose one, and the protocol's test side, which
is there to report, stays unused.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from ecgbeats.config import BeatSplit, PatientSplit, Protocol
from ecgbeats.errors import ConfigError, DataError
from ecgbeats.labels import LabelScheme
from ecgbeats.split import (
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    assign_sides,
    beat_sides,
    class_counts,
    group_folds,
    grouped_share,
)

By = Literal["patient", "beat"]
Over = Literal["all", "training"]

# Draws among which the partition with the most even classes is chosen.
_DRAWS = 16


@dataclass(frozen=True)
class Folds:
    """A partition of beats into folds, each with its own training and validation side.

    Attributes
    ----------
    by, over : str
        As they were asked for.
    beats : DataFrame
        One row a beat, with a column label (class name).
    side : ndarray of int8, shape (folds, beats)
        Index into `SIDES`.
    """

    by: By
    over: Over
    beats: pd.DataFrame
    side: np.ndarray

    def __len__(self) -> int:
        return len(self.side)

    def sides(self, fold: int) -> pd.DataFrame:
        """The table of beats with a column side, where `fold` (from 0) is the test side.

        Raises
        ------
        ConfigError
            No such fold.
        """
        if not 0 <= fold < len(self):
            raise ConfigError(f"fold {fold} of {len(self)}; folds count from 0")
        return self.beats.assign(side=np.array(SIDES, object)[self.side[fold]])

    def tested_in(self) -> np.ndarray:
        """The fold that tests each beat, -1 for a beat that none tests; shape (beats,)."""
        tests = self.side == SIDES.index(TEST)
        return np.where(tests.any(axis=0), tests.argmax(axis=0), -1)


SIDES = (UNUSED, TRAIN, VALIDATION, TEST)


def make_folds(
    beats: pd.DataFrame,
    scheme: LabelScheme,
    protocol: Protocol,
    *,
    folds: int,
    by: By | None = None,
    over: Over = "all",
    seed: int | None = None,
) -> Folds:
    """Part the beats of a protocol into folds.

    Parameters
    ----------
    beats : DataFrame
        With columns record, patient and symbol, one row a beat.
    folds : int
        Their number.
    by : {"patient", "beat"}, optional
        Whole patients, or beats at random, stratified by class: the second measures the
        recognition of known patients, no more. By default as the protocol's own split.
    over : {"all", "training"}
        All beats that the protocol uses, or those of its training and validation side.
    seed : int, optional
        By default that of the protocol's own split: then folds over all beats by beat are
        those of the protocol.

    Raises
    ------
    ConfigError, DataError
        What `assign_sides` raises; fewer patients or beats than folds; a training side
        from which no validation side can be taken.
    """
    if folds < 2:
        raise ConfigError(f"folds: expected at least 2, got {folds}")
    split = protocol.split
    by = by or split.by
    seed = split.seed if seed is None else seed
    sided = assign_sides(beats, scheme, protocol)
    wanted = (TRAIN, VALIDATION, TEST) if over == "all" else (TRAIN, VALIDATION)
    index = np.flatnonzero(sided["side"].isin(wanted))
    labels = scheme.encode(beats["symbol"].to_numpy())
    # The protocol's own share is of what its own split parts: patients or beats.
    own = {"validation_share": split.validation_share} if by == split.by else {}
    with warnings.catch_warnings():
        # A class with fewer patients or beats than folds is missing from some: so be it.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        if by == "patient":
            share = PatientSplit(by="patient", test_share=0.5, **own).validation_share
            side = _patient_folds(beats, labels, index, folds, share, seed)
        else:
            side = np.zeros((folds, len(beats)), np.int8)
            for k in range(folds):
                chosen = BeatSplit(by="beat", folds=folds, fold=k, seed=seed, **own)
                side[k, index] = _codes(beat_sides(labels[index], chosen))
    return Folds(by, over, sided.drop(columns="side"), side)


def _patient_folds(
    beats: pd.DataFrame, labels: np.ndarray, index: np.ndarray, folds: int, share: float, seed: int
) -> np.ndarray:
    """Sides of each fold, int8, shape (folds, beats); beats outside `index` are unused."""
    part = _part_patients(beats["patient"].to_numpy()[index], labels[index], folds, seed)
    side = np.full((folds, len(beats)), SIDES.index(UNUSED), np.int8)
    for k in range(folds):
        rest = index[part != k]
        side[k, rest] = SIDES.index(TRAIN)
        side[k, grouped_share(beats, labels, rest, share, seed)] = SIDES.index(VALIDATION)
        side[k, index[part == k]] = SIDES.index(TEST)
    return side


def _part_patients(patients: np.ndarray, labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each beat, whole patients together, classes as even as patients allow."""
    counts = np.bincount(labels)
    there = len(np.unique(patients))
    if there < folds:
        raise DataError(f"folds: expected at least {folds} patients, one a fold, got {there}")
    if counts.max() < folds:
        raise DataError(
            f"folds: {folds} folds need a class of at least {folds} beats, "
            f"the largest has {counts.max()}"
        )
    _, group, table = class_counts(patients, labels)
    best, best_error = None, np.inf
    for draw in range(_DRAWS):
        fold = group_folds(table, folds, seed + draw)
        have = np.stack([table[fold == k].sum(axis=0) for k in range(folds)])
        if not have.any(axis=1).all():
            continue
        # By ratio, so that a rare class counts as much as a frequent one.
        error = float(np.abs(np.log((have + 1) / (table.sum(axis=0) / folds + 1))).sum())
        if error < best_error:
            best, best_error = fold[group], error
    if best is None:
        raise DataError(f"folds: {there} patients could not be parted into {folds} folds")
    return np.asarray(best)


def _codes(side: np.ndarray) -> np.ndarray:
    return np.array([SIDES.index(name) for name in side], np.int8)
