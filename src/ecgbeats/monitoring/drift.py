"""Whether the windows of a log are like the reference, patients' own differences considered.

A window holds few patients, and patients differ: beats of eight of them are never distributed as
those of all. So a distance is held against the distances of windows of as many patients drawn
from the reference itself, the other patients of which are the reference then. Beats are never
resampled one by one; that would take two thousand beats of one person for as much as those of
two thousand people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np

from ecgbeats.monitoring import distances
from ecgbeats.monitoring.distances import KS, PSI, SHARE, WASSERSTEIN
from ecgbeats.monitoring.log import Request
from ecgbeats.monitoring.reference import CONFIDENCE, Reference
from ecgbeats.monitoring.settings import MonitorParams

State = Literal["steady", "drifted", "too little", "still filling"]

CLASSES, UNCERTAIN = "class_mix", "uncertain"
# Compared as logarithms: a doubled gain is the same step for small and for tall beats.
_AS_LOGARITHMS = {"amplitude_mv": 1e-3, "noise_mv": 1e-4}
# Of a window's beats, for a feature to be compared; images have no amplitude in millivolts.
_KNOWN_SHARE = 0.5
# With fewer patients it is not known how much patients differ.
_LEAST_OF_REFERENCE = 4


@dataclass(frozen=True)
class Window:
    """Requests that are judged together; `whole` is false while it still fills."""

    number: int
    requests: tuple[Request, ...]
    whole: bool = True

    @property
    def logged(self) -> int:
        """Beats that the log tells of."""
        return sum(len(request.classes) for request in self.requests)

    @property
    def beats(self) -> int:
        """Beats that were answered."""
        return sum(request.beats for request in self.requests)

    @property
    def begin(self) -> datetime:
        return self.requests[0].time

    @property
    def end(self) -> datetime:
        return self.requests[-1].time

    def patients(self, params: MonitorParams) -> int:
        """As how many patients it counts."""
        return max(1, min(len(self.requests), self.logged // params.beats_per_patient))

    def values(self, feature: str) -> np.ndarray:
        """The feature of all logged beats, NaN where it is not known."""
        missing = [np.full(len(request.classes), np.nan) for request in self.requests]
        return np.concatenate(
            [r.features.get(feature, nan) for r, nan in zip(self.requests, missing, strict=True)]
        )


@dataclass(frozen=True)
class Distance:
    """One distance of one window from the reference.

    Attributes
    ----------
    value : float
    usual : float or None
        What unchanged windows reach; None where it cannot be told.
    threshold : float
        The greater of `usual` and the least that matters.
    """

    feature: str
    statistic: str
    value: float
    usual: float | None
    threshold: float

    @property
    def of_threshold(self) -> float:
        """Over 1 is drift."""
        return self.value / self.threshold if self.threshold > 0 else float(self.value > 0) * 2


@dataclass(frozen=True)
class Compared:
    """A window and what was found of it."""

    window: Window
    state: State
    patients: int
    distances: tuple[Distance, ...] = ()
    notes: tuple[str, ...] = ()
    class_mix: Mapping[str, float] = field(default_factory=dict)
    uncertain: float = 0.0


def by_beats(requests: Sequence[Request], size: int) -> list[Window]:
    """Windows of at least `size` logged beats each, from the log's first request on."""
    windows: list[Window] = []
    held: list[Request] = []
    count = 0
    for request in requests:
        held.append(request)
        count += len(request.classes)
        if count >= size:
            windows.append(Window(len(windows) + 1, tuple(held)))
            held, count = [], 0
    if held:
        windows.append(Window(len(windows) + 1, tuple(held), whole=False))
    return windows


