"""From an uploaded recording to the answer: read, beats found, drawn, classified, compared."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Literal

import numpy as np

from bento.answers import (
    Comparison,
    Model,
    Picture,
    RecordClassification,
    RecordedBeat,
    Rhythm,
    Trace,
)
from bento.answers import Recording as About
from bento.archives import unpacked
from bento.limits import MAX_BEATS, MAX_FS, MAX_JSON_BYTES, MAX_SECONDS, MAX_VALUES
from bento.metrics import metrics
from bento.observing import observe_recording
from bento.problems import Refused
from bento.uploads import Upload, too_large
from ecgbeats.answering import Answered, answer_beats, match_beats, rhythm_summary
from ecgbeats.beats import condition
from ecgbeats.errors import DataError, RefusedInput
from ecgbeats.imaging.png import encode_png
from ecgbeats.inference import Classifier
from ecgbeats.labels import LabelScheme
from ecgbeats.qrs import detect_beats
from ecgbeats.records import BEAT_SYMBOLS, Annotations, Recording, in_order
from ecgbeats.signal_text import parse_json, read_csv, read_json_signal
from ecgbeats.usable import spread, usable_leads
from ecgbeats.wfdb_bytes import read_annotation_bytes, read_header, read_record

From = Literal["detected", "annotated", "given"]
_TRACE_HZ = 120.0
_HEADER = ".hea"


@dataclass(frozen=True)
class Read:
    """An uploaded recording.

    Attributes
    ----------
    lead : str or None
        The one to draw.
    beats : ndarray of int or None
        Positions that were given.
    annotations : Annotations or None
        Beats alone, in order and inside the recording.
    remarks : list of str
    """

    recording: Recording
    lead: str | None
    beats: np.ndarray | None = None
    annotations: Annotations | None = None
    remarks: Sequence[str] = ()


def read_signal(
    files: list[Upload],
    *,
    fs: float | None,
    units: str | None,
    gain: float | None,
    lead: str | None,
) -> Read:
    """The recording in one CSV or JSON file."""
    files = unpacked(files)
    if len(files) != 1:
        raise _refused("not_a_signal", "one CSV or JSON file", f"{len(files)} files")
    data = files[0].content
    try:
        if data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
            if len(data) > MAX_JSON_BYTES:
                raise too_large("file_too_large", f"at most {MAX_JSON_BYTES} bytes of JSON", "more")
            recording, beats = read_json_signal(
                parse_json(data.removeprefix(b"\xef\xbb\xbf")),
                fs=fs,
                units=units,
                gain=gain,
                lead=lead,
                max_values=MAX_VALUES,
            )
        else:
            recording, beats = (
                read_csv(data, fs=fs, units=units, gain=gain, lead=lead, max_values=MAX_VALUES),
                None,
            )
    except RefusedInput as error:
        raise _refused(error.code, error.expected, error.got) from error
    _check(recording)
    # Of a single column its name says nothing, whatever it is.
    only = recording.leads[0] if len(recording.leads) == 1 else lead
    return Read(recording, only, beats)


def read_files(
    files: list[Upload], annotator: str, scheme: LabelScheme | None, *, lead: str | None
) -> Read:
    """The WFDB record in `files`, and its annotations if they are there."""
    files = unpacked(files)
    named: dict[str, bytes] = {}
    for file in files:
        if named.setdefault(file.name, file.content) is not file.content:
            raise _refused("same_name_twice", "files of different names", "two of one name")
    headers = [name for name in named if name.lower().endswith(_HEADER)]
    if len(headers) != 1:
        raise _refused("not_one_record", "one header (.hea)", f"{len(headers)} of them")
    try:
        header = read_header(named[headers[0]])
        recording = read_record(header, named, max_values=MAX_VALUES)
        _check(recording)
        beside = f"{headers[0][: -len(_HEADER)]}.{annotator}"
        if beside not in named:
            return Read(recording, lead)
        known = BEAT_SYMBOLS if scheme is None else scheme.beats
        read = read_annotation_bytes(named[beside], recording.fs).only(known)
        beats, remarks = in_order(read, len(recording.signal))
    except RefusedInput as error:
        raise _refused(error.code, error.expected, error.got) from error
    except DataError as error:
        raise _unusable(error) from error
    return Read(recording, lead, annotations=beats, remarks=remarks)


def _check(recording: Recording) -> None:
    if recording.fs > MAX_FS:
        raise _refused(
            "bad_sampling_rate", f"at most {MAX_FS:g} samples a second", f"{recording.fs:.6g}"
        )
    if recording.seconds > MAX_SECONDS:
        raise _refused(
            "recording_too_long", f"at most {MAX_SECONDS:g} s", f"{recording.seconds:.0f} s"
        )


def classify(
    classifier: Classifier,
    model: Model,
    read: Read,
    scheme: LabelScheme | None,
    *,
    beats_from: From = "detected",
    trace: bool = False,
    pictures: Sequence[int] = (),
    endpoint: str = "classify_record",
) -> RecordClassification:
    """Classify every beat of what was read.

    Raises
    ------
    Refused
        Nothing in it can be drawn, it has no beats or too many, or `pictures` names none.
    """
    try:
        samples, source = _beats(classifier, read, beats_from)
        counted = partial(metrics().batch, model.name)
        answered = answer_beats(
            classifier, read.recording, samples, lead=read.lead, counted=counted
        )
    except DataError as error:
        raise _unusable(error) from error
    for place in pictures:
        if place >= len(samples):
            raise _refused("no_such_beat", f"places from 0 to {len(samples) - 1}", str(place))
    labels = classifier.answers(answered.probabilities)
    observe_recording(endpoint, classifier, model, answered, labels)
    fs = read.recording.fs
    matched = references = None
    if read.annotations is not None:
        matched = match_beats(read.annotations.sample, samples, fs)
        references = _references(read.annotations, matched, len(samples), scheme)
    counts = Counter(labels)
    shown = [*(name for name in classifier.classes), *counts]
    recording = answered.recording
    summary = rhythm_summary(samples, labels, fs)
    return RecordClassification(
        model=model,
        recording=About(
            fs=fs,
            seconds=round(recording.seconds, 3),
            leads=list(recording.leads),
            lead=recording.leads[answered.lead],
            beats_from=source,
            remarks=[*read.remarks, *answered.remarks],
        ),
        counts={name: counts[name] for name in dict.fromkeys(shown)},
        rhythm=Rhythm(
            rate_bpm=_rounded(summary.rate, 1),
            lowest_rate_bpm=_rounded(summary.lowest_rate, 1),
            highest_rate_bpm=_rounded(summary.highest_rate, 1),
            rr_median_s=_rounded(summary.rr_median, 3),
            rr_shortest_s=_rounded(summary.rr_shortest, 3),
            rr_longest_s=_rounded(summary.rr_longest, 3),
            rmssd_s=_rounded(summary.rmssd, 4),
            pauses=summary.pauses,
            longest_runs=dict(summary.runs),
        ),
        beats=_answers(classifier, answered, labels, references, fs),
        comparison=(
            None
            if read.annotations is None or matched is None or references is None
            else _compared(len(read.annotations.sample), matched, references, labels)
        ),
        trace=_trace(answered) if trace else None,
        pictures=[
            Picture(
                beat=place,
                png=_base64(encode_png(answered.images[place], classifier.spec.spec_id)),
            )
            for place in dict.fromkeys(pictures)
        ],
    )


def _beats(classifier: Classifier, read: Read, beats_from: From) -> tuple[np.ndarray, From]:
    source: From = beats_from
    if read.beats is not None:
        samples, source = read.beats, "given"
    elif beats_from == "annotated":
        if read.annotations is None:
            raise _refused("no_annotations", "annotations beside the record", "none")
        samples = read.annotations.sample
    else:
        usable, _, lead, _ = usable_leads(read.recording, classifier.spec, read.lead)
        samples = detect_beats(usable, lead)
    if len(samples) == 0:
        seen = f"none {source} in {spread(read.recording)}"
        raise _refused("no_beats", "a recording with heartbeats", seen)
    if len(samples) > MAX_BEATS:
        raise _refused("too_many_beats", f"at most {MAX_BEATS} beats", str(len(samples)))
    return samples, source


def _answers(
    classifier: Classifier,
    answered: Answered,
    labels: Sequence[str],
    references: Sequence[str | None] | None,
    fs: float,
) -> list[RecordedBeat]:
    names = classifier.classes
    rr = np.diff(answered.samples) / fs
    # Six decimals say all that a float32 of such size does, and halve the answer.
    rows = np.round(answered.probabilities.astype(np.float64), 6)
    best = answered.probabilities.argmax(axis=1)
    # Not validated: thousands, made of what was checked before.
    return [
        RecordedBeat.model_construct(
            sample=int(sample),
            time_s=round(float(sample) / fs, 4),
            rr_s=round(float(rr[k - 1]), 4) if k else None,
            label=labels[k],
            most_probable=names[int(best[k])],
            probabilities=dict(zip(names, rows[k].tolist(), strict=True)),
            reference=references[k] if references is not None else None,
        )
        for k, sample in enumerate(answered.samples)
    ]


def _references(
    annotations: Annotations, matched: np.ndarray, count: int, scheme: LabelScheme | None
) -> list[str | None]:
    """For each found beat the class of its annotation; None where it has none."""
    found: list[str | None] = [None] * count
    if scheme is not None:
        codes = scheme.encode(annotations.symbol)
        for place, code in zip(matched, codes, strict=True):
            if place >= 0 and code >= 0:
                found[int(place)] = scheme.names[int(code)]
    return found


def _compared(
    reference_beats: int,
    matched: np.ndarray,
    references: Sequence[str | None],
    labels: Sequence[str],
) -> Comparison:
    hits = int((matched >= 0).sum())
    confusion: dict[str, dict[str, int]] = {}
    agreed = 0
    for reference, label in zip(references, labels, strict=True):
        if reference is not None:
            row = confusion.setdefault(reference, {})
            row[label] = row.get(label, 0) + 1
            agreed += reference == label
    with_class = sum(sum(row.values()) for row in confusion.values())
    return Comparison(
        reference_beats=reference_beats,
        matched=hits,
        missed=reference_beats - hits,
        extra=len(labels) - hits,
        sensitivity=_rounded(hits / reference_beats, 6) if reference_beats else None,
        positive_predictivity=_rounded(hits / len(labels), 6) if labels else None,
        agreement=_rounded(agreed / with_class, 6) if with_class else None,
        confusion=confusion,
    )


def _trace(answered: Answered) -> Trace:
    """The drawn lead without its baseline, at a rate that a screen can show."""
    recording, lead = answered.recording, answered.lead
    fs = min(_TRACE_HZ, recording.fs)
    signal = condition(recording, lead, fs)
    microvolts = np.clip(np.rint(signal * 1000), -32767, 32767).astype("<i2")
    # Gaps were bridged, which a picture of the signal should not hide.
    at = np.minimum(np.arange(len(signal)) * recording.fs / fs, len(recording.signal) - 1)
    microvolts[~np.isfinite(recording.signal[at.astype(np.int64), lead])] = -32768
    return Trace(fs=fs, lead=recording.leads[lead], microvolts=_base64(microvolts.tobytes()))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _refused(code: str, expected: str, got: str) -> Refused:
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, code, expected=expected, got=got)


def _unusable(error: DataError) -> Refused:
    return _refused("unusable_recording", "a recording that can be read and drawn", str(error))
