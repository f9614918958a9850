"""The synthetic sample dataset: the same bytes each time, and what a cardiologist expects."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb
from scipy.integrate import solve_ivp
from wfdb import processing

from ecgbeats.config import SampleSource
from ecgbeats.datasets import read_manifest
from ecgbeats.errors import ConfigError, DataError
from ecgbeats.files import sha256_file, sha256_tree
from ecgbeats.records import BEAT_SYMBOLS, KNOWN_SYMBOLS
from ecgbeats.sources import sample
from ecgbeats.sources.cohort import COHORT
from ecgbeats.sources.ecgsyn import Waves, relax, rr_process, sum_waves
from ecgbeats.sources.sample import make_sample

pytestmark = pytest.mark.unit

AAMI = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
FS = 360.0
MINUTES = 3.0


def params(**changes: Any) -> SampleSource:
    values = {"source": "sample", "patients": 4, "minutes": 0.6, "fs": FS, "seed": 0}
    return SampleSource.model_validate(values | changes)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One record of each kind of patient."""
    folder = tmp_path_factory.mktemp("sample") / "data"
    make_sample(params(patients=len(COHORT), minutes=MINUTES), folder, workers=1)
    return folder


def records_of(folder: Path, basic: str = "NLR/") -> list[str]:
    names = read_manifest(folder).record_names
    return [n for n, kind in zip(names, COHORT, strict=True) if kind.basic in basic]


@functools.cache
def signal_of(path: Path) -> np.ndarray:
    return np.asarray(wfdb.rdrecord(str(path)).p_signal)


def beats_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    annotation = wfdb.rdann(str(path), "atr")
    symbols = np.array(annotation.symbol)
    beat = np.isin(symbols, [*BEAT_SYMBOLS, "!"])
    return annotation.sample[beat], symbols[beat]


# The same bytes


def test_number_of_workers_does_not_change_a_byte(tmp_path: Path) -> None:
    make_sample(params(), tmp_path / "one", workers=1)
    make_sample(params(), tmp_path / "two", workers=2)
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "two")


def test_another_seed_gives_other_signals_and_another_version(tmp_path: Path) -> None:
    first = make_sample(params(seed=0), tmp_path / "0", workers=1)
    other = make_sample(params(seed=1), tmp_path / "1", workers=1)
    assert first.version != other.version
    for name in first.record_names:
        for suffix in (".dat", ".atr"):
            left, right = (tmp_path / seed / f"{name}{suffix}" for seed in "01")
            assert sha256_file(left) != sha256_file(right)


def test_more_patients_leave_the_first_ones_as_they_were(tmp_path: Path) -> None:
    few = make_sample(params(patients=4), tmp_path / "few", workers=1)
    many = make_sample(params(patients=6), tmp_path / "many", workers=1)
    assert few.version != many.version
    assert many.record_names[:4] == few.record_names
    for name in few.record_names:
        for suffix in (".dat", ".hea", ".atr"):
            file = f"{name}{suffix}"
            assert sha256_file(tmp_path / "few" / file) == sha256_file(tmp_path / "many" / file)


# What is written


def test_manifest_says_what_it_is(tmp_path: Path) -> None:
    manifest = make_sample(params(), tmp_path / "data", workers=1)
    assert read_manifest(tmp_path / "data") == manifest
    assert manifest.synthetic
    assert manifest.source == "sample"
    assert manifest.licence == "CC0-1.0"
    assert "McSharry" in manifest.citation
    assert manifest.record_names == ("s001", "s002", "s003", "s004")
    assert len(set(manifest.patient_of.values())) == 4
    files = {path.name for path in (tmp_path / "data").iterdir()}
    expected = {f"{n}{s}" for n in manifest.record_names for s in (".hea", ".dat", ".atr")}
    assert files == expected | {"dataset.json"}


@pytest.mark.parametrize("fs", [100.0, 250.0, 1000.0])
def test_wfdb_reads_records_back(tmp_path: Path, fs: float) -> None:
    make_sample(params(fs=fs), tmp_path / "data", workers=1)
    record = wfdb.rdrecord(str(tmp_path / "data" / "s001"))
    assert record.fs == fs
    assert record.sig_name == ["MLII", "V1"]
    assert record.units == ["mV", "mV"]
    assert record.sig_len == 0.6 * 60 * fs
    assert any("SYNTHETIC" in comment for comment in record.comments)


def test_signals_are_whole_and_of_human_size(cohort: Path) -> None:
    for name in records_of(cohort):
        signal = signal_of(cohort / name)
        assert np.isfinite(signal).all(), name
        assert np.abs(signal).max() < 6.0, name  # the format holds 10.2 mV
        assert (np.ptp(signal, axis=0) > 0.5).all(), name