def by_hours(requests: Sequence[Request], hours: float) -> list[Window]:
    """Windows of `hours` each, counted from 1970, those without a request left out."""
    groups: dict[int, list[Request]] = {}
    for request in requests:
        groups.setdefault(int(request.time.timestamp() // (hours * 3600)), []).append(request)
    last = max(groups, default=0)
    return [
        Window(number, tuple(groups[key]), whole=key != last)
        for number, key in enumerate(sorted(groups), start=1)
    ]


def compare(
    windows: Sequence[Window], reference: Reference, params: MonitorParams
) -> list[Compared]:
    """Each window against the reference, in the order given."""
    return [_compare(window, reference, params) for window in windows]


def asked(compared: Sequence[Compared], params: MonitorParams) -> bool:
    """Whether drift persists: in so many of the last windows that are whole."""
    whole = [each for each in compared if each.window.whole][-params.windows :]
    return sum(each.state == "drifted" for each in whole) >= params.persistent


def _compare(window: Window, reference: Reference, params: MonitorParams) -> Compared:
    patients = window.patients(params)
    notes = _unknown(window, reference)
    mix, uncertain = _answers(window, reference)
    base = Compared(window, "still filling", patients, (), notes, mix, uncertain)
    if window.logged < params.least_beats or patients < params.least_patients:
        state: State = "too little" if window.whole else "still filling"
        return Compared(window, state, patients, (), notes, mix, uncertain)
    found = _distances(window, reference, patients, params)
    if not window.whole:
        return Compared(window, base.state, patients, found, notes, mix, uncertain)
    drifted = any(each.of_threshold > 1 for each in found)
    return Compared(
        window, "drifted" if drifted else "steady", patients, found, notes, mix, uncertain
    )


def _answers(window: Window, reference: Reference) -> tuple[dict[str, float], float]:
    """Shares of classes, and of beats without an answer, of all logged beats."""
    names = [name for request in window.requests for name in request.classes]
    counts = Counter(names)
    uncertain = np.concatenate([request.uncertain for request in window.requests])
    shares = {
        name: counts[name] / len(names) for name in dict.fromkeys((*reference.classes, *counts))
    }
    return shares, float(uncertain.mean())


def _unknown(window: Window, reference: Reference) -> tuple[str, ...]:
    """Leads and sampling rates that the model has not learnt from."""
    leads = Counter(str(r.recording["lead"]) for r in window.requests if "lead" in r.recording)
    rates = Counter(f"{r.recording['fs']:g}" for r in window.requests if "fs" in r.recording)
    new = [
        f"lead {name} in {n} requests" for name, n in leads.items() if name not in reference.leads
    ]
    new += [
        f"{name} Hz in {n} requests" for name, n in rates.items() if name not in reference.rates
    ]
    return tuple(f"not among what the model learnt from: {words}" for words in new)


@dataclass
class _Null:
    """Distances of unchanged windows, as they are found; (resamples,) each."""

    found: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def usual(self, false_alarm: float, patients: int) -> dict[tuple[str, str], float]:
        """What unchanged windows reach, but for `false_alarm` of them in any distance.

        Every distance at the same quantile of its own, such that the share of windows which
        exceed one or more of them is as wanted (minimum p-value over resamples: Westfall and
        Young, Resampling-Based Multiple Testing, 1993). All raised by Student's quantile over
        the normal one for so many patients: resampling knows no patient outside of those that
        there are, so that its tails are short.
        """
        from scipy.stats import norm, t

        if not self.found:
            return {}
        values = np.stack([*self.found.values()])
        # Share of windows at least as far, for each distance of each window.
        ordered = np.sort(values, axis=1)
        count = values.shape[1]
        rare = np.stack(
            [
                1 - np.searchsorted(each, row, side="left") / count
                for each, row in zip(ordered, values, strict=True)
            ]
        ).min(axis=0)
        level = float(np.quantile(rare, false_alarm))
        raised = t.ppf(1 - level, patients - 1) / norm.ppf(1 - level)
        limits = np.quantile(values, 1 - level, axis=1) * raised
        told = zip(self.found, limits.tolist(), strict=True)
        return {key: limit for key, limit in told if np.isfinite(limit)}


def _distances(
    window: Window, reference: Reference, patients: int, params: MonitorParams
) -> tuple[Distance, ...]:
    rng = np.random.default_rng(params.seed)
    null = _Null()
    values: dict[tuple[str, str], float] = {}
    of_inputs = _resampled(len(next(iter(reference.inputs.values()))), patients, params, rng)
    of_answers = _resampled(len(reference.shares), patients, params, rng)
    numbers = {name: (rows, of_inputs) for name, rows in reference.inputs.items()}
    numbers[CONFIDENCE] = (reference.confidence, of_answers)
    for name, (rows, weights) in numbers.items():
        have = window.values(name)
        if np.isfinite(have).mean() >= _KNOWN_SHARE:
            _numbers(name, _scaled(name, rows), _scaled(name, have), weights, values, null)
    _shares(window, reference, of_answers, values, null)
    # Of those alone that were resampled: a side of fewer patients has told nothing.
    sides = [len(next(iter(reference.inputs.values()))), len(reference.shares)]
    resampled = [count for count in sides if count >= _LEAST_OF_REFERENCE]
    usual = null.usual(params.false_alarm, min(resampled)) if resampled else {}
    least = {
        PSI: params.least_psi,
        KS: params.least_ks,
        WASSERSTEIN: params.least_wasserstein,
        SHARE: params.least_share,
    }
    return tuple(
        Distance(*key, value, usual.get(key), max(usual.get(key, 0.0), least[key[1]]))
        for key, value in values.items()
    )


def _scaled(name: str, values: np.ndarray) -> np.ndarray:
    floor = _AS_LOGARITHMS.get(name)
    return values if floor is None else np.log2(np.maximum(values, floor))


Weights = tuple[np.ndarray, np.ndarray]


def _resampled(
    count: int, patients: int, params: MonitorParams, rng: np.random.Generator
) -> Weights | None:
    """Weights of the reference's patients in windows and in what these are compared with.

    A window's patients are none of those that it is compared with. Where a window counts more
    than half of the reference's, they are drawn from one half with replacement, and differ a
    little more than they would.
    """
    if count < _LEAST_OF_REFERENCE:
        return None
    held = min(patients, count // 2)
    window = np.zeros((params.resamples, count), np.float32)
    rest = np.zeros_like(window)
    for k in range(params.resamples):
        order = rng.permutation(count)
        inside, outside = order[:held], order[held:]
        drawn = inside if patients <= held else rng.choice(inside, patients)
        np.add.at(window[k], drawn, 1 / len(drawn))
        rest[k, outside] = 1 / len(outside)
    return window, rest


def _numbers(
    name: str,
    rows: np.ndarray,
    have: np.ndarray,
    weights: Weights | None,
    values: dict[tuple[str, str], float],
    null: _Null,
) -> None:
    """Distances of one feature: of the window, into `values`; of unchanged ones, into `null`."""
    grid = distances.grid_of(rows, [have])
    each = np.array([distances.cumulative(row, grid) for row in rows])
    known = np.isfinite(each).all(axis=1)
    each = np.where(known[:, None], each, 0.0).astype(np.float32)
    whole = each[known].mean(axis=0)
    edges, spread = distances.edges_of(whole, grid), distances.spread_of(whole, grid)
    ours = distances.cumulative(have, grid)
    values[name, PSI] = float(distances.psi_of(ours, whole, edges))
    values[name, KS] = float(distances.ks(ours, whole))
    values[name, WASSERSTEIN] = float(distances.wasserstein(ours, whole, grid, spread))
    if weights is None:
        return
    one, other = (_mixed(part * known, each) for part in weights)
    null.found[name, PSI] = distances.psi_of(one, other, edges)
    null.found[name, KS] = distances.ks(one, other)
    null.found[name, WASSERSTEIN] = distances.wasserstein(one, other, grid, spread)


def _mixed(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=1, keepdims=True)
    return np.asarray((weights / np.where(total > 0, total, 1)) @ rows)


def _shares(
    window: Window,
    reference: Reference,
    weights: Weights | None,
    values: dict[tuple[str, str], float],
    null: _Null,
) -> None:
    """Distances of the class mix, and of the share without an answer."""
    mix, uncertain = _answers(window, reference)
    known = len(reference.classes)
    ours = np.array([*mix.values()])
    rows = np.pad(reference.shares, ((0, 0), (0, len(ours) - known)))
    whole = rows.mean(axis=0)
    values[CLASSES, PSI] = float(distances.psi(ours, whole))
    values[CLASSES, SHARE] = float(distances.total_variation(ours, whole))
    values[UNCERTAIN, SHARE] = abs(uncertain - float(reference.uncertain.mean()))
    if weights is None:
        return
    one, other = (part @ rows for part in weights)
    null.found[CLASSES, PSI] = distances.psi(one, other)
    null.found[CLASSES, SHARE] = distances.total_variation(one, other)
    one, other = (part @ reference.uncertain for part in weights)
    null.found[UNCERTAIN, SHARE] = np.abs(one - other)
