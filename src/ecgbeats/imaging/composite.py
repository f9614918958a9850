"""Wavelet panels over a rhythm strip: the beat's shape and its place in the rhythm.

Between them, where asked for, values of its morphology: what many patients' beats of a class
have in common, as QRS width against the recording's own, a network finds sooner in a few
values than in a plane.
"""

from __future__ import annotations

import numpy as np

from ecgbeats.beats import windows
from ecgbeats.imaging.features import morphology
from ecgbeats.imaging.plane import Draw, median_beat, panelled, signed_grey, soft
from ecgbeats.imaging.spec import CompositeSpec
from ecgbeats.imaging.wavelets import wavelet_transform
from ecgbeats.records import Recording


def drawer(recording: Recording, samples: np.ndarray, spec: CompositeSpec) -> Draw:
    """What draws the beats at `samples` (at the recording's own rate).

    Returns
    -------
    callable
        From a part of `samples` to its images, uint8 (beats of the part, rows, columns).
    """
    transform = wavelet_transform(spec)
    before, after = transform.before, transform.after

    def panels(signal: np.ndarray, centres: np.ndarray) -> Draw:
        typical: np.ndarray | float = 0.0
        if "difference" in spec.panels:
            typical = transform.signed(median_beat(signal, centres, before, after)[None])

        def grey(part: slice) -> np.ndarray:
            beat = transform.signed(windows(signal, centres[part], before, after))
            # The transform is linear: that of a difference is the difference.
            drawn = [beat if panel == "beat" else beat - typical for panel in spec.panels]
            return np.concatenate([signed_grey(soft(values)) for values in drawn], axis=1)

        return grey

    def values(signal: np.ndarray, centres: np.ndarray) -> np.ndarray:
        return signed_grey(morphology(signal, centres, spec.morphology))

    drawn = values if spec.values else None
    return panelled(recording, samples, spec, panels, empty=128, values=drawn)
