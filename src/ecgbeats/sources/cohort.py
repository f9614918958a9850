"""Synthetic patients: what their beats look like and in what order these come.

Shapes are tables of Gaussian waves per lead (see `ecgsyn`). A patient's own tables are the
reference tables below, varied in size, width, axis and repolarisation. The order of beats comes
from a script: episodes (a premature beat, a couplet, bigeminy, flutter, ...) at random places
between beats of the patient's basic rhythm, each with its own timing rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ecgbeats.sources.ecgsyn import Waves, rr_process

LEADS = ("MLII", "V1")
# Samples per second of the RR process and of breathing.
BREATH_RATE = 4.0

_MLII, _V1 = 0, 1

# Rows of (lead, seconds from the fiducial point, width in seconds, millivolts).
_Rows = tuple[tuple[int, float, float, float], ...]


class Shape(NamedTuple):
    """Ventricular part of a beat.

    Attributes
    ----------
    qrs, t : ndarray of float64, shape (waves, 4)
        Rows of lead index, position in s, width in s and height in mV. Positions and widths of
        `t` are those at an RR interval of 1 s; they go with its square root (Bazett).
    """

    qrs: np.ndarray
    t: np.ndarray


def _shape(qrs: _Rows, t: _Rows) -> Shape:
    return Shape(np.array(qrs, float), np.array(t, float).reshape(-1, 4))


_REFERENCE: Mapping[str, Shape] = {
    "normal": _shape(
        qrs=(
            (_MLII, -0.024, 0.0080, -0.10),
            (_MLII, 0.000, 0.0115, 1.00),
            (_MLII, 0.026, 0.0095, -0.20),
            (_V1, -0.012, 0.0090, 0.28),
            (_V1, 0.012, 0.0125, -0.90),
        ),
        t=(
            (_MLII, 0.250, 0.050, 0.13),
            (_MLII, 0.310, 0.030, 0.17),
            (_V1, 0.255, 0.050, 0.05),
            (_V1, 0.310, 0.033, 0.06),
        ),
    ),
    # Right bundle branch block: rSR' in V1, slurred S in the inferior lead.
    "rbbb": _shape(
        qrs=(
            (_MLII, -0.022, 0.0080, -0.08),
            (_MLII, 0.000, 0.0120, 0.90),
            (_MLII, 0.056, 0.0220, -0.32),
            (_V1, -0.016, 0.0085, 0.25),
            (_V1, 0.009, 0.0100, -0.50),
            (_V1, 0.052, 0.0170, 0.80),
        ),
        t=(
            (_MLII, 0.270, 0.050, 0.13),
            (_MLII, 0.330, 0.030, 0.16),
            (_V1, 0.270, 0.055, -0.20),
            (_V1, 0.330, 0.032, -0.08),
        ),
    ),
    # Left bundle branch block: notched R without Q; deep, wide QS in V1; discordant ST and T.
    "lbbb": _shape(
        qrs=(
            (_MLII, -0.004, 0.0170, 0.75),
            (_MLII, 0.040, 0.0190, 0.62),
            (_V1, -0.030, 0.0070, 0.05),
            (_V1, 0.006, 0.0190, -0.85),
            (_V1, 0.044, 0.0230, -0.90),
        ),
        t=(
            (_MLII, 0.170, 0.060, -0.10),
            (_MLII, 0.310, 0.045, -0.22),
            (_V1, 0.160, 0.060, 0.22),
            (_V1, 0.300, 0.050, 0.32),
        ),
    ),
    # Ectopic focus in the right ventricle: shaped like left bundle branch block.
    "pvc-right": _shape(
        qrs=(
            (_MLII, -0.036, 0.0140, 0.20),
            (_MLII, 0.000, 0.0160, 1.20),
            (_MLII, 0.042, 0.0220, 0.62),
            (_V1, -0.040, 0.0100, 0.14),
            (_V1, 0.006, 0.0175, -1.15),
            (_V1, 0.046, 0.0240, -0.70),
        ),
        t=(
            (_MLII, 0.190, 0.055, -0.22),
            (_MLII, 0.310, 0.052, -0.42),
            (_V1, 0.180, 0.055, 0.18),
            (_V1, 0.310, 0.052, 0.36),
        ),
    ),
    # Ectopic focus in the left ventricle: superior axis, shaped like right bundle branch block.
    "pvc-left": _shape(
        qrs=(
            (_MLII, -0.040, 0.0120, 0.25),
            (_MLII, 0.002, 0.0175, -1.15),
            (_MLII, 0.044, 0.0240, -0.75),
            (_V1, -0.028, 0.0160, 0.60),
            (_V1, 0.012, 0.0180, 0.80),
            (_V1, 0.050, 0.0230, 0.50),
        ),
        t=(
            (_MLII, 0.190, 0.055, 0.18),
            (_MLII, 0.310, 0.052, 0.40),
            (_V1, 0.190, 0.055, -0.12),
            (_V1, 0.310, 0.052, -0.34),
        ),
    ),
    # Electrode in the apex of the right ventricle: negative in both leads, T upright.
    "paced": _shape(
        qrs=(
            (_MLII, -0.036, 0.0130, 0.10),
            (_MLII, 0.002, 0.0190, -1.00),
            (_MLII, 0.048, 0.0250, -0.65),
            (_V1, -0.006, 0.0190, -0.85),
            (_V1, 0.042, 0.0260, -0.70),
        ),
        t=(
            (_MLII, 0.200, 0.060, 0.14),
            (_MLII, 0.330, 0.052, 0.42),
            (_V1, 0.190, 0.060, 0.16),
            (_V1, 0.330, 0.052, 0.34),
        ),
    ),
    "escape": _shape(
        qrs=(
            (_MLII, -0.034, 0.0160, 0.30),
            (_MLII, 0.004, 0.0170, 0.70),
            (_MLII, 0.048, 0.0230, 0.50),
            (_V1, -0.026, 0.0160, 0.45),
            (_V1, 0.012, 0.0170, 0.65),
            (_V1, 0.054, 0.0240, 0.35),
        ),
        t=(
            (_MLII, 0.220, 0.060, -0.10),
            (_MLII, 0.350, 0.055, -0.28),
            (_V1, 0.220, 0.060, -0.08),
            (_V1, 0.350, 0.055, -0.26),
        ),
    ),
    # One cycle of ventricular flutter: no QRS and T apart.
    "flutter": _shape(
        qrs=(
            (_MLII, 0.000, 0.0360, 1.05),
            (_MLII, 0.105, 0.0390, -0.95),
            (_V1, 0.012, 0.0360, 0.75),
            (_V1, 0.115, 0.0390, -0.70),
        ),
        t=(),
    ),
}

# P waves, from their middle, at unit height.
_P_WAVES: Mapping[str, np.ndarray] = {
    "sinus": np.array(
        [
            (_MLII, -0.014, 0.020, 0.75),
            (_MLII, 0.016, 0.020, 0.75),
            (_V1, -0.014, 0.016, 0.55),
            (_V1, 0.020, 0.018, -0.45),
        ]
    ),
    "ectopic": np.array([(_MLII, 0.0, 0.018, 1.0), (_V1, 0.0, 0.018, 0.9)]),
    "retrograde": np.array([(_MLII, 0.0, 0.018, -1.0), (_V1, 0.0, 0.018, 0.7)]),
}

# Pacemaker impulse, on its own before the QRS complex.
_SPIKE_LEAD_TIME = 0.075
_SPIKE = ((_MLII, 0.0, 0.0014, -0.9), (_V1, 0.0, 0.0014, 0.6))

# No supraventricular impulse is conducted sooner than this after a beat, in seconds.
_REFRACTORY = 0.36


@dataclass(frozen=True)
class Kind:
    """A kind of patient: the symbol of the basic beat, and episodes per 1,000 beats."""

    basic: str
    episodes: Mapping[str, float]


# Patients are these in turn. The first four hold every class of the AAMI scheme, the eighteen
# hold N, S, V and F in at least six patients each, and every symbol of both schemes.
COHORT: tuple[Kind, ...] = (
    Kind("N", {"A": 40, "V": 35, "F": 25}),
    Kind("N", {"A": 15, "V": 40, "VV": 6, "bigeminy": 5, "F": 40}),
    Kind("R", {"A": 45, "V": 35, "F": 20}),
    Kind("/", {"capture": 14, "V": 10}),
    Kind("L", {"A": 20, "V": 45}),
    Kind("N", {"A": 60, "SVTA": 5, "atrial bigeminy": 5, "a": 15, "V": 15, "F": 15}),
    Kind("N", {"VFL": 12, "E": 10, "V": 30, "A": 8}),
    Kind("N", {"NOD": 6, "j": 10, "J": 25, "e": 14, "A": 20, "V": 8}),
    Kind("N", {"V": 50, "VV": 10, "VT": 6, "F": 45, "A": 8}),
    Kind("R", {"A": 35, "V": 20, "F": 30}),
    Kind("L", {"A": 45, "V": 20}),
    Kind("R", {"V": 60, "A": 15, "VV": 5}),
    Kind("/", {"capture": 14, "V": 15}),
    Kind("N", {"A": 8, "V": 12, "F": 20}),
    Kind("L", {"A": 80, "e": 10, "J": 8, "V": 8}),
    Kind("N", {"V": 50, "trigeminy": 6, "F": 45}),
    Kind("N", {"A": 30, "a": 25, "V": 15, "Q": 10}),
    Kind("N", {"V": 45, "A": 25, "F": 35, "j": 8, "Q": 12}),
)

_BASIC_SHAPE = {"N": "normal", "L": "lbbb", "R": "rbbb", "/": "paced"}


@dataclass(frozen=True)
class Patient:
    """What stays the same throughout one recording. Times in s, heights in mV."""

    kind: Kind
    rr_mean: float
    rr_deviation: float
    lf_hf: float
    respiration: float
    shapes: Mapping[str, Shape]
    p_waves: Mapping[str, np.ndarray]
    pr: float
    # Shapes that this patient's ventricular premature beats take, and their coupling to the
    # beat before as a share of the RR interval.
    foci: tuple[str, ...]
    coupling: float
    # Share by which heights vary from beat to beat, and with breathing.
    beat_variation: float
    breath_variation: float


class Beat(NamedTuple):
    """One beat: when, how annotated, and of what it is made.

    `parts` are shape names and their weights: one for a pure beat, two for a fusion. `p` is the
    P wave's name or empty, `p_time` its time relative to the beat.
    """

    time: float
    symbol: str
    parts: tuple[tuple[str, float], ...]
    rr_before: float
    p: str = ""
    p_time: float = 0.0
    spike: bool = False


@dataclass
class Rhythm:
    """A recording's events.

    Attributes
    ----------
    breath : ndarray of float64, shape (n,)
        Breathing, `BREATH_RATE` samples per second, unit variance.
    beats : list of Beat
        In time order; flutter waves ("!") are among them.
    lone_p : list of float
        Times of P waves that no QRS complex follows.
    marks : list of (float, str, str)
        Time, symbol and aux note of what is no beat: rhythm changes, flutter on- and offset.
    """

    breath: np.ndarray
    beats: list[Beat] = field(default_factory=list)
    lone_p: list[float] = field(default_factory=list)
    marks: list[tuple[float, str, str]] = field(default_factory=list)


def draw_patient(kind: Kind, rng: np.random.Generator) -> Patient:
    """Draw a patient of `kind`: size, axis, widths, repolarisation, heart rate."""
    rr_mean = 60 / rng.uniform(58, 92)
    gain = np.array([np.exp(rng.uniform(np.log(0.55), np.log(1.7))), rng.uniform(0.6, 1.4)])
    width = rng.uniform(0.88, 1.14)
    t_gain, t_delay = rng.uniform(0.45, 1.5, 2), rng.uniform(0.94, 1.06)
    ectopic_width = rng.uniform(0.88, 1.12)
    shapes: dict[str, Shape] = {}
    for name, reference in _REFERENCE.items():
        supraventricular = name in ("normal", "rbbb", "lbbb")
        shapes[name] = _vary(
            reference,
            rng,
            gain=gain * (1.0 if supraventricular else rng.uniform(0.95, 1.5)),
            width=width if supraventricular else ectopic_width,
            t_gain=t_gain if supraventricular else rng.uniform(0.8, 1.3, 2),
            t_delay=t_delay,
        )
    shapes["normal"] = _turn_axis(shapes["normal"], rng)
    # Aberrant conduction is functional right bundle branch block of this patient's own beat.
    shapes["aberrant"] = shapes["rbbb"]
    p_gain = rng.uniform(0.07, 0.17)
    p_ectopic = p_gain * rng.uniform(0.5, 1.0) * (1 if rng.random() < 0.5 else -1)
    first = "pvc-right" if rng.random() < 0.5 else "pvc-left"
    other = "pvc-left" if first == "pvc-right" else "pvc-right"
    return Patient(
        kind=kind,
        rr_mean=rr_mean,
        rr_deviation=rr_mean * rng.uniform(0.02, 0.05),
        lf_hf=rng.uniform(0.4, 2.0),
        respiration=rng.uniform(0.2, 0.3),
        shapes=shapes,
        p_waves={
            "sinus": _times_height(_P_WAVES["sinus"], p_gain),
            "ectopic": _times_height(_P_WAVES["ectopic"], p_ectopic),
            "retrograde": _times_height(_P_WAVES["retrograde"], p_gain * 0.8),
        },
        pr=rng.uniform(0.125, 0.18),
        foci=(first, other) if "VT" in kind.episodes or rng.random() < 0.25 else (first,),
        coupling=rng.uniform(0.52, 0.72),
        beat_variation=rng.uniform(0.02, 0.05),
        breath_variation=rng.uniform(0.01, 0.06),
    )


def draw_rhythm(patient: Patient, seconds: float, rng: np.random.Generator) -> Rhythm:
    """Draw the order and times of all beats of a recording of `seconds`."""
    rr, breath = rr_process(
        rng,
        seconds,
        mean=patient.rr_mean,
        deviation=patient.rr_deviation,
        lf_hf=patient.lf_hf,
        respiration=patient.respiration,
        rate=BREATH_RATE,
    )
    heart = _Heart(patient, np.clip(rr, 0.45, 1.5), Rhythm(breath), rng)
    end = seconds - 0.35
    for episode, before in _script(patient, seconds, rng):
        for _ in range(before):
            heart.basic()
        heart.play(episode)
        if heart.now > end:
            break
    while heart.now <= end:
        heart.basic()
    rhythm = heart.rhythm
    rhythm.beats = [beat for beat in rhythm.beats if beat.time <= end]
    rhythm.marks = [mark for mark in rhythm.marks if mark[0] <= end]
    return rhythm


def waves_of(rhythm: Rhythm, patient: Patient, rng: np.random.Generator) -> list[Waves]:
    """All Gaussian waves of a recording, per lead, with beat-to-beat variation.

    The last one holds the QRS complexes alone: where their peak is, the annotation stands.

    Returns
    -------
    list of Waves
        One per lead of `LEADS`, then one for the QRS complexes of the first lead.
    """
    rows: list[np.ndarray] = []
    is_qrs: list[np.ndarray] = []

    def add(table: np.ndarray, time: float, height: float, stretch: float, qrs: bool) -> None:
        row = table.copy()
        row[:, 1] = time + table[:, 1] * stretch
        row[:, 2] *= stretch
        row[:, 3] *= height
        rows.append(row)
        is_qrs.append(np.full(len(row), qrs))

    spike = np.array(_SPIKE)
    breath_time = np.arange(len(rhythm.breath)) / BREATH_RATE
    for beat in rhythm.beats:
        breath = float(np.interp(beat.time, breath_time, rhythm.breath))
        height = 1 + patient.breath_variation * breath
        height *= 1 + patient.beat_variation * rng.standard_normal()
        # Repolarisation follows the rate of the last beats, not of one interval alone.
        interval = 0.4 * np.clip(beat.rr_before, 0.4, 1.4) + 0.6 * patient.rr_mean
        t_height = height * (1 + 2 * patient.beat_variation * rng.standard_normal())
        qrs_stretch = 1 + 0.5 * patient.beat_variation * rng.standard_normal()
        for name, weight in beat.parts:
            shape = patient.shapes[name]
            add(shape.qrs, beat.time, weight * height, qrs_stretch, True)
            add(shape.t, beat.time, weight * t_height, float(np.sqrt(interval)), False)
        if beat.p:
            p_height = 1 + 0.12 * rng.standard_normal()
            add(patient.p_waves[beat.p], beat.time + beat.p_time, p_height, 1.0, False)
        if beat.spike:
            add(spike, beat.time - _SPIKE_LEAD_TIME, 1.0, 1.0, False)
    for time in rhythm.lone_p:
        add(patient.p_waves["sinus"], time, 1.0, 1.0, False)
    table, qrs = np.concatenate(rows), np.concatenate(is_qrs)
    chosen = [table[:, 0] == lead for lead in range(len(LEADS))]
    return [Waves(*table[rows_of, 1:].T) for rows_of in (*chosen, chosen[_MLII] & qrs)]


class _Heart:
    """Makes one beat after another.

    `now` is the time of the last beat. `sinus` is that of the last sinus impulse, given as the
    time of the QRS complex that it made or would have made.
    """

    def __init__(
        self, patient: Patient, rr: np.ndarray, rhythm: Rhythm, rng: np.random.Generator
    ) -> None:
        self.patient, self.rng, self._rr, self.rhythm = patient, rng, rr, rhythm
        self.symbol = patient.kind.basic
        self.paced = self.symbol == "/"
        self.shape = _BASIC_SHAPE[self.symbol]
        self.now = self.sinus = rng.uniform(0.0, 0.5) - 0.25 * patient.rr_mean
        self.rhythm.marks.append((0.05, "+", "(P" if self.paced else "(N"))

    def rr(self) -> float:
        """RR interval of the sinus node now."""
        return float(self._rr[min(int(max(self.now, 0) * BREATH_RATE), len(self._rr) - 1)])

    def play(self, episode: str) -> None:
        episodes: Mapping[str, Callable[[], None]] = {
            "A": self.atrial,
            "a": self.aberrant,
            "J": self.junctional,
            "j": self.junctional_escape,
            "e": self.atrial_escape,
            "V": self.ventricular,
            "VV": self.couplet,
            "VT": self.tachycardia,
            "bigeminy": self.bigeminy,
            "trigeminy": self.trigeminy,
            "SVTA": self.atrial_run,
            "atrial bigeminy": self.atrial_bigeminy,
            "NOD": self.junctional_run,
            "F": self.fusion,
            "Q": self.unclassifiable,
            "E": self.ventricular_escape,
            "VFL": self.flutter,
            "capture": self.capture,
        }
        episodes[episode]()

    # The basic rhythm

    def basic(self) -> None:
        if self.paced:
            # The pacemaker's interval is constant, whatever the sinus node does.
            self._beat(self.now + self.patient.rr_mean, "/", "paced", spike=True)
            return
        self._next_sinus()
        self._beat(self.sinus, self.symbol, self.shape, p="sinus", p_time=-self.patient.pr)

    # Premature supraventricular beats: early, and they reset the sinus node

    def atrial(self, low: float = 0.56, high: float = 0.8, symbol: str = "A") -> None:
        time = self.sinus + self._uniform(low, high) * self.rr()
        time = max(time, self.now + _REFRACTORY)
        shape = "aberrant" if symbol == "a" else self.shape
        pr = self.patient.pr * self._uniform(0.85, 1.15)
        self._beat(time, symbol, shape, p="ectopic", p_time=-pr)
        self._reset_sinus()

    def aberrant(self) -> None:
        self.atrial(0.5, 0.62, "a")

    def junctional(self) -> None:
        time = max(self.sinus + self._uniform(0.6, 0.8) * self.rr(), self.now + _REFRACTORY)
        self._beat(time, "J", self.shape, p="retrograde", p_time=0.11)
        self._reset_sinus()

    def atrial_run(self) -> None:
        self._rhythm_from("(SVTA", 0.3)
        self.atrial()
        interval = self._uniform(0.40, 0.48)
        for _ in range(self.rng.integers(4, 9)):
            time = self.now + interval * self._uniform(0.97, 1.03)
            self._beat(time, "A", self.shape, p="ectopic", p_time=-0.9 * self.patient.pr)
        self._reset_sinus()
        self._rhythm_from("(N", 0.5 * self.rr())

    def atrial_bigeminy(self) -> None:
        self._rhythm_from("(AB", 0.3)
        for _ in range(self.rng.integers(3, 6)):
            self.atrial()
            self.basic()
        self._rhythm_from("(N", 0.5 * self.rr())

    # Escape beats: late, after a pause of the sinus node

    def junctional_escape(self) -> None:
        self._beat(self.now + self._uniform(1.3, 1.6) * self.rr(), "j", self.shape)
        self._reset_sinus()

    def atrial_escape(self) -> None:
        time = self.now + self._uniform(1.25, 1.5) * self.rr()
        self._beat(time, "e", self.shape, p="ectopic", p_time=-0.9 * self.patient.pr)
        self._reset_sinus()

    def junctional_run(self) -> None:
        self._rhythm_from("(NOD", 0.4)
        interval = self._uniform(1.15, 1.35) * self.rr()
        for _ in range(self.rng.integers(3, 8)):
            self._beat(self.now + interval * self._uniform(0.98, 1.02), "j", self.shape)
        self._reset_sinus()
        self._rhythm_from("(N", 0.5 * self.rr())

    def ventricular_escape(self) -> None:
        self._beat(self.now + self._uniform(1.4, 1.7), "E", "escape")
        self._reset_sinus()

    # Premature ventricular beats: early; the sinus node goes on, its next impulse is blocked

    def ventricular(self, focus: str = "") -> None:
        coupling = self.patient.coupling * self._uniform(0.94, 1.06)
        last = self.now if self.paced else self.sinus
        self._ventricular_at(max(last + coupling * self.rr(), self.now + 0.34), focus)
        self._skip_blocked(at_least=1)

    def couplet(self) -> None:
        self.ventricular_series(2)
        self._skip_blocked(at_least=1)

    def tachycardia(self) -> None:
        self._rhythm_from("(VT", 0.3)
        self.ventricular_series(int(self.rng.integers(3, 8)))
        self._skip_blocked(at_least=1)
        self._rhythm_from("(N", 0.5 * self.rr())

    def ventricular_series(self, beats: int) -> None:
        focus = self._focus()
        time = self.sinus + self.patient.coupling * self.rr()
        time = max(time, self.now + 0.34)
        interval = self._uniform(0.38, 0.48)
        for _ in range(beats):
            self._ventricular_at(time, focus)
            time += interval * self._uniform(0.95, 1.05)

    def bigeminy(self) -> None:
        self._geminy("(B", 1)

    def trigeminy(self) -> None:
        self._geminy("(T", 2)

    def _geminy(self, name: str, between: int) -> None:
        self._rhythm_from(name, 0.25)
        focus = self._focus()
        for _ in range(self.rng.integers(3, 7)):
            self.ventricular(focus)
            for _ in range(between):
                self.basic()
        self._rhythm_from("(N", 0.5 * self.rr())

    def fusion(self) -> None:
        # The focus fires so late that the sinus impulse meets it half way.
        sinus = self.sinus + self.rr()
        early = self._uniform(0.01, 0.05)
        weight = self._uniform(0.3, 0.65)
        parts = ((self.shape, 1 - weight), (self.patient.foci[0], weight))
        rr = sinus - early - self.now
        p_time = early - self.patient.pr
        self._append(Beat(sinus - early, "F", parts, rr, "sinus", p_time))
        self.sinus = sinus

    def unclassifiable(self) -> None:
        self._next_sinus()
        names = self.rng.choice(["pvc-left", "pvc-right", "escape", "rbbb", "normal"], 2, False)
        weights = self.rng.uniform(0.25, 0.6, 2)
        parts = tuple((str(n), float(w)) for n, w in zip(names, weights, strict=True))
        time = self.sinus - self._uniform(0.0, 0.15)
        self._append(Beat(time, "Q", parts, time - self.now))

    # Flutter and pacing

    def flutter(self) -> None:
        interval = self._uniform(0.2, 0.235)
        start = self.now + self._uniform(0.5, 0.65) * self.rr()
        self.rhythm.marks.append((start - 0.14, "[", ""))
        self.rhythm.marks.append((start - 0.07, "+", "(VFL"))
        time = start
        for _ in range(self.rng.integers(18, 36)):
            self._beat(time, "!", "flutter")
            time += interval * self._uniform(0.94, 1.06)
        self.rhythm.marks.append((self.now + 0.14, "]", ""))
        self._rhythm_from("(IVR", 0.5)
        for _ in range(self.rng.integers(3, 6)):
            self.ventricular_escape()
        self._rhythm_from("(N", 0.5 * self.rr())

    def capture(self) -> None:
        """The sinus node is faster than the pacemaker for a while: fusion, own beats, fusion."""
        faster = self._uniform(0.9, 0.96) * self.patient.rr_mean
        own = int(self.rng.integers(1, 6))
        for i in range(own + 2):
            time = self.now + faster * self._uniform(0.985, 1.015)
            p_time = -self.patient.pr
            if 0 < i <= own:
                if i == 1:
                    self._rhythm_from("(N", 0.4)
                self._beat(time, "N", "normal", p="sinus", p_time=p_time)
            else:
                if i:
                    self._rhythm_from("(P", 0.4)
                weight = self._uniform(0.35, 0.65)
                parts = (("normal", 1 - weight), ("paced", weight))
                beat = Beat(time, "f", parts, time - self.now, "sinus", p_time, spike=True)
                self._append(beat)

    # Parts of the above

    def _uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def _focus(self) -> str:
        return str(self.rng.choice(self.patient.foci))

    def _next_sinus(self) -> None:
        """Move to the next sinus impulse that is conducted."""
        self.sinus += self.rr()
        self._skip_blocked()

    def _skip_blocked(self, at_least: int = 0) -> None:
        """Let sinus impulses pass that find the ventricles refractory: P without QRS."""
        if self.paced:
            return
        if at_least:
            self.sinus += self.rr()
            self.rhythm.lone_p.append(self.sinus - self.patient.pr)
        while self.sinus + (self.rr() if at_least else 0.0) < self.now + _REFRACTORY:
            self.sinus += self.rr()
            self.rhythm.lone_p.append(self.sinus - self.patient.pr)

    def _reset_sinus(self) -> None:
        """The sinus node starts its cycle anew from the last beat, a little late."""
        self.sinus = self.now + self._uniform(0.0, 0.1) * self.rr()

    def _ventricular_at(self, time: float, focus: str) -> None:
        self._beat(time, "V", focus or self._focus())

    def _rhythm_from(self, name: str, after: float) -> None:
        self.rhythm.marks.append((self.now + after, "+", name))

    def _beat(
        self,
        time: float,
        symbol: str,
        shape: str,
        *,
        p: str = "",
        p_time: float = 0.0,
        spike: bool = False,
    ) -> None:
        self._append(Beat(time, symbol, ((shape, 1.0),), time - self.now, p, p_time, spike))

    def _append(self, beat: Beat) -> None:
        self.rhythm.beats.append(beat)
        self.now = beat.time


# Beats that an episode takes, about; those not named take two, with the pause.
_LENGTH = {
    "VV": 3,
    "VT": 5,
    "bigeminy": 12,
    "trigeminy": 16,
    "SVTA": 6,
    "atrial bigeminy": 9,
    "NOD": 7,
    "VFL": 16,
    "capture": 6,
}
# Single beats come twice at least, so that no class hangs on one beat.
_SINGLE = frozenset("AaJjeVFQE")


def _script(patient: Patient, seconds: float, rng: np.random.Generator) -> list[tuple[str, int]]:
    """Episodes in random order, each with the number of basic beats before it."""
    beats = seconds / patient.rr_mean
    episodes: list[str] = []
    for name, rate in patient.kind.episodes.items():
        least = 2 if name in _SINGLE else 1
        episodes += [name] * max(least, round(rate * beats / 1000))
    shuffled = [episodes[i] for i in rng.permutation(len(episodes))]
    taken = sum(_LENGTH.get(name, 2) for name in episodes)
    # Something is left over at the end: pauses make the recording hold fewer beats.
    spare = max(0, int(0.93 * beats) - taken - 2 * len(episodes))
    before = 2 + rng.multinomial(spare, np.full(len(episodes), 1 / len(episodes)))
    return list(zip(shuffled, before.tolist(), strict=True))


def _vary(
    shape: Shape,
    rng: np.random.Generator,
    *,
    gain: np.ndarray,
    width: float,
    t_gain: np.ndarray,
    t_delay: float,
) -> Shape:
    """A patient's own version of a reference shape; arrays are per lead."""
    qrs, t = shape.qrs.copy(), shape.t.copy()
    qrs[:, 1:3] *= width
    qrs[:, 3] *= gain[qrs[:, 0].astype(int)] * rng.uniform(0.8, 1.2, len(qrs))
    lead = t[:, 0].astype(int)
    t[:, 1:3] *= t_delay
    t[:, 3] *= gain[lead] * t_gain[lead]
    return Shape(qrs, t)


def _turn_axis(shape: Shape, rng: np.random.Generator) -> Shape:
    """Vary the ratio of S to R, and flatten or invert the T wave of some patients."""
    qrs, t = shape.qrs.copy(), shape.t.copy()
    qrs[2, 3] *= rng.uniform(0.3, 2.2)
    qrs[0, 3] *= rng.uniform(0.0, 1.5)
    t[t[:, 0] == _V1, 3] *= rng.uniform(-1.5, 1.8)
    if rng.random() < 0.15:
        t[t[:, 0] == _MLII, 3] *= rng.uniform(-0.6, 0.3)
    return Shape(qrs, t)


def _times_height(rows: np.ndarray, factor: float) -> np.ndarray:
    scaled = rows.copy()
    scaled[:, 3] *= factor
    return scaled
