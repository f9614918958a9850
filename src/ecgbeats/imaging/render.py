"""One renderer for training and serving: beats of a recording to images by their spec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ecgbeats.imaging import composite, features, picture, scalogram, spectrogram, waveform
from ecgbeats.imaging.plane import Draw
from ecgbeats.imaging.spec import Spec
from ecgbeats.records import Recording

DRAWERS: dict[str, Callable[[Recording, np.ndarray, Any], Draw]] = {
    "waveform": waveform.drawer,
    "composite": composite.drawer,
    "picture": picture.drawer,
    "spectrogram": spectrogram.drawer,
    "scalogram": scalogram.drawer,
    "features": features.drawer,
}
# Beats of a part. A multiple of what representations draw at once, and of the images that are
# predicted at once: matrix products of other batches may differ in their last bits, and answers
# are to be those of one pass.
_PART = 4096


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
    return DRAWERS[spec.representation](recording, samples, spec)(slice(0, len(samples)))


def render_in_parts(
    recording: Recording, samples: np.ndarray, spec: Spec
) -> Iterator[tuple[slice, np.ndarray]]:
    """As `render`, some thousand beats at a time: the images of a day take half a gigabyte.

    Yields
    ------
    part : slice
        Which of `samples`.
    images : ndarray of uint8, shape (beats of the part, rows, columns)
        To the bit those of `render`.
    """
    draw = DRAWERS[spec.representation](recording, samples, spec)
    for start in range(0, len(samples), _PART):
        part = slice(start, min(start + _PART, len(samples)))
        yield part, draw(part)
