"""A model's answers to the beats of one recording: the one way, offline and in the service.

What a beat needs of its recording (R amplitude, median beat, rhythm) comes from all of its
beats, so that they are drawn as one, whether they were annotated or found.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from ecgbeats.batches import predict_all
from ecgbeats.imaging.render import render_in_parts
from ecgbeats.imaging.spec import Spec
from ecgbeats.inference import Classifier
from ecgbeats.marks import at_r
from ecgbeats.records import Recording
from ecgbeats.usable import oddities, usable_leads

# Reference and found beat are one within this time (ANSI/AAMI EC57).
MATCH_S = 0.15
# A pause is an RR interval over this.
PAUSE_S = 2.0
_RATE_BEATS = 10


@dataclass(frozen=True)
class Answered:
    """The beats of a recording, as drawn and as answered.

    Attributes
    ----------
    recording : Recording
        Its leads that show an ECG.
    lead : int
        Column of the lead that was drawn, of two the first.
    spec : Spec
        As the model's, but for a lead that was asked for.
    samples : ndarray of int, shape (n,)
        As given; they are drawn at R (`ecgbeats.marks`).
    kept : ndarray of int64, shape (m,)
        Beats whose images are here, increasing: places in `samples`; by default all.
    images : ndarray of uint8, shape (m, rows, columns)
    probabilities : ndarray of float32, shape (n, classes)
    remarks : list of str
        What one should know of how the recording was read.
    """

    recording: Recording
    lead: int
    spec: Spec
    samples: np.ndarray
    kept: np.ndarray
    images: np.ndarray
    probabilities: np.ndarray
    remarks: list[str]


def answer_beats(
    classifier: Classifier,
    recording: Recording,
    samples: np.ndarray,
    *,
    lead: str | None = None,
    counted: Callable[[int], object] = lambda _: None,
    wanted: Callable[[np.ndarray], Collection[int]] | None = None,
) -> Answered:
    """Draw and classify all beats of `recording`, some thousand at a time.

    Parameters
    ----------
    samples : ndarray of int, shape (n,)
        Positions of all its beats, increasing, at the recording's own rate.
    lead : str, optional
        Name of the lead to draw; the model's own choice by default.
    counted : callable
        Is told how many images are classified, each time.
    wanted : callable, optional
        Is told the probabilities of the beats so far, shape (beats, classes), each time, and
        says which of these beats' images to keep; one that was let go does not come back. By
        default all are kept, which for a day of beats takes half a gigabyte.

    Raises
    ------
    DataError
        No lead can be drawn, or not `lead`.
    """
    usable, spec, column, remarks = usable_leads(recording, classifier.spec, lead)
    at, moved = at_r(usable, column, samples)
    remarks = [*remarks, *oddities(usable, spec, column, samples), *moved]
    probabilities = np.empty((len(at), len(classifier.classes)), np.float32)
    kept = np.arange(len(at) if wanted is None else 0)
    images = np.empty((len(kept), *spec.shape), np.uint8)
    for part, drawn in render_in_parts(usable, at, spec):
        probabilities[part] = predict_all(classifier, drawn, counted)
        if wanted is None:
            images[part] = drawn
        else:
            here = [*kept.tolist(), *range(part.start, part.stop)]
            place = {beat: k for k, beat in enumerate(here)}
            kept = np.array(sorted(wanted(probabilities[: part.stop])), np.int64)
            images = np.concatenate([images, drawn])[[place[beat] for beat in kept.tolist()]]
    return Answered(usable, column, spec, samples, kept, images, probabilities, remarks)


def match_beats(reference: np.ndarray, found: np.ndarray, fs: float) -> np.ndarray:
    """For each reference beat the place of its beat in `found`, or -1; each is taken once.

    Both are positions, increasing. In time order the nearer of two is taken, as in
    beat-by-beat comparison (ANSI/AAMI EC57; `bxb` of the WFDB library).

    Returns
    -------
    ndarray of int64, shape (len(reference),)
    """
    out = np.full(len(reference), -1, np.int64)
    window = MATCH_S * fs
    i = j = 0
    while i < len(reference) and j < len(found):
        away = abs(int(found[j]) - int(reference[i]))
        if away > window:
            i, j = (i, j + 1) if found[j] < reference[i] else (i + 1, j)
        elif j + 1 < len(found) and abs(int(found[j + 1]) - int(reference[i])) < away:
            j += 1
        elif i + 1 < len(reference) and abs(int(found[j]) - int(reference[i + 1])) < away:
            i += 1
        else:
            out[i] = j
            i, j = i + 1, j + 1
    return out


@dataclass(frozen=True)
class RhythmSummary:
    """The rhythm of a recording in figures; None where it has too few beats for one.

    Attributes
    ----------
    rate, lowest_rate, highest_rate : float or None
        Beats per minute: by the mean RR interval, and over ten intervals in a row.
    rr_median, rr_shortest, rr_longest : float or None
        Seconds.
    rmssd : float or None
        Root mean square of successive RR differences, over all beats, in seconds.
    pauses : int
        RR intervals over `PAUSE_S`.
    runs : dict of str to int
        For each label the longest run of beats that have it.
    """

    rate: float | None
    lowest_rate: float | None
    highest_rate: float | None
    rr_median: float | None
    rr_shortest: float | None
    rr_longest: float | None
    rmssd: float | None
    pauses: int
    runs: Mapping[str, int]


def rhythm_summary(samples: np.ndarray, labels: list[str], fs: float) -> RhythmSummary:
    """Rates, intervals and runs of beats at `samples`, increasing, that are named `labels`."""
    rr = np.diff(samples) / fs
    runs: dict[str, int] = {}
    length = 0
    for k, label in enumerate(labels):
        length = length + 1 if k and labels[k - 1] == label else 1
        runs[label] = max(length, runs.get(label, 0))
    if not len(rr):
        return RhythmSummary(None, None, None, None, None, None, None, 0, runs)
    span = min(_RATE_BEATS, len(rr))
    rates = 60 / np.convolve(rr, np.full(span, 1 / span), mode="valid")
    rmssd = float(np.sqrt(np.mean(np.diff(rr) ** 2))) if len(rr) > 1 else None
    return RhythmSummary(
        rate=float(60 / rr.mean()),
        lowest_rate=float(rates.min()),
        highest_rate=float(rates.max()),
        rr_median=float(np.median(rr)),
        rr_shortest=float(rr.min()),
        rr_longest=float(rr.max()),
        rmssd=rmssd,
        pauses=int((rr > PAUSE_S).sum()),
        runs=runs,
    )
