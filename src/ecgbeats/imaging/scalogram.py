"""Wavelet transform of the beat by a wavelet of choice, signed or as magnitude."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ecgbeats.beats import rhythm, windows
from ecgbeats.imaging.plane import (
    chunks,
    full_grey,
    lead_columns,
    lead_in_r_amplitudes,
    rhythm_strip,
    signed_grey,
    soft,
)
from ecgbeats.imaging.spec import ScalogramSpec
from ecgbeats.imaging.wavelets import Transform, wavelet_transform
from ecgbeats.records import Recording


def draw(recording: Recording, samples: np.ndarray, spec: ScalogramSpec) -> np.ndarray:
    """Draw the beats at `samples` (at the recording's own rate).

    Returns
    -------
    ndarray of uint8, shape (n, rows, columns)
        Signed: 128 is zero; magnitude: 0 is. Both by `ecgbeats.imaging.plane.soft`.
    """
    count = len(samples)
    signed = spec.value == "signed"
    images = np.full((count, *spec.shape), 128 if signed else 0, np.uint8)
    if not count:
        return images
    transform = _transform(spec)
    leads = lead_columns(recording, spec.lead, spec.leads, spec.second_lead)
    for k, column in enumerate(leads):
        if column is None:
            continue
        signal, centres = lead_in_r_amplitudes(recording, samples, column, spec.fs)
        rows = slice(k * spec.panel_height, (k + 1) * spec.panel_height)
        for part in chunks(count):
            beats = windows(signal, centres[part], transform.before, transform.after)
            if signed:
                images[part, rows] = signed_grey(soft(transform.signed(beats)))
            else:
                images[part, rows] = full_grey(soft(transform.magnitude(beats)))
    if spec.strip_height:
        values = rhythm(np.asarray(samples), recording.fs)
        images[:, -spec.strip_height :] = rhythm_strip(values, spec.strip_height, spec.width)
    return images


@lru_cache(maxsize=4)
def _transform(spec: ScalogramSpec) -> Transform:
    return wavelet_transform(
        spec.wavelet,
        fs=spec.fs,
        before_ms=spec.before_ms,
        after_ms=spec.after_ms,
        finest_ms=spec.finest_ms,
        coarsest_ms=spec.coarsest_ms,
        rows=spec.panel_height,
        columns=spec.width,
    )
