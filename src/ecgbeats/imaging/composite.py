"""Wavelet panels over a rhythm strip: the beat's shape and its place in the rhythm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ecgbeats.beats import windows
from ecgbeats.imaging.plane import median_beat, panelled, signed_grey, soft
from ecgbeats.imaging.spec import CompositeSpec
from ecgbeats.imaging.wavelets import wavelet_transform
from ecgbeats.records import Recording


def draw(recording: Recording, samples: np.ndarray, spec: CompositeSpec) -> np.ndarray:
    """Draw the beats at `samples` (at the recording's own rate).

    Returns
    -------
    ndarray of uint8, shape (n, rows, columns)
    """
    transform = wavelet_transform(spec)
    before, after = transform.before, transform.after

    def panels(signal: np.ndarray, centres: np.ndarray) -> Callable[[slice], np.ndarray]:
        typical = transform.signed(median_beat(signal, centres, before, after)[None])

        def grey(part: slice) -> np.ndarray:
            beat = transform.signed(windows(signal, centres[part], before, after))
            # The transform is linear: that of a difference is the difference.
            drawn = [beat if panel == "beat" else beat - typical for panel in spec.panels]
            return np.concatenate([signed_grey(soft(values)) for values in drawn], axis=1)

        return grey

    return panelled(recording, samples, spec, panels, empty=128)
