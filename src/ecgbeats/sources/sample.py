"""A small synthetic dataset: annotated two-lead WFDB records of patients who differ.

It needs no network and shows that the workflow works. It is no evidence about real hearts, and
its manifest and headers say so. The signals come from `ecgsyn`, the patients from `cohort`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import wfdb
from scipy.interpolate import CubicSpline
from scipy.signal import butter, lfilter, sosfilt

from ecgbeats.datasets import MANIFEST, Manifest, RecordEntry, write_manifest
from ecgbeats.errors import ConfigError, DataError
from ecgbeats.files import canonical_json, folder_written_aside, sha256_text
from ecgbeats.parallel import parallel_map
from ecgbeats.sources.cohort import (
    BREATH_RATE,
    COHORT,
    LEADS,
    Rhythm,
    draw_patient,
    draw_rhythm,
    waves_of,
)
from ecgbeats.sources.ecgsyn import CITATION, Waves, relax, sum_waves

if TYPE_CHECKING:
    from ecgbeats.config import SampleSource

# Goes up whenever the same parameters would give other files.
GENERATOR_VERSION = 1
ANNOTATOR = "atr"
LICENCE = "CC0-1.0"

# As in the MIT-BIH database: 200 units per millivolt, two 12-bit samples in three bytes.
_GAIN, _FORMAT = 200.0, "212"
# An annotation stands at the largest QRS deflection within this many seconds of the beat.
_FIDUCIAL_REACH = 0.045


def make_sample(params: SampleSource, folder: Path, *, workers: int | None = None) -> Manifest:
    """Fill `folder` with one synthetic record per patient, and the manifest.

    The files depend on `params` alone, down to the byte. Patient i is the same in a sample of
    any number of patients. An existing dataset in `folder` is replaced once the new one is
    whole; on an error it stays as it was.

    Parameters
    ----------
    params : SampleSource
        Number of patients, minutes each, sampling frequency in Hz, seed.
    folder : Path
        The dataset's folder.
    workers : int, optional
        Processes; by default one per processor.

    Returns
    -------
    Manifest

    Raises
    ------
    ConfigError
        The seed is negative or `workers` is below one.
    DataError
        `folder` holds something that is no dataset.

    Notes
    -----
    A worker holds one record at a time.
    """
    if params.seed < 0:
        raise ConfigError(f"sample seed: expected an integer >= 0, got {params.seed}")
    if workers is not None and workers < 1:
        raise ConfigError(f"sample workers: expected an integer >= 1, got {workers}")
    folder = Path(folder)
    _refuse_to_replace(folder)
    digits = max(3, len(str(params.patients)))
    seeds = np.random.SeedSequence(params.seed).spawn(params.patients)
    with folder_written_aside(folder) as aside:
        jobs = [
            _Job(f"s{i + 1:0{digits}d}", i, seed, params.minutes * 60, params.fs, aside)
            for i, seed in enumerate(seeds)
        ]
        parallel_map(
            _write_record, jobs, job="sample", name=lambda job: job.record, workers=workers
        )
        manifest = Manifest(
            name="sample",
            source="sample",
            version=sample_version(params),
            licence=LICENCE,
            citation=CITATION,
            synthetic=True,
            annotator=ANNOTATOR,
            records=tuple(RecordEntry(record=job.record, patient=job.record) for job in jobs),
        )
        write_manifest(aside, manifest)
    return manifest


def sample_version(params: SampleSource) -> str:
    """Version of the dataset that `params` give: equal for equal files."""
    values = {
        "generator": GENERATOR_VERSION,
        "patients": params.patients,
        "minutes": params.minutes,
        "fs": params.fs,
        "seed": params.seed,
    }
    return f"{GENERATOR_VERSION}-{sha256_text(canonical_json(values))[:12]}"


@dataclass(frozen=True)
class _Job:
    record: str
    index: int
    seed: np.random.SeedSequence
    seconds: float
    fs: float
    folder: Path


def _write_record(job: _Job) -> None:
    rng = np.random.default_rng(job.seed)
    kind = COHORT[job.index % len(COHORT)]
    patient = draw_patient(kind, rng)
    samples = round(job.seconds * job.fs)
    rhythm = draw_rhythm(patient, job.seconds, rng)
    *leads, qrs = waves_of(rhythm, patient, rng)
    noise = _draw_noise(rng)
    digital = np.empty((samples, len(LEADS)), np.int16)
    for lead, waves in enumerate(leads):
        potential = sum_waves(_not_narrower(waves, job.fs), samples, job.fs)
        baseline = _baseline(rhythm.breath, noise, samples, job.fs, rng)
        signal = relax(potential, baseline, job.fs) + _disturbance(noise, samples, job.fs, rng)
        digital[:, lead] = np.round(signal * _GAIN)
    rows = _annotations(rhythm, sum_waves(qrs, samples, job.fs), job.fs)
    wfdb.wrsamp(
        job.record,
        fs=int(job.fs) if float(job.fs).is_integer() else job.fs,
        units=["mV"] * len(LEADS),
        sig_name=list(LEADS),
        d_signal=digital,
        fmt=[_FORMAT] * len(LEADS),
        adc_gain=[_GAIN] * len(LEADS),
        baseline=[0] * len(LEADS),
        comments=[
            "SYNTHETIC: made by ecgbeats, no person's heart.",
            f"Generator version {GENERATOR_VERSION}, basic beat {kind.basic}.",
        ],
        write_dir=str(job.folder),
    )
    wfdb.wrann(
        job.record,
        ANNOTATOR,
        np.array([row[0] for row in rows]),
        symbol=[row[1] for row in rows],
        aux_note=[row[2] for row in rows],
        write_dir=str(job.folder),
    )


@dataclass(frozen=True)
class _Noise:
    """What disturbs one recording. Heights in mV."""

    breath: float
    drift: float
    muscle: float
    mains: float
    mains_hz: float
    # Movements of an electrode per minute.
    motion: float


def _draw_noise(rng: np.random.Generator) -> _Noise:
    return _Noise(
        breath=rng.uniform(0.02, 0.14),
        drift=rng.uniform(0.02, 0.10),
        muscle=np.exp(rng.uniform(np.log(0.004), np.log(0.022))),
        mains=rng.uniform(0.003, 0.015) if rng.random() < 0.5 else 0.0,
        mains_hz=50.0 if rng.random() < 0.5 else 60.0,
        motion=rng.uniform(0.0, 0.35),
    )


def _baseline(
    breath: np.ndarray, noise: _Noise, samples: int, fs: float, rng: np.random.Generator
) -> np.ndarray:
    """z0 of the model: breathing, and a slow drift of the electrode."""
    time = np.arange(samples) / fs
    grid = np.arange(len(breath)) / BREATH_RATE
    slow = lfilter([0.02], [1, -0.98], rng.standard_normal(len(breath)))
    drift = np.asarray(slow) / max(float(np.std(slow)), 1e-9)
    lead_gain = rng.uniform(0.6, 1.2)
    knots = lead_gain * noise.breath * breath + noise.drift * drift
    # Cubic: a straight line between four knots per second would leave corners.
    return np.asarray(CubicSpline(grid, knots)(time))


def _disturbance(noise: _Noise, samples: int, fs: float, rng: np.random.Generator) -> np.ndarray:
    """Muscle noise, mains hum, movements of the electrode, and the amplifier's own noise."""
    time = np.arange(samples) / fs
    seconds = samples / fs
    moves = rng.uniform(0, seconds, rng.poisson(noise.motion * seconds / 60))
    width = rng.uniform(0.08, 0.35, len(moves))
    # The electrode goes one way and comes back the other.
    height = rng.uniform(0.15, 0.6, len(moves)) * rng.choice([-1.0, 1.0], len(moves))
    motion = sum_waves(
        Waves(
            np.concatenate([moves, moves + 1.6 * width]),
            np.concatenate([width, 1.3 * width]),
            np.concatenate([height, -0.5 * height]),
        ),
        samples,
        fs,
    )
    tension = 1.0 + sum_waves(Waves(moves, 2 * width, np.full(len(moves), 3.0)), samples, fs)
    band = butter(2, [18.0, min(110.0, 0.45 * fs)], "bandpass", fs=fs, output="sos")
    muscle = sosfilt(band, rng.standard_normal(samples))
    total = motion + noise.muscle * tension * muscle / muscle.std()
    total += 0.002 * rng.standard_normal(samples)
    if noise.mains and noise.mains_hz < 0.5 * fs:
        total += noise.mains * np.sin(2 * np.pi * (noise.mains_hz * time + rng.random()))
    return np.asarray(total)


def _not_narrower(waves: Waves, fs: float) -> Waves:
    """Widen what the sampling frequency cannot hold, as an anti-aliasing filter does."""
    return Waves(waves.time, np.maximum(waves.width, 0.5 / fs), waves.height)


def _annotations(rhythm: Rhythm, qrs: np.ndarray, fs: float) -> list[tuple[int, str, str]]:
    """Sample, symbol and aux note of all annotations, in strictly increasing order of sample."""
    reach = round(_FIDUCIAL_REACH * fs)
    deflection = np.abs(qrs)
    rows: dict[int, tuple[str, str]] = {}
    for beat in rhythm.beats:
        first = max(round(beat.time * fs) - reach, 0)
        peak = first + int(np.argmax(deflection[first : first + 2 * reach + 1]))
        rows[peak] = (beat.symbol, "")
    for time, symbol, aux in rhythm.marks:
        sample = round(time * fs)
        while sample in rows:
            sample += 1
        rows[sample] = (symbol, aux)
    return [(sample, *rows[sample]) for sample in sorted(rows)]


def _refuse_to_replace(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise DataError(
            f"{folder}: expected an empty folder or a dataset to replace; "
            f"found files without a {MANIFEST}"
        )
