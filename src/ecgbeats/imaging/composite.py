"""Wavelet panels over a rhythm strip: the beat's shape and its place in the rhythm."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ecgbeats.beats import choose_lead, rhythm, windows
from ecgbeats.imaging.plane import (
    chunks,
    lead_in_r_amplitudes,
    median_beat,
    rhythm_strip,
    signed_grey,
    soft,
)
from ecgbeats.imaging.spec import CompositeSpec
from ecgbeats.imaging.wavelets import Transform, wavelet_transform
from ecgbeats.records import Recording


def draw(recording: Recording, samples: np.ndarray, spec: CompositeSpec) -> np.ndarray:
    """Draw the beats at `samples` (at the recording's own rate).

    Returns
    -------
    ndarray of uint8, shape (n, rows, columns)
    """
    count = len(samples)
    images = np.empty((count, *spec.shape), np.uint8)
    if not count:
        return images
    lead = choose_lead(recording, spec.lead)
    signal, centres = lead_in_r_amplitudes(recording, samples, lead, spec.fs)
    transform = _transform(spec)
    typical = median_beat(signal, centres, transform.before, transform.after)
    reference = transform.signed(typical[None])
    for part in chunks(count):
        beat = transform.signed(windows(signal, centres[part], transform.before, transform.after))
        for k, panel in enumerate(spec.panels):
            # The transform is linear: that of a difference is the difference.
            values = beat if panel == "beat" else beat - reference
            rows = slice(k * spec.panel_height, (k + 1) * spec.panel_height)
            images[part, rows] = signed_grey(soft(values))
    values = rhythm(np.asarray(samples), recording.fs)
    images[:, -spec.strip_height :] = rhythm_strip(values, spec.strip_height, spec.width)
    return images


@lru_cache(maxsize=4)
def _transform(spec: CompositeSpec) -> Transform:
    return wavelet_transform(
        "mexican_hat",
        fs=spec.fs,
        before_ms=spec.before_ms,
        after_ms=spec.after_ms,
        finest_ms=spec.finest_ms,
        coarsest_ms=spec.coarsest_ms,
        rows=spec.panel_height,
        columns=spec.width,
    )