def test_annotations_are_known_increasing_and_inside(cohort: Path) -> None:
    for name in records_of(cohort):
        annotation = wfdb.rdann(str(cohort / name), "atr")
        assert set(annotation.symbol) <= KNOWN_SYMBOLS, name
        assert (np.diff(annotation.sample) > 0).all(), name
        assert annotation.sample[0] >= 0
        assert annotation.sample[-1] < MINUTES * 60 * FS
        rhythm = "(P" if name in records_of(cohort, "/") else "(N"
        assert (annotation.symbol[0], annotation.aux_note[0]) == ("+", rhythm), name


def test_flutter_waves_stand_between_their_marks(cohort: Path) -> None:
    inside, waves = False, 0
    for name in records_of(cohort):
        for symbol in wfdb.rdann(str(cohort / name), "atr").symbol:
            if symbol in "[]":
                assert inside == (symbol == "]"), name
                inside = not inside
            elif symbol != "+":
                assert (symbol == "!") == inside, name
                waves += symbol == "!"
    assert waves >= 18


# Who has what


def test_every_class_is_in_enough_patients(cohort: Path) -> None:
    patients: dict[str, set[str]] = defaultdict(set)
    for name in records_of(cohort):
        for symbol in beats_of(cohort / name)[1]:
            patients[symbol].add(name)
    counts = {c: len(set().union(*(patients[s] for s in AAMI[c]))) for c in AAMI}
    assert min(counts[c] for c in "NSVF") >= 6, counts
    assert counts["Q"] >= 3, counts
    assert all(patients[symbol] for symbol in "NV/RLA!EFfQjJea")


def test_four_patients_hold_every_aami_class(tmp_path: Path) -> None:
    manifest = make_sample(params(patients=4), tmp_path / "data", workers=1)
    seen = Counter(
        s for name in manifest.record_names for s in beats_of(tmp_path / "data" / name)[1].tolist()
    )
    for name, symbols in AAMI.items():
        assert sum(seen[s] for s in symbols) >= 2, name


# What a cardiologist expects


def test_premature_beats_come_early_and_only_ventricular_ones_are_compensated(
    cohort: Path,
) -> None:
    after: dict[str, list[float]] = {"A": [], "V": []}
    for name in records_of(cohort, "NLR"):
        position, symbol = beats_of(cohort / name)
        basic = np.isin(symbol, list("NLR"))
        rr = np.diff(position)
        median = np.median(rr[basic[1:] & basic[:-1]])
        for i in range(1, len(symbol) - 1):
            if symbol[i] in after and basic[i - 1] and basic[i + 1]:
                assert rr[i - 1] < 0.85 * median, (name, i, symbol[i])
                after[symbol[i]].append((rr[i - 1] + rr[i]) / median)
    assert len(after["A"]) > 50 and len(after["V"]) > 50
    assert np.median(after["A"]) < 1.9
    assert np.median(after["V"]) == pytest.approx(2.0, abs=0.05)


def test_ventricular_beats_are_wider_than_normal_ones(cohort: Path) -> None:
    for name in records_of(cohort, "N"):
        position, symbol = beats_of(cohort / name)
        widths = {
            s: np.median([_width(signal_of(cohort / name)[:, 0], p) for p in position[symbol == s]])
            for s in "NV"
        }
        assert widths["V"] > 1.5 * widths["N"], (name, widths)


def _width(lead: np.ndarray, position: int) -> float:
    """Seconds around the annotation for which the lead stays beyond half of its deflection."""
    reach = round(0.12 * FS)
    beat = lead[max(position - reach, 0) : position + reach]
    beat = np.abs(beat - np.median(lead[max(position - 3 * reach, 0) : position + 3 * reach]))
    peak = min(reach, position)
    low = beat < 0.5 * beat[peak]
    before = np.flatnonzero(low[:peak])
    after = np.flatnonzero(low[peak:])
    left = peak - before[-1] if len(before) else peak
    right = after[0] if len(after) else len(beat) - peak
    return float((left + right) / FS)


@pytest.mark.parametrize(("basic", "main_sign"), [("N", -1), ("L", -1), ("R", +1), ("/", -1)])
def test_lead_v1_has_the_shape_of_the_basic_beat(cohort: Path, basic: str, main_sign: int) -> None:
    for name in records_of(cohort, basic):
        position, symbol = beats_of(cohort / name)
        beat = _average(signal_of(cohort / name)[:, 1], position[symbol == basic])
        main = int(np.argmax(np.abs(beat)))
        assert np.sign(beat[main]) == main_sign, name
        if basic == "R":  # rSR': a small r, then S, then the higher R'
            s_wave = int(np.argmin(beat[:main]))
            assert beat[s_wave] < -0.05 < 0.05 < beat[:s_wave].max(), name


def test_normal_beats_have_a_p_wave_and_junctional_ones_none(cohort: Path) -> None:
    # The eighth kind of patient has junctional rhythm, at the same noise as its sinus rhythm.
    path = cohort / "s008"
    position, symbol = beats_of(path)

    def p_height(chosen: np.ndarray) -> float:
        lead = signal_of(path)[:, 0]
        average = np.mean([lead[p - 108 : p - 14] for p in chosen if p > 108], axis=0)
        return float(np.ptp(average - np.linspace(average[0], average[-1], len(average))))

    assert p_height(position[symbol == "N"]) > 2 * p_height(position[symbol == "j"])


