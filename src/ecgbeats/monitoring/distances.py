"""How far apart two distributions are, for many pairs of mixtures at a time.

Every patient, and every request of a log, is one row: its cumulative distribution on a grid that
all share. A mixture of rows is a weighted mean of them, so that a thousand resampled windows are
one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Of numbers, and of shares of answers.
PSI, KS, WASSERSTEIN, SHARE = "psi", "ks", "wasserstein", "share"

_GRID = 256
_BINS = 10
# Share that an empty bin counts as: the index of an empty one is infinite.
_LEAST_SHARE = 1e-3
# From the 10th to the 90th percentile a normal distribution has so many standard deviations.
_SPREAD_OF = 2.563


def grid_of(reference: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """At most 256 values, increasing, at which the distributions are compared.

    Parameters
    ----------
    reference : ndarray, shape (patients, quantiles)
    others : sequence of ndarray, each shape (n,)
        NaN is passed over in both.
    """
    values = np.unique(np.concatenate([reference.ravel(), *others]))
    values = values[~np.isnan(values)]
    if len(values) <= _GRID:
        return np.asarray(values)
    return np.unique(np.quantile(values, np.linspace(0, 1, _GRID)))


def cumulative(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Share of the known `values` at or below each point of `grid`; NaN where none is known."""
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return np.full(len(grid), np.nan)
    return np.searchsorted(known, grid, side="right") / len(known)


def edges_of(reference: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Places in `grid` that part the reference into tenths, for the stability index.

    Parameters
    ----------
    reference : ndarray, shape (len(grid),)
        Its cumulative distribution.
    """
    places = np.searchsorted(reference, np.arange(1, _BINS) / _BINS)
    # A value that many beats have makes several tenths one.
    return np.unique(np.clip(places, 0, len(grid) - 1))


def spread_of(reference: np.ndarray, grid: np.ndarray) -> float:
    """Standard deviation by the 10th and the 90th percentile; never zero."""
    low, high = grid[np.clip(np.searchsorted(reference, (0.1, 0.9)), 0, len(grid) - 1)]
    if high > low:
        return float((high - low) / _SPREAD_OF)
    return max(float(np.ptp(grid)) / _SPREAD_OF, 1e-9)


def psi(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Population stability index of shares, shape (..., bins): sum of (p - q) ln (p / q)."""
    p, q = (np.maximum(shares, _LEAST_SHARE) for shares in (one, other))
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=-1))


def psi_of(one: np.ndarray, other: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The same of cumulative distributions, shape (..., grid), parted at `edges`."""

    def shares(cdf: np.ndarray) -> np.ndarray:
        inner = cdf[..., edges]
        return np.diff(inner, axis=-1, prepend=0, append=1)

    return psi(shares(one), shares(other))


def ks(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Kolmogorov and Smirnov's distance: the largest difference, over the last axis."""
    return np.asarray(np.abs(one - other).max(axis=-1))


def wasserstein(one: np.ndarray, other: np.ndarray, grid: np.ndarray, spread: float) -> np.ndarray:
    """Wasserstein's first distance: the area between, in units of `spread`."""
    apart = np.abs(one - other)[..., :-1]
    return np.asarray((apart * np.diff(grid)).sum(axis=-1) / spread)


def total_variation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Share of answers that would have to change, over the last axis: half the sum of |p - q|."""
    return np.asarray(np.abs(one - other).sum(axis=-1) / 2)
