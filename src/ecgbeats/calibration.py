"""Whether a stated probability can be believed, and the one number that mends it.

Networks are too sure of themselves; dividing their logits by a *temperature*, fitted on
beats that they were not trained on, makes confidence agree with accuracy and changes no
answer: Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, ICML
2017. More parameters (one per class) would be fitted to a handful of patients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from ecgbeats.errors import DataError

if TYPE_CHECKING:
    import keras

CALIBRATION_BINS = 15
# A validation side without mistakes would ask for a temperature of zero.
COLDEST, HOTTEST = 0.5, 10.0
# Smallest float32 without loss of precision: the logarithm of a probability stays finite.
_TINY = float(np.finfo(np.float32).tiny)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reliability:
    """Top-label confidence against accuracy, per confidence bin, each of shape (bins,).

    Bin i holds the beats with `lower[i]` < confidence <= `upper[i]`; `confidence` and
    `accuracy` are means over its beats, NaN in an empty bin.
    """

    lower: Floats
    upper: Floats
    beats: Ints
    confidence: Floats
    accuracy: Floats


def reliability(labels: Ints, probabilities: Floats, bins: int = CALIBRATION_BINS) -> Reliability:
    """Reliability table of the predicted (top) class in equal-width bins (Guo et al. 2017)."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    beats = np.bincount(place, minlength=bins)
    empty = np.full(bins, np.nan)
    return Reliability(
        lower=edges[:-1],
        upper=edges[1:],
        beats=beats.astype(np.int64),
        confidence=np.divide(
            np.bincount(place, confidence, bins), beats, out=empty.copy(), where=beats > 0
        ),
        accuracy=np.divide(
            np.bincount(place, correct, bins), beats, out=empty.copy(), where=beats > 0
        ),
    )


def expected_calibration_error(table: Reliability) -> float:
    """ECE: mean |accuracy - confidence| over bins, weighted by their beats (Guo et al. 2017)."""
    filled = table.beats > 0
    if not filled.any():
        return math.nan
    gap = np.abs(table.accuracy[filled] - table.confidence[filled])
    return float(np.average(gap, weights=table.beats[filled]))


def tempered(probabilities: npt.NDArray[np.floating[Any]], temperature: float) -> Floats:
    """Probabilities, shape (n, classes), as if their logits were divided by `temperature`.

    Logarithms of probabilities are logits up to a constant per row, which softmax ignores.
    """
    logits = np.log(np.maximum(np.asarray(probabilities, np.float64), _TINY)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def negative_log_likelihood(
    probabilities: npt.NDArray[np.floating[Any]], labels: Ints, weight: Floats | None = None
) -> float:
    """Weighted mean of -ln(probability of the reference class), in nats."""
    of_truth = np.asarray(probabilities, np.float64)[np.arange(len(labels)), labels]
    return float(np.average(-np.log(np.maximum(of_truth, _TINY)), weights=weight))


def fit_temperature(
    probabilities: npt.NDArray[np.floating[Any]], labels: Ints, weight: Floats | None = None
) -> float:
    """The temperature with the least negative log-likelihood, from 0.5 to 10.

    Parameters
    ----------
    probabilities : ndarray, shape (n, classes)
        Of beats that the network was not trained on.
    labels : ndarray of int, shape (n,)
        Their reference classes.
    weight : ndarray, shape (n,), optional
        Of each beat; all equal by default.

    Returns
    -------
    float
        Rounded to four decimals, so that what a file states is what was applied.

    Raises
    ------
    DataError
        There is no beat.
    """
    if not len(labels):
        raise DataError("calibration: expected beats that were not trained on, got none")

    # Convex in 1 / temperature, which multiplies the logits.
    def loss(inverse: float) -> float:
        return negative_log_likelihood(tempered(probabilities, 1 / inverse), labels, weight)

    found = minimize_scalar(
        loss, bounds=(1 / HOTTEST, 1 / COLDEST), method="bounded", options={"xatol": 1e-7}
    )
    return round(1 / float(found.x), 4)


def with_temperature(model: keras.Model, temperature: float) -> keras.Model:
    """`model`, which answers probabilities, with its logits divided by `temperature`.

    Layers are appended, so it fits any network whose output is a probability vector; the
    result answers as `tempered` does, up to float32, and has the same weights.
    """
    import keras
    from keras import layers, ops

    logits = ops.log(ops.maximum(model.output, _TINY))
    cooled = layers.Rescaling(1 / temperature, name="temperature")(logits)
    return keras.Model(model.input, layers.Softmax(name="calibrated")(cooled), name=model.name)
