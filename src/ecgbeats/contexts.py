"""The same beat in the rhythm of another recording: a shorter one, or a mostly ectopic one.

What intervals are compared with on the rhythm strip are quantiles of the whole recording
(`ecgbeats.beats.rhythm`). A network that sees only whole recordings of training patients learns
these quantiles with the patients, and fails where a recording is short or most of its beats are
ectopic, as few patients' are. Here a training beat keeps its own intervals and is compared with
quantiles of a part of its recording, or of its recording as if more of its beats were ectopic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ecgbeats.beats import PERCENTILES, RELATIVE_TO, RHYTHMS, rr_intervals
from ecgbeats.config import AugmentParams, RhythmContexts
from ecgbeats.errors import ConfigError
from ecgbeats.imaging.plane import RHYTHM_FULL
from ecgbeats.imaging.spec import PANELLED, Spec

# With fewer beats of its own, a part is too short to have a rhythm, and the whole is taken.
_FEWEST_BEATS = 35
# Recordings with fewer ectopic beats are not thought of as mostly ectopic.
_FEWEST_ECTOPIC = 10


class Contexts:
    """Moves rhythm strips of training images to other contexts.

    Parameters
    ----------
    params : RhythmContexts
    spec : Spec
        With a rhythm strip of quantiles.
    beats : DataFrame
        The table of `BeatImages`: record and time_s of every beat, in order.
    labels : ndarray of int, shape (beats,)
        Class of each, -1 for none.
    classes : sequence of str

    Raises
    ------
    ConfigError
        The images show no such strip, or the ectopic class is not among `classes`.
    """

    def __init__(
        self,
        params: RhythmContexts,
        spec: Spec,
        beats: pd.DataFrame,
        labels: np.ndarray,
        classes: Sequence[str],
    ) -> None:
        if not isinstance(spec, PANELLED) or not spec.strip_height or spec.rhythm != "quantiles":
            raise ConfigError(
                "train.augment.rhythm_contexts: expected images with a rhythm strip of quantiles"
            )
        ectopic = np.zeros(len(beats), bool)
        if params.ectopic is not None:
            if params.ectopic not in classes:
                raise ConfigError(
                    "train.augment.rhythm_contexts.ectopic: expected one of "
                    f"{', '.join(classes)}; got {params.ectopic!r}"
                )
            ectopic = labels == list(classes).index(params.ectopic)
        self._probability = params.probability
        self._strip = spec.strip_height
        self._block = spec.width // len(RHYTHMS[spec.rhythm])
        # Which quantile moves which value, (quantiles, values).
        self._moves = np.zeros((len(PERCENTILES), len(RHYTHMS[spec.rhythm])), np.float32)
        for q, percentile in enumerate(PERCENTILES):
            self._moves[q, list(RELATIVE_TO[percentile])] = 1
        self._shifts = _shifts(params, beats, ectopic)

    @classmethod
    def of(
        cls,
        params: AugmentParams,
        spec: Spec,
        beats: pd.DataFrame,
        labels: np.ndarray,
        classes: Sequence[str],
    ) -> Contexts | None:
        """The contexts that `params` ask for; None for none."""
        asked = params.rhythm_contexts
        return None if asked is None else cls(asked, spec, beats, labels, classes)

    def __call__(
        self, images: np.ndarray, index: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Copies of `images` of the beats `index`, uint8 (n, rows, columns), in other contexts."""
        out = images.copy()
        contexts = len(self._shifts)
        chosen = np.flatnonzero(rng.random(len(images)) < self._probability)
        shift = self._shifts[rng.integers(0, contexts, len(chosen)), index[chosen]]
        wide = np.repeat(shift @ self._moves, self._block, axis=1)[:, None, :]
        strip = out[chosen, -self._strip :, : wide.shape[2]] + wide
        out[chosen, -self._strip :, : wide.shape[2]] = np.rint(np.clip(strip, 1, 255))
        return out


def _shifts(params: RhythmContexts, beats: pd.DataFrame, ectopic: np.ndarray) -> np.ndarray:
    """By how many grey levels each context moves each quantile: (contexts, beats, quantiles)."""
    contexts = len(params.cut_minutes) + len(params.shares)
    shifts = np.zeros((contexts, len(beats), len(PERCENTILES)), np.float32)
    # Which beats stand for the others in a mostly ectopic recording; the same in every training.
    rng = np.random.default_rng(contexts)
    all_times = beats["time_s"].to_numpy()
    for rows in beats.groupby("record", sort=False).indices.values():
        times = all_times[rows]
        before, _ = rr_intervals(times * _TICKS, _TICKS)
        whole = _quantiles(before)
        own = [_of_cuts(before, times, minutes) for minutes in params.cut_minutes]
        own += [_mostly_ectopic(before, ectopic[rows], share, rng) for share in params.shares]
        for k, quantiles in enumerate(own):
            # ln(RR / other) = ln(RR / whole) + ln(whole / other), as grey levels.
            shifts[k, rows] = (whole - quantiles) * (127 / RHYTHM_FULL)
    return shifts


# Positions a second: `rr_intervals` wants whole samples at least one apart.
_TICKS = 1000.0


def _quantiles(rr: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.percentile(rr, PERCENTILES)))


def _of_cuts(before: np.ndarray, times: np.ndarray, minutes: float) -> np.ndarray:
    """ln quantiles of the part that each beat is in, shape (n, quantiles)."""
    own = np.tile(_quantiles(before), (len(before), 1))
    part = (times // (60 * minutes)).astype(int)
    for k in np.unique(part):
        here = part == k
        if here.sum() >= _FEWEST_BEATS:
            own[here] = _quantiles(before[here])
    return own


def _mostly_ectopic(
    before: np.ndarray, ectopic: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
    """ln quantiles as if `share` of the beats were ectopic, shape (quantiles,).

    Of the others those after an ectopic beat stay first: its pause belongs to it.
    """
    count = int(ectopic.sum())
    if count < _FEWEST_ECTOPIC or count >= share * len(before):
        return _quantiles(before)
    wanted = round(count * (1 - share) / share)
    after = np.concatenate([[False], ectopic[:-1]])
    order = [rng.permutation(np.flatnonzero(~ectopic & part)) for part in (after, ~after)]
    others = np.concatenate(order)[:wanted]
    return _quantiles(before[np.concatenate([np.flatnonzero(ectopic), others])])
