"""What representations share: grey levels, the unit of R amplitude, leads, the rhythm strip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ecgbeats.beats import (
    at_rate,
    choose_lead,
    condition,
    lead_name,
    peaks,
    rhythm,
    windows,
)
from ecgbeats.imaging.spec import CompositeSpec, ScalogramSpec, SpectrogramSpec
from ecgbeats.records import Recording

Panelled = CompositeSpec | ScalogramSpec | SpectrogramSpec
# Draws a part of a recording's beats; what it needs of all of them, it has.
Draw = Callable[[slice], np.ndarray]

# A value in units of the recording's R amplitude that is drawn halfway to full. Small waves
# (P, about a tenth of R) so keep a quarter of the grey levels, and tall ones are not clipped.
HALF_LEVEL = 0.3
# Rhythm value drawn as full black or white: of a logarithm of RR ratios a factor of 2.2;
# irregularity, -0.5 to 0.5, stays within.
RHYTHM_FULL = 0.8
# R amplitude: largest deflection within this time of R.
_PEAK_S = 0.06
# Beats from which the median beat is taken, evenly spread over the recording.
_MEDIAN_BEATS = 400
_CHUNK = 1024


def soft(values: np.ndarray) -> np.ndarray:
    """Values in R amplitudes to -1..1, steepest at zero: v / (|v| + HALF_LEVEL)."""
    away = np.abs(values)
    away += np.float32(HALF_LEVEL)
    return np.asarray(np.divide(values, away, out=away))


def signed_grey(values: np.ndarray) -> np.ndarray:
    """Values in -1..1 as grey levels 1..255, zero as 128."""
    levels = 127 * values
    levels += 128
    return np.asarray(np.rint(levels, out=levels), np.uint8)


def full_grey(values: np.ndarray) -> np.ndarray:
    """Values in 0..1 as grey levels 0..255."""
    return np.asarray(np.rint(255 * values), np.uint8)


def rhythm_levels(values: np.ndarray) -> np.ndarray:
    """Grey levels of rhythm values (`ecgbeats.beats.rhythm`), clipped at RHYTHM_FULL."""
    return signed_grey(np.clip(values / RHYTHM_FULL, -1, 1))


def rhythm_strip(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Rhythm values, shape (n, values), as blocks of even grey side by side.

    Returns
    -------
    ndarray of uint8, shape (n, height, width)
        Columns that do not make a block are middle grey.
    """
    image = np.full((len(values), height, width), 128, np.uint8)
    block = width // values.shape[1]
    levels = np.repeat(rhythm_levels(values), block, axis=1)
    image[:, :, : levels.shape[1]] = levels[:, None, :]
    return image


def r_amplitude(signal: np.ndarray, centres: np.ndarray, fs: float) -> np.float32:
    """Median over beats of the largest deflection near R, in mV; never zero."""
    reach = round(_PEAK_S * fs)
    peaks = np.abs(windows(signal, centres, reach, reach + 1)).max(axis=1)
    return np.float32(max(float(np.median(peaks)), 1e-3))


def median_beat(signal: np.ndarray, centres: np.ndarray, before: int, after: int) -> np.ndarray:
    """Median over at most 400 beats, sample by sample, shape (before + after,)."""
    count = len(centres)
    some = np.unique(np.linspace(0, count - 1, min(count, _MEDIAN_BEATS)).astype(int))
    return np.asarray(np.median(windows(signal, centres[some], before, after), axis=0), np.float32)


def lead_columns(
    recording: Recording, names: Sequence[str], leads: int, second: Sequence[str]
) -> list[int | None]:
    """Columns of the leads to draw, `leads` of them; None where the recording has no other.

    The first as `choose_lead` says. The second is the best named in `second`, or else the
    first other one; a lead without a valid sample is not taken as second.
    """
    first = choose_lead(recording, names)
    columns: list[int | None] = [first]
    if leads == 2:
        have = [lead_name(lead) for lead in recording.leads]
        rest = [
            k for k in range(len(have)) if k != first and np.isfinite(recording.signal[:, k]).any()
        ]
        wanted = [k for name in second for k in rest if have[k] == lead_name(name)]
        columns.append(next(iter(wanted + rest), None))
    return columns


def lead_in_r_amplitudes(
    recording: Recording, samples: np.ndarray, column: int, fs: float
) -> tuple[np.ndarray, np.ndarray]:
    """A conditioned lead in units of its own R amplitude, and where its beats are, at `fs`.

    Returns
    -------
    signal : ndarray of float32, shape (samples,)
    centres : ndarray of int64, shape (beats,)
    """
    signal = condition(recording, column, fs)
    centres = peaks(signal, np.rint(at_rate(samples, recording.fs, fs)).astype(np.int64), fs)
    return signal / r_amplitude(signal, centres, fs), centres


def chunks(first: int, last: int) -> Iterator[slice]:
    """Parts of the beats from `first` to before `last` whose windows fit into a few megabytes."""
    for start in range(first, last, _CHUNK):
        yield slice(start, min(start + _CHUNK, last))


def panelled(
    recording: Recording,
    samples: np.ndarray,
    spec: Panelled,
    panels: Callable[[np.ndarray, np.ndarray], Draw],
    *,
    empty: int,
    values: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Draw:
    """Draws the beats at `samples`: the panels of each lead, and the rhythm at the foot.

    Parameters
    ----------
    panels : callable
        From a lead (in units of its R amplitude) and where its beats are, both at `spec.fs`,
        to what draws a part of these beats: grey levels, shape (n, rows of a lead, columns).
    empty : int
        Grey of a lead that the recording lacks.
    values : callable, optional
        From the same to grey levels of what is drawn below the panels, a pixel a value, shape
        (n, values); what is left of a lead's rows is middle grey.

    Returns
    -------
    callable
        From a part of `samples` to its images, uint8 (beats of the part, rows, columns).
    """
    drawn: dict[int, Draw] = {}
    levels: dict[int, np.ndarray] = {}
    if len(samples):
        leads = lead_columns(recording, spec.lead, spec.leads, spec.second_lead)
        for k, column in enumerate(leads):
            if column is not None:
                signal, centres = lead_in_r_amplitudes(recording, samples, column, spec.fs)
                drawn[k] = panels(signal, centres)
                if values is not None:
                    levels[k] = values(signal, centres)
    ratios = rhythm(np.asarray(samples), recording.fs, spec.rhythm) if spec.strip_height else None

    def draw(part: slice) -> np.ndarray:
        images = np.full((part.stop - part.start, *spec.shape), empty, np.uint8)
        for k, grey in drawn.items():
            for some in chunks(part.start, part.stop):
                here = slice(some.start - part.start, some.stop - part.start)
                images[here, spec.rows_of_lead(k)] = grey(some)
            if k in levels:
                _values_below(images, levels[k][part], spec, k)
        if ratios is not None:
            strip = rhythm_strip(ratios[part], spec.strip_height, spec.width)
            images[:, spec.rows_of_strip] = strip
        return images

    return draw


def _values_below(images: np.ndarray, levels: np.ndarray, spec: Panelled, lead: int) -> None:
    """Draw grey levels, shape (n, values), into the value rows of a lead (from 0)."""
    rows = spec.value_rows_per_lead
    wide = np.full((len(images), rows * spec.width), 128, np.uint8)
    wide[:, : levels.shape[1]] = levels
    top = spec.rows_of_values.start + lead * rows
    images[:, top : top + rows] = wide.reshape(len(images), rows, spec.width)
