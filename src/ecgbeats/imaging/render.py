"""One renderer for training and serving: beats of a recording to images by their spec."""

from __future__ import annotations

import numpy as np

from ecgbeats.imaging import composite, waveform
from ecgbeats.imaging.spec import CompositeSpec, WaveformSpec
from ecgbeats.records import Recording


def render(
    recording: Recording, samples: np.ndarray, spec: WaveformSpec | CompositeSpec
) -> np.ndarray:
    """Draw every beat of a recording.

    Parameters
    ----------
    recording : Recording
    samples : ndarray of int, shape (n,)
        Positions of all its beats, increasing, at the recording's own rate. Rhythm and
        the median beat are taken over all of them.
    spec : WaveformSpec or CompositeSpec

    Returns
    -------
    ndarray of uint8, shape (n, rows, columns)
    """
    if isinstance(spec, WaveformSpec):
        return waveform.draw(recording, samples, spec)
    return composite.draw(recording, samples, spec)
