"""Wavelet transform of the beat by a wavelet of choice, signed or as magnitude."""

from __future__ import annotations

import numpy as np

from ecgbeats.beats import windows
from ecgbeats.imaging.plane import Draw, full_grey, panelled, signed_grey, soft
from ecgbeats.imaging.spec import ScalogramSpec
from ecgbeats.imaging.wavelets import wavelet_transform
from ecgbeats.records import Recording


def drawer(recording: Recording, samples: np.ndarray, spec: ScalogramSpec) -> Draw:
    """What draws the beats at `samples` (at the recording's own rate).

    Returns
    -------
    callable
        From a part of `samples` to its images, uint8 (beats of the part, rows, columns).
        Signed: 128 is zero; magnitude: 0 is. Both by `ecgbeats.imaging.plane.soft`.
    """
    transform = wavelet_transform(spec)
    signed = spec.value == "signed"

    def panels(signal: np.ndarray, centres: np.ndarray) -> Draw:
        def grey(part: slice) -> np.ndarray:
            beats = windows(signal, centres[part], transform.before, transform.after)
            if signed:
                return signed_grey(soft(transform.signed(beats)))
            return full_grey(soft(transform.magnitude(beats)))

        return grey

    return panelled(recording, samples, spec, panels, empty=128 if signed else 0)
