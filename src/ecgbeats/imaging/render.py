"""One renderer for training and serving: beats of a recording to images by their spec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ecgbeats.imaging import composite, features, picture, scalogram, spectrogram, waveform
from ecgbeats.imaging.spec import Spec
from ecgbeats.records import Recording

Draw = Callable[[Recording, np.ndarray, Any], np.ndarray]
DRAW: dict[str, Draw] = {
    "waveform": waveform.draw,
    "composite": composite.draw,
    "picture": picture.draw,
    "spectrogram": spectrogram.draw,
    "scalogram": scalogram.draw,
    "features": features.draw,
}


def render(recording: Recording, samples: np.ndarray, spec: Spec) -> np.ndarray:
    """Draw every beat of a recording.

    Parameters
    ----------
    recording : Recording
    samples : ndarray of int, shape (n,)
        Positions of all its beats, increasing, at the recording's own rate. Rhythm and
        the median beat are taken over all of them.
    spec : Spec

    Returns
    -------
    ndarray of uint8, shape (n, rows, columns)
    """
    draw = DRAW[spec.representation]
    return draw(recording, samples, spec)
