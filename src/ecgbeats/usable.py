"""What of a recording from anywhere can be drawn, and what one should doubt in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ecgbeats.beats import choose_lead, condition, lead_name, windows
from ecgbeats.errors import DataError
from ecgbeats.imaging.plane import lead_columns
from ecgbeats.imaging.spec import PANELLED, FeaturesSpec, Spec
from ecgbeats.records import Recording

# Words in lead names that say: this is no ECG.
_OTHER_SIGNAL = re.compile(
    r"\b(ABP|ART|BP|CVP|PAP|ICP|PLETH|PPG|SPO2|RESP|EEG|EMG|EOG|EDA|GSR|PCG|SCG|BCG|ICG|MIC|ACC|GYRO"
    r"|TEMP|CO2|FLOW|MARKER|EVENT)\d*\b",
    re.IGNORECASE,
)
# Outside these something is probably wrong in the header, not in the heart.
_LEAST_HZ = 90.0
_USUAL_RR_S, _USUAL_R_MV = (0.25, 2.5), (0.05, 10.0)
_PEAK_S = 0.06
_SKEW_HZ, _AS_UPRIGHT = 360.0, 0.1


def usable_leads(
    recording: Recording, spec: Spec, wanted: str | None
) -> tuple[Recording, Spec, int, list[str]]:
    """The recording's leads that show an ECG, the spec, the lead that it draws, remarks.

    Raises
    ------
    DataError
        There is no such lead, or `wanted` is not one.
    """
    dead, foreign = [], []
    for k, name in enumerate(recording.leads):
        column = recording.signal[:, k]
        valid = column[np.isfinite(column)]
        if not len(valid) or valid.min() == valid.max():
            dead.append(k)
        elif _OTHER_SIGNAL.search(name.replace("_", " ")):
            foreign.append(k)
    kept = [k for k in range(len(recording.leads)) if k not in (*dead, *foreign)]
    if wanted is not None:
        named = [
            k for k, name in enumerate(recording.leads) if lead_name(name) == lead_name(wanted)
        ]
        if not named:
            raise DataError(f"expected lead {wanted}, found {', '.join(recording.leads)}")
        place = next((k for k in named if k not in dead), None)
        if place is None:
            raise DataError(f"lead {wanted} has no valid sample or stands still")
        # Whatever the name sounds like: it was asked for.
        kept = sorted({*kept, place})
        spec = spec.model_copy(update={"lead": (recording.leads[place],)})
    if not kept:
        raise DataError(
            f"expected a lead with an ECG; of {', '.join(recording.leads)} "
            f"{len(dead)} have no valid sample or stand still"
            + (f", {len(foreign)} are no ECG by their name" if foreign else "")
        )
    remarks = list(recording.assumed)
    remarks += [f"lead {recording.leads[k]} stands still or has no valid sample" for k in dead]
    if len(kept) < len(recording.leads):
        recording = _of_leads(recording, kept)
    upright = None if wanted is not None else _most_upright(recording, spec.lead)
    if upright is not None:
        others = [k for k in range(len(recording.leads)) if k != upright]
        remarks.append(
            f"{', '.join(recording.leads)}: none is named as the lead that is drawn first; "
            f"{recording.leads[upright]}, the most upright (place {upright + 1}), stands for it"
        )
        recording = _of_leads(recording, [upright, *others])
    remarks += _second_lead(recording, spec)
    return recording, spec, choose_lead(recording, spec.lead), remarks


def _of_leads(recording: Recording, columns: list[int]) -> Recording:
    return replace(
        recording,
        leads=tuple(recording.leads[k] for k in columns),
        signal=recording.signal[:, columns],
        adc_limits=recording.adc_limits[columns],
    )


def _most_upright(recording: Recording, names: Sequence[str]) -> int | None:
    """Which of several leads stands for the one that is drawn first, if no name tells.

    Limb lead II, on which networks of this project learn, is upright in most people, other leads
    of long recordings (V1) are not. Skewness tells upright from inverted without knowing where
    beats are; of DS1's 22 records with names taken away it finds MLII in 20, whatever their order.
    Equal names (two leads "ECG") tell as little as none.
    """
    written = [lead_name(lead) for lead in recording.leads]
    chosen = choose_lead(recording, names)
    known = written[chosen] in {lead_name(name) for name in names}
    among = [k for k, name in enumerate(written) if not known or name == written[chosen]]
    if len(among) < 2:
        return None
    skewness = [_skewness(condition(recording, k, _SKEW_HZ)) for k in among]
    # Of leads that are as good as equal, the first.
    return among[[each >= max(skewness) - _AS_UPRIGHT for each in skewness].index(True)]


def _skewness(signal: np.ndarray) -> float:
    away = signal - signal.mean(dtype=np.float64)
    deviation = max(float(np.std(signal, dtype=np.float64)), 1e-9)
    return float(np.mean(away**3)) / deviation**3


def _second_lead(recording: Recording, spec: Spec) -> list[str]:
    """What is to be said of the second lead, where the image has one."""
    if not isinstance(spec, (*PANELLED, FeaturesSpec)) or spec.leads < 2:
        return []
    second = lead_columns(recording, spec.lead, spec.leads, spec.second_lead)[1]
    if second is None:
        return ["no second lead: its part of the image is empty"]
    name = recording.leads[second]
    known = {lead_name(lead) for lead in spec.second_lead}
    if known and lead_name(name) not in known:
        return [f"second lead {name}; the image is meant for {', '.join(spec.second_lead)}"]
    return []


def spread(recording: Recording) -> str:
    """How long and how high a recording is, in words, where no heartbeat was found in it."""
    leads = [lead[np.isfinite(lead)] for lead in recording.signal.T]
    height = max((float(np.ptp(lead)) for lead in leads if lead.size), default=0.0)
    seconds = len(recording.signal) / recording.fs
    return f"{seconds:.3g} s at {recording.fs:g} Hz, highest less lowest value {height:.3g} mV"


def oddities(recording: Recording, spec: Spec, lead: int, samples: np.ndarray) -> list[str]:
    """What makes one doubt the header: rates, gains and gaps, in words."""
    remarks = []
    if recording.fs < _LEAST_HZ:
        remarks.append(f"{recording.fs:g} Hz: too coarse for the shape of a beat")
    signal = recording.signal[:, lead]
    if len(samples) > 1:
        rr = float(np.median(np.diff(samples))) / recording.fs
        if not _USUAL_RR_S[0] <= rr <= _USUAL_RR_S[1]:
            remarks.append(f"median RR {rr:.2f} s: is the sampling frequency right?")
    reach = max(1, round(_PEAK_S * recording.fs))
    near = windows(signal, samples[:: max(1, len(samples) // 400)], reach, reach + 1)
    heights = np.ptp(near, axis=1)
    heights = heights[np.isfinite(heights)]
    if len(heights):
        height = float(np.median(heights))
        if not _USUAL_R_MV[0] <= height <= _USUAL_R_MV[1]:
            remarks.append(f"deflection at R {height:.3g} mV: are gain and units right?")
    drawn: list[int | None] = [lead]
    if isinstance(spec, (*PANELLED, FeaturesSpec)):
        drawn = lead_columns(recording, spec.lead, spec.leads, spec.second_lead)
    for column in drawn:
        if column is not None:
            in_gaps = int(np.isnan(recording.signal[samples, column]).sum())
            where = "the signal" if column == lead else f"lead {recording.leads[column]}"
            if in_gaps:
                remarks.append(f"{in_gaps} beats where {where} is missing")
    return remarks