def _average(lead: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Mean QRS complex, from its own isoelectric line."""
    reach = round(0.1 * FS)
    beats = [lead[p - reach : p + reach] for p in positions if reach <= p < len(lead) - reach]
    average = np.mean(beats, axis=0)
    return np.asarray(average - average[:7].mean())


def test_an_independent_detector_finds_the_annotated_beats(cohort: Path) -> None:
    tolerance = round(0.15 * FS)  # ANSI/AAMI EC57
    for name in records_of(cohort, "NLR"):
        position, symbol = beats_of(cohort / name)
        if "!" in symbol:
            continue
        found = processing.xqrs_detect(signal_of(cohort / name)[:, 0], FS, verbose=False)
        later = position[position > 5 * FS]  # the detector learns on the first beats
        distance = np.abs(later[:, None] - found).min(axis=1)
        assert (distance <= tolerance).mean() > 0.94, name
        normal = np.isin(symbol[position > 5 * FS], list("NLR"))
        assert (distance[normal] <= tolerance).mean() > 0.97, name
        assert np.median(distance[normal]) <= 0.02 * FS, name
        back = np.abs(found[:, None] - position).min(axis=1)
        assert (back <= tolerance).mean() > 0.97, name


# The model's own equations


def test_waves_are_gaussians_wherever_they_fall() -> None:
    waves = Waves(np.array([0.5, 0.9, -0.01]), np.array([0.02, 0.05, 0.01]), np.array([1, -2, 3.0]))
    time = np.arange(500) / 500
    expected = sum(
        h * np.exp(-((time - t) ** 2) / (2 * w**2))
        for t, w, h in zip(waves.time, waves.width, waves.height, strict=True)
    )
    np.testing.assert_allclose(sum_waves(waves, 500, 500.0), expected, atol=1e-4)


def test_relaxation_solves_the_model_equation() -> None:
    fs = 360.0
    time = np.arange(0, 4, 1 / fs)

    def potential(t: Any) -> Any:
        return np.exp(-0.5 * ((t - 1.5) / 0.05) ** 2)

    def slope(t: float) -> float:
        return float(-(t - 1.5) / 0.05**2 * potential(t))

    def baseline(t: Any) -> Any:
        return 0.1 * np.sin(2 * np.pi * 0.25 * t)

    ours = relax(potential(time), baseline(time), fs)
    reference = solve_ivp(
        lambda t, z: slope(t) - (z - baseline(t)),
        (0, time[-1]),
        [ours[0]],
        t_eval=time,
        max_step=0.005,
        rtol=1e-8,
        atol=1e-10,
    )
    np.testing.assert_allclose(ours, reference.y[0], atol=1e-4)


def test_rr_process_has_its_two_bands() -> None:
    rng = np.random.default_rng(0)
    rr, breath = rr_process(rng, 600, mean=0.8, deviation=0.04, lf_hf=1.0, respiration=0.25)
    assert len(rr) >= 600 * 4
    assert rr.mean() == pytest.approx(0.8, abs=1e-3)
    assert rr.std() == pytest.approx(0.04, rel=0.2)
    power = np.abs(np.fft.rfft(rr - rr.mean())) ** 2
    frequency = np.fft.rfftfreq(len(rr), 1 / 4)
    low = power[np.abs(frequency - 0.1) < 0.04].sum()
    high = power[np.abs(frequency - 0.25) < 0.04].sum()
    assert low + high > 0.99 * power.sum()
    assert low / high == pytest.approx(1.0, rel=0.05)
    assert np.corrcoef(rr, breath)[0, 1] > 0.5


# What goes wrong


@pytest.mark.parametrize("workers", [0, -1])
def test_impossible_workers_are_refused(tmp_path: Path, workers: int) -> None:
    with pytest.raises(ConfigError, match=r"workers.*got"):
        make_sample(params(), tmp_path / "data", workers=workers)
    assert not (tmp_path / "data").exists()


def test_negative_seed_is_refused(tmp_path: Path) -> None:
    unchecked = SampleSource.model_construct(**(params().model_dump() | {"seed": -1}))
    with pytest.raises(ConfigError, match=r"seed.*-1"):
        make_sample(unchecked, tmp_path / "data", workers=1)


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match=r"dataset\.json"):
        make_sample(params(), tmp_path, workers=1)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_nothing_half_written_remains_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    make_sample(params(), folder, workers=1)
    before = sha256_tree(folder)
    written = []

    def full_disk(name: str, *args: Any, **kwargs: Any) -> None:
        written.append(name)
        if len(written) == 3:
            raise OSError("no space left on device")

    monkeypatch.setattr(sample.wfdb, "wrann", full_disk)
    for target in (folder, tmp_path / "fresh"):
        written.clear()
        with pytest.raises(OSError, match="no space"):
            make_sample(params(seed=1), target, workers=1)
    assert sha256_tree(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
