"""Any model on anybody's records: what is measured, what is left out, and that it is said."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import wfdb

from ecgbeats.errors import ConfigError, ContractError, DataError
from ecgbeats.evaluation import confident_mistakes
from ecgbeats.files import read_json, write_json
from ecgbeats.imaging.render import render
from ecgbeats.imaging.spec import CompositeSpec, Spec, WaveformSpec
from ecgbeats.imaging.store import BeatImages, render_dataset
from ecgbeats.inference import CARD, Classifier
from ecgbeats.labels import LabelScheme
from ecgbeats.measuring_records import (
    Measured,
    Reading,
    check_out,
    choose_records,
    classify_record,
    in_words,
    measure_records,
)
from ecgbeats.records import read_annotations, read_recording
from tests.support.recordings import AAMI5, bumps, write_dataset
from tests.support.tiny_model import write_tiny_model

pytestmark = pytest.mark.unit

CLASSES = ("N", "S", "V", "F", "Q")
SPEC = WaveformSpec(representation="waveform", height=16, width=16, window="fixed")
COMPOSITE = CompositeSpec(
    representation="composite", panel_height=16, leads=2, values=True, rhythm="quantiles"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(folder, SPEC, CLASSES)
    return folder


def write_record(
    folder: Path,
    name: str = "a",
    *,
    fs: float = 250,
    leads: Sequence[str] = ("II",),
    seconds: float = 12,
    symbols: str = "NNVNANNNNN",
    units: str = "mV",
    gain: float = 200,
    fmt: str = "16",
    change: Any = None,
) -> np.ndarray:
    """A record with a beat a second; lead k is (k + 1) x the first; returns the positions."""
    folder.mkdir(parents=True, exist_ok=True)
    samples: np.ndarray = np.rint((np.arange(len(symbols)) + 1) * fs).astype(np.int64)
    trace = bumps(samples, round(seconds * fs), fs=fs, seed=1)
    digital = np.rint(trace[:, None] * gain * np.arange(1, len(leads) + 1)).astype(np.int64)
    if change is not None:
        change(digital)
    wfdb.wrsamp(
        name,
        fs=fs,
        units=[units] * len(leads),
        sig_name=list(leads),
        d_signal=digital,
        fmt=[fmt] * len(leads),
        adc_gain=[gain] * len(leads),
        baseline=[0] * len(leads),
        write_dir=str(folder),
    )
    wfdb.wrann(name, "atr", samples, symbol=list(symbols), write_dir=str(folder))
    return samples


def write_annotations(path: Path, samples: Sequence[int], symbols: str) -> None:
    """An annotation file in any order, which wfdb does not write (MIT format, signed skips)."""
    codes = {"N": 1, "V": 5, "A": 8, "~": 14, "/": 12}
    words, last = b"", 0
    for sample, symbol in zip(samples, symbols, strict=True):
        high, low = divmod((sample - last) & 0xFFFFFFFF, 1 << 16)
        words += struct.pack("<HHHH", 59 << 10, high, low, codes[symbol] << 10)
        last = sample
    path.write_bytes(words + b"\0\0")


def classified(model: Path, folder: Path, name: str = "a", **reading: Any) -> Measured:
    return classify_record(model, choose_records(folder), AAMI5, Reading(**reading), name)


def left_out(model: Path, folder: Path, name: str = "a", **reading: Any) -> str:
    """The reason why the record is left out."""
    done = classified(model, folder, name, **reading)
    assert done.skipped is not None, done.row
    assert done.predictions.empty
    return done.skipped


def test_predictions_are_those_of_the_stages_of_a_recipe(tmp_path: Path, model: Path) -> None:
    write_dataset(tmp_path, {"a": "NNVNANFNN/NQ", "b": "NNNVVN"})
    spec = CompositeSpec(representation="composite", panel_height=16, width=24)
    classifier = write_tiny_model(tmp_path / "model", spec, CLASSES)
    render_dataset(tmp_path, spec, AAMI5, tmp_path / "images", workers=1)
    images = BeatImages.open(tmp_path / "images")
    expected = classifier.predict(images.take(np.arange(len(images.beats))))
    done = [classified(tmp_path / "model", tmp_path, name) for name in "ab"]
    table = pd.concat([each.predictions for each in done], ignore_index=True)
    np.testing.assert_array_equal(table[[f"p_{name}" for name in CLASSES]], expected)
    assert table["sample"].tolist() == images.beats["sample"].tolist()
    assert table["label"].tolist() == AAMI5.encode(images.beats["symbol"].to_numpy()).tolist()


@pytest.mark.parametrize("fs", [128, 250, 257, 360, 500, 1000])
def test_the_same_heart_gives_the_same_answers_at_any_rate(
    tmp_path: Path, model: Path, fs: float
) -> None:
    write_record(tmp_path / "360", fs=360)
    write_record(tmp_path / "other", fs=fs)
    wanted = classified(model, tmp_path / "360").predictions
    found = classified(model, tmp_path / "other").predictions
    np.testing.assert_allclose(found["time_s"], wanted["time_s"], atol=1 / 128)
    columns = [f"p_{name}" for name in CLASSES]
    np.testing.assert_allclose(found[columns], wanted[columns], atol=0.1)


@pytest.mark.parametrize("fmt", ["16", "212", "310", "24", "80", "32"])
def test_signal_formats_do_not_matter(tmp_path: Path, model: Path, fmt: str) -> None:
    gain = 60 if fmt == "80" else 200
    write_record(tmp_path / "16", leads=("I", "II"), gain=gain)
    if fmt in ("310", "32", "80"):
        # wfdb does not write them all: the same samples, packed by hand.
        write_record(tmp_path / "x", leads=("I", "II"), gain=gain)
        repack(tmp_path / "x", fmt)
    else:
        write_record(tmp_path / "x", leads=("I", "II"), gain=gain, fmt=fmt)
    np.testing.assert_array_equal(
        read_recording(tmp_path / "x" / "a").signal, read_recording(tmp_path / "16" / "a").signal
    )
    wanted, found = (classified(model, tmp_path / each).predictions for each in ("16", "x"))
    pd.testing.assert_frame_equal(found, wanted)


def repack(folder: Path, fmt: str) -> None:
    """Rewrite a.dat of format 16 as `fmt` (signal(5) of the WFDB manual)."""
    flat = np.fromfile(folder / "a.dat", "<i2").astype(np.int64)
    if fmt == "32":
        content = flat.astype("<i4").tobytes()
    elif fmt == "80":
        content = (flat + 128).astype(np.uint8).tobytes()
    else:  # 310: three samples of ten bits in two words of sixteen
        flat = np.append(flat, np.zeros(-len(flat) % 3, np.int64)).reshape(-1, 3) & 0x3FF
        first = (flat[:, 0] << 1) | ((flat[:, 2] & 0x1F) << 11)
        second = (flat[:, 1] << 1) | ((flat[:, 2] >> 5) << 11)
        content = np.column_stack([first, second]).astype("<u2").tobytes()
    (folder / "a.dat").write_bytes(content)
    header = folder / "a.hea"
    header.write_text(header.read_text().replace("a.dat 16 ", f"a.dat {fmt} "))


def test_leads_are_chosen_by_name_else_the_first(tmp_path: Path, model: Path) -> None:
    write_record(tmp_path / "12", fs=257, leads=("I", "II", "III", "aVR", "V1", "V6"))
    assert classified(model, tmp_path / "12").row["lead"] == "II"
    assert classified(model, tmp_path / "12", lead="v6").row["lead"] == "V6"
    write_record(tmp_path / "2", fs=128, leads=("ECG1", "ECG2"))
    assert classified(model, tmp_path / "2").row["lead"] == "ECG1"
    assert left_out(model, tmp_path / "2", lead="V1") == "expected lead V1, found ECG1, ECG2"


@pytest.mark.parametrize("written", ["II", "Lead II", "D2", "DII", "MDC_ECG_LEAD_II"])
def test_a_lead_is_asked_for_by_any_of_its_names(tmp_path: Path, model: Path, written: str) -> None:
    write_record(tmp_path, leads=("V1", written))
    assert classified(model, tmp_path, lead="ii").row["lead"] == written
    assert left_out(model, tmp_path, lead="MLII").startswith("expected lead MLII, found V1")


def test_of_leads_of_one_name_the_one_with_a_signal_is_drawn(tmp_path: Path, model: Path) -> None:
    def still(digital: np.ndarray) -> None:
        digital[:, 0] = 17

    write_record(tmp_path, leads=("II", "Lead II"), change=still)
    assert classified(model, tmp_path, lead="II").row["lead"] == "Lead II"


def test_the_lead_that_is_asked_for_is_the_one_that_is_drawn(tmp_path: Path, model: Path) -> None:
    write_record(tmp_path, leads=("II", "V1"))
    done = classified(model, tmp_path, lead="V1")
    recording = read_recording(tmp_path / "a")
    alone = replace(
        recording,
        leads=("V1",),
        signal=recording.signal[:, 1:],
        adc_limits=recording.adc_limits[1:],
    )
    images = render(alone, read_annotations(tmp_path / "a").sample, SPEC)
    expected = Classifier.load(model).predict(images)
    np.testing.assert_array_equal(done.predictions[[f"p_{n}" for n in CLASSES]], expected)


def test_leads_without_names_have_numbers(tmp_path: Path, model: Path) -> None:
    write_record(tmp_path, leads=("I", "II"))
    (tmp_path / "a.hea").write_text("a 2 250 3000\na.dat 16\na.dat 16\n")
    done = classified(model, tmp_path)
    assert (done.row["leads"], done.row["lead"]) == ("signal 0 signal 1", "signal 0")
    assert classified(model, tmp_path, lead="signal 1").row["lead"] == "signal 1"


def test_a_lead_that_stands_still_gives_way_to_another(tmp_path: Path, model: Path) -> None:
    def still(digital: np.ndarray) -> None:
        digital[:, 0] = 17

    write_record(tmp_path, leads=("II", "V5"), change=still)
    done = classified(model, tmp_path)
    assert done.row["lead"] == "V5"
    assert "lead II stands still" in done.row["remarks"]
    assert "II has no valid sample or stands still" in left_out(model, tmp_path, lead="II")


def test_what_is_no_ecg_is_not_drawn(tmp_path: Path, model: Path) -> None:
    write_record(tmp_path, leads=("RESP", "ABP", "ECG lead 3"))
    header = tmp_path / "a.hea"
    first, resp, abp, ecg = header.read_text().splitlines()[:4]
    header.write_text("\n".join([first, resp, abp.replace("/mV", "/mmHg"), ecg, ""]))
    done = classified(model, tmp_path)
    assert (done.row["leads"], done.row["lead"]) == ("RESP ECG lead 3", "ECG lead 3")
    header.write_text(header.read_text().replace("/mV", "/mmHg"))
    assert left_out(model, tmp_path) == "expected signals in V, mV or uV, header says 'mmHg'"


@pytest.mark.parametrize("name", ["PCG", "GSR", "EDA", "SCG", "BCG 2", "Mic1", "SpO2"])
def test_what_is_no_ecg_by_its_name_is_no_second_lead(tmp_path: Path, name: str) -> None:
    spec = CompositeSpec(representation="composite", panel_height=16, width=24, leads=2)
    write_tiny_model(tmp_path / "model", spec, CLASSES)
    write_record(tmp_path / "data", leads=("ECG II", name))
    remarks = classified(tmp_path / "model", tmp_path / "data").row["remarks"]
    assert remarks == "no second lead: its part of the image is empty"


def test_a_record_without_a_live_lead_is_left_out(tmp_path: Path, model: Path) -> None:
    def dead(digital: np.ndarray) -> None:
        digital[:, 0] = -32768
        digital[:, 1] = 3

    write_record(tmp_path, leads=("II", "V5"), change=dead)
    assert left_out(model, tmp_path).startswith("expected a lead with an ECG; of II, V5 2 have")


@pytest.mark.parametrize(
    ("unit", "encoding"),
    [
        ("uV", "ascii"),
        ("µV", "utf-8"),
        ("µV", "latin-1"),
        ("μV", "utf-8"),
        ("V", "ascii"),
        ("", "ascii"),
    ],
)
def test_calibration_is_read_from_the_unit(
    tmp_path: Path, model: Path, unit: str, encoding: str
) -> None:
    gain = {"V": 200_000, "": 200}.get(unit, 0.2)
    write_record(tmp_path / "mV")
    write_record(tmp_path / "x")
    header = tmp_path / "x" / "a.hea"
    text = header.read_text().replace("200(0)/mV", f"{gain}(0)" + (f"/{unit}" if unit else ""))
    assert unit in text
    header.write_bytes(text.encode(encoding))
    wanted, found = (classified(model, tmp_path / each) for each in ("mV", "x"))
    pd.testing.assert_frame_equal(found.predictions, wanted.predictions, atol=1e-5)
    assert found.row["remarks"] == wanted.row["remarks"]


@pytest.mark.parametrize(
    ("leads", "remark"),
    [
        (("II",), "no second lead: its part of the image is empty"),
        (("II", "aVF"), "second lead aVF; the image is meant for V1, V5"),
        (("II", "aVF", "V5"), ""),
    ],
)
def test_a_second_lead_that_is_not_there_or_another_is_remarked(
    tmp_path: Path, leads: tuple[str, ...], remark: str
) -> None:
    spec = CompositeSpec(
        representation="composite",
        panel_height=16,
        width=24,
        leads=2,
        second_lead=("V1", "V5"),
    )
    write_tiny_model(tmp_path / "model", spec, CLASSES)
    write_record(tmp_path / "data", leads=leads)
    assert classified(tmp_path / "model", tmp_path / "data").row["remarks"] == remark


def test_a_gain_or_rate_that_cannot_be_right_is_remarked(tmp_path: Path, model: Path) -> None:
    write_record(tmp_path / "gain", gain=20)
    header = tmp_path / "gain" / "a.hea"
    header.write_text(header.read_text().replace("20(0)/mV", "20000(0)/mV"))
    assert "are gain and units right?" in classified(model, tmp_path / "gain").row["remarks"]
    write_record(tmp_path / "rate", fs=250)
    header = tmp_path / "rate" / "a.hea"
    header.write_text(header.read_text().replace(" 250 ", " 2500 "))
    assert "median RR 0.10 s" in classified(model, tmp_path / "rate").row["remarks"]


@pytest.mark.parametrize(
    ("old", "new", "remark"),
    [
        ("a 2 250 3000", "a 2", "the header states no sampling rate: 250 Hz assumed"),
        ("200(0)/mV", "0", "the header states no gain: 200 per mV assumed"),
        ("30023 0 V1", "30023 0 V1", ""),
    ],
)
def test_what_the_header_leaves_out_and_is_assumed_is_remarked(
    tmp_path: Path, model: Path, old: str, new: str, remark: str
) -> None:
    write_record(tmp_path, leads=("II", "V1"))
    wanted = classified(model, tmp_path).predictions
    lied_to(old, new)(tmp_path)
    done = classified(model, tmp_path)
    assert done.row["remarks"] == remark
    pd.testing.assert_frame_equal(done.predictions, wanted)


def test_annotations_in_disorder_are_put_in_order(tmp_path: Path, model: Path) -> None:
    write_record(tmp_path, symbols="NNVN", seconds=6)
    wanted = classified(model, tmp_path).predictions
    # Out of order, V twice (as N the second time), one before the start, two after the end.
    at = [500, 250, 750, 750, 1000, -40, 1500, 9000]
    write_annotations(tmp_path / "a.atr", at, "NNVNNNNV")
    done = classified(model, tmp_path)
    pd.testing.assert_frame_equal(done.predictions, wanted)
    for words in ("3 beats outside", "out of order", "1 second beats"):
        assert words in done.row["remarks"]


def test_annotations_in_a_time_unit_of_their_own_are_converted(tmp_path: Path, model: Path) -> None:
    samples = write_record(tmp_path, symbols="NNVN", seconds=6)
    wanted = classified(model, tmp_path).predictions
    wfdb.wrann("a", "atr", samples * 4, symbol=list("NNVN"), fs=1000, write_dir=str(tmp_path))
    pd.testing.assert_frame_equal(classified(model, tmp_path).predictions, wanted)


def test_gaps_are_bridged_and_beats_in_them_counted(tmp_path: Path, model: Path) -> None:
    def gap(digital: np.ndarray) -> None:
        digital[450:1100] = -32768

    write_record(tmp_path, change=gap)
    done = classified(model, tmp_path)
    assert len(done.predictions) == 10
    assert done.predictions[[f"p_{n}" for n in CLASSES]].notna().all(axis=None)
    assert "3 beats where the signal is missing" in done.row["remarks"]


@pytest.mark.parametrize(("seconds", "symbols"), [(1.02, "N"), (12, "N"), (2.1, "NV")])
def test_short_records_are_measured(
    tmp_path: Path, model: Path, seconds: float, symbols: str
) -> None:
    write_record(tmp_path, seconds=seconds, symbols=symbols)
    assert len(classified(model, tmp_path).predictions) == len(symbols)


def test_segments_are_joined_over_their_gap(tmp_path: Path, model: Path) -> None:
    samples = write_record(tmp_path / "parts", "one", leads=("II", "V1"), symbols="NNVN", seconds=5)
    write_record(tmp_path / "parts", "two", leads=("II", "V1"), symbols="NNVN", seconds=5)
    (tmp_path / "parts" / "all.hea").write_text("all/3 2 250 3000\none 1250\n~ 500\ntwo 1250\n")
    both = np.concatenate([samples, samples + 1750])
    folder = str(tmp_path / "parts")
    wfdb.wrann("all", "atr", both, symbol=list("NNVN" * 2), write_dir=folder)
    assert list(choose_records(tmp_path / "parts").patients) == ["all"]
    done = classified(model, tmp_path / "parts", "all")
    assert len(done.predictions) == 8 and done.row["seconds"] == 12
    (tmp_path / "parts" / "two.hea").unlink()
    assert "two.hea is missing" in left_out(model, tmp_path / "parts", "all")


def test_a_segment_without_a_voltage_is_a_gap(tmp_path: Path, model: Path) -> None:
    samples = write_record(tmp_path, "one", leads=("II", "V1"), symbols="NNVN", seconds=5)
    write_record(tmp_path, "two", leads=("ABP",), symbols="NNVN", seconds=5)
    header = tmp_path / "two.hea"
    header.write_text(header.read_text().replace("/mV", "/mmHg"))
    (tmp_path / "all.hea").write_text("all/2 2 250 2500\none 1250\ntwo 1250\n")
    both = np.concatenate([samples, samples + 1250])
    wfdb.wrann("all", "atr", both, symbol=list("NNVN" * 2), write_dir=str(tmp_path))
    done = classified(model, tmp_path, "all")
    assert len(done.predictions) == 8 and done.row["leads"] == "II V1"
    assert done.row["remarks"] == "4 beats where the signal is missing"
    (tmp_path / "all.hea").write_text("all/2 1 250 2500\ntwo 1250\ntwo 1250\n")
    words = "expected signals in V, mV or uV, header says 'mmHg'"
    assert words in left_out(model, tmp_path, "all")


def truncated(folder: Path) -> None:
    (folder / "a.dat").write_bytes((folder / "a.dat").read_bytes()[:999])


def lied_to(old: str, new: str) -> Any:
    def change(folder: Path) -> None:
        text = (folder / "a.hea").read_text()
        assert old in text
        (folder / "a.hea").write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncated, "as the header says: a.dat is shorter: 499 samples a signal, 3000 stated"),
        (lied_to(" 3000", " 9000"), "a.dat is shorter: 3000 samples a signal, 9000 stated"),
        (lied_to("a 1 ", "a 3 "), "the header announces 3 signals and describes 1"),
        (lied_to("a 1 250", "a 1 0"), "sampling frequency over 0 Hz, header says 0"),
        (lied_to("a 1 250", "a 0 250"), "the header names none"),
        (lambda folder: (folder / "a.dat").unlink(), "a.dat is missing"),
        (lambda folder: (folder / "a.atr").unlink(), "a.atr is missing"),
        (lambda folder: (folder / "a.hea").write_text(""), "a.hea cannot be read"),
        (lambda folder: (folder / "a.atr").write_bytes(b"\0\0"), "holds no annotation"),
        (lambda folder: (folder / "a.atr").write_bytes(b"PK\3\4 no annotations"), ""),
        (lambda f: write_annotations(f / "a.atr", [250, 500], "~~"), "2 annotations (~) and none"),
        (lambda f: write_annotations(f / "a.atr", [9000], "N"), "beats inside the recording"),
    ],
)
def test_what_cannot_be_read_is_left_out_with_the_reason(
    tmp_path: Path, model: Path, damage: Any, words: str
) -> None:
    write_record(tmp_path)
    damage(tmp_path)
    reason = left_out(model, tmp_path)
    assert words in reason and not reason.startswith("record")


def test_annotations_under_another_suffix_are_named(tmp_path: Path, model: Path) -> None:
    write_record(tmp_path)
    (tmp_path / "a.atr").rename(tmp_path / "a.ecg")
    (tmp_path / "a.txt").write_text("no annotations\n")
    (tmp_path / "a.xws").write_bytes(bytes(40))
    assert left_out(model, tmp_path).startswith("a.atr is missing; found .ecg: --annotator ecg (")
    for annotator in ("ecg", ".ecg"):
        assert len(classified(model, tmp_path, annotator=annotator).predictions) == 10
    (tmp_path / "a.ecg").unlink()
    assert left_out(model, tmp_path) == "a.atr is missing"


@pytest.mark.parametrize("spec", [SPEC, COMPOSITE], ids=lambda spec: spec.representation)
def test_long_recordings_are_answered_in_parts_that_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: Spec
) -> None:
    # Beats without a class at either end, and in the first part none that has one.
    symbols = "B" * 64 + "NNVNANNVBN" * 20 + "BB"
    write_record(tmp_path / "data", leads=("II", "V1"), symbols=symbols, seconds=len(symbols) + 2)
    write_tiny_model(tmp_path / "model", spec, CLASSES)
    whole = classified(tmp_path / "model", tmp_path / "data")
    monkeypatch.setattr("ecgbeats.imaging.render._PART", 64)
    parts = classified(tmp_path / "model", tmp_path / "data")
    pd.testing.assert_frame_equal(parts.predictions, whole.predictions, check_exact=True)
    assert parts.samples_of_class == whole.samples_of_class
    mistakes = confident_mistakes(whole.predictions, CLASSES)["row"].tolist()
    shown = [row for rows in whole.samples_of_class.values() for row in rows]
    assert set(parts.images) == set(whole.images) == {*mistakes, *shown}
    recording = read_recording(tmp_path / "data" / "a")
    beats = read_annotations(tmp_path / "data" / "a").sample
    drawn = render(recording, beats, spec)[[symbol != "B" for symbol in symbols]]
    for row, image in parts.images.items():
        np.testing.assert_array_equal(image, drawn[row])


def test_beats_of_other_classes_count_for_the_rhythm_alone(tmp_path: Path, model: Path) -> None:
    write_record(tmp_path, symbols="NNrNBN", seconds=8)
    done = classified(model, tmp_path)
    assert done.predictions["symbol"].tolist() == list("NNNN")
    assert "2 beats without a class (B r)" in done.row["remarks"]
    write_record(tmp_path, symbols="BBrB", seconds=8)
    assert left_out(model, tmp_path) == "expected beats of this label scheme, found only B r"


def test_paced_records_are_remarked_and_left_out_on_request(tmp_path: Path, model: Path) -> None:
    write_record(tmp_path, symbols="N/////f//N", seconds=12)
    assert "80 % of the beats are paced" in classified(model, tmp_path).row["remarks"]
    assert "80 % of the beats are paced" in left_out(model, tmp_path, exclude_paced=True)


def measured(model: Path, folder: Path, out: Path, **options: Any) -> dict[str, Any]:
    chosen = {key: options.pop(key) for key in ("patients", "exclude") if key in options}
    settings: dict[str, Any] = {
        "title": "tiny",
        "headline": ("N", "V"),
        "replicates": 100,
        "workers": 1,
    } | options
    scheme = settings.pop("scheme", AAMI5)
    return measure_records(model, choose_records(folder, **chosen), scheme, out, **settings)


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    folder = tmp_path / "clinic"
    write_record(folder / "p1", "a")
    write_record(folder / "p1", "b", fs=128, leads=("ECG1", "ECG2"))
    write_record(folder / "p2", "c", symbols="N/////////")
    write_record(folder / "p2", "d")
    (folder / "p2" / "d.dat").unlink()
    return folder


def test_the_output_names_everything_that_was_done(
    clinic: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    figures = measured(model, clinic, out, patients=r"^(p\d)/", predictions="csv")
    assert (figures["beats"], figures["records"], figures["patients"]) == (30, 3, 2)
    assert json.loads((out / "metrics.json").read_text()) == figures
    data = figures["dataset"]
    assert data["left_out"] == {"p2/d": "d.dat is missing"}
    assert data["sampling_hz"] == [128.0, 250.0]
    assert data["leads_drawn"] == ["II (2)", "ECG1 (1)"]
    assert "paced" in data["remarks"]["p2/c"]
    assert not figures["synthetic"]
    assert (out / "skipped.csv").read_text() == "record,reason\np2/d,d.dat is missing\n"
    records = pd.read_csv(out / "records.csv").set_index("record")
    assert records["measured"].to_dict() == {
        "p1/a": True,
        "p1/b": True,
        "p2/c": True,
        "p2/d": False,
    }
    predictions = pd.read_csv(out / "predictions.csv")
    assert predictions["record"].unique().tolist() == ["p1/a", "p1/b", "p2/c"]
    assert predictions["patient"].unique().tolist() == ["p1", "p2"]
    assert pd.read_csv(out / "per_record.csv")["beats"].tolist() == [10, 10, 10]
    page = (out / "index.html").read_text()
    for words in ("d.dat is missing", "% of the beats are paced", figures["weights_sha256"]):
        assert words in page
    said = in_words(figures)
    assert "left out    p2/d: d.dat is missing" in said
    assert "--exclude-paced" in said and "30 beats, 3 records, 2 patients" in said
    assert {path.name for path in (out / "plots").iterdir()} >= {"confusion.png", "mistakes.png"}


def test_that_nobody_names_the_patients_is_said(clinic: Path, model: Path, tmp_path: Path) -> None:
    page = tmp_path / "out" / "index.html"
    figures = measured(model, clinic, tmp_path / "out")
    assert figures["dataset"]["patients_assumed"]
    assert "CAUTION     nothing names patients: each record is taken for one" in in_words(figures)
    assert "Each record is taken for a patient" in page.read_text()
    alone = {"exclude": ("p1/a", "p1/b", "p2/d")}
    for options in ({"patients": r"^(p\d)/"}, alone):
        figures = measured(model, clinic, tmp_path / "out", **options)
        assert not figures["dataset"]["patients_assumed"]
        assert "names patients" not in in_words(figures)
        assert "Each record is taken for" not in page.read_text()


def test_records_that_the_model_was_trained_on_are_named(
    clinic: Path, model: Path, tmp_path: Path
) -> None:
    own = tmp_path / "model"
    shutil.copytree(model, own)
    card = read_json(own / CARD)
    # By their last name: folders above it are the caller's.
    write_json(own / CARD, {**card, "training": {**card["training"], "records": ["x/b", "new__c"]}})
    figures = measured(own, clinic, tmp_path / "out")
    assert figures["dataset"]["learnt_from"] == ["p1/b", "p2/c"]
    assert "training saw records of these names: p1/b, p2/c" in in_words(figures)
    assert "trained on records of 2" in (tmp_path / "out" / "index.html").read_text()
    write_json(own / CARD, {**card, "training": {**card["training"], "records": ["d"]}})
    figures = measured(own, clinic, tmp_path / "other")
    assert figures["dataset"]["learnt_from"] == []
    assert "training" not in in_words(figures)
    assert "was trained on records" not in (tmp_path / "other" / "index.html").read_text()
    write_json(own / CARD, {**card, "training": {}})
    figures = measured(own, clinic, tmp_path / "silent")
    assert figures["dataset"]["learnt_from"] is None
    assert "does not say which records" in in_words(figures)
    assert "does not say which records" in (tmp_path / "silent" / "index.html").read_text()


def test_the_hash_follows_the_data_and_not_its_place(
    clinic: Path, model: Path, tmp_path: Path
) -> None:
    first = measured(model, clinic, tmp_path / "out")["dataset"]["data_sha256"]
    clinic.rename(tmp_path / "moved")
    # An earlier output is replaced.
    again = measured(model, tmp_path / "moved", tmp_path / "out", workers=2)
    assert again["dataset"]["data_sha256"] == first
    write_record(tmp_path / "moved" / "p1", "a", symbols="NNVNNNNNNN")
    changed = measured(model, tmp_path / "moved", tmp_path / "out")
    assert changed["dataset"]["data_sha256"] != first


def test_a_dataset_of_the_project_brings_its_patients_and_its_warning(
    tmp_path: Path, model: Path
) -> None:
    write_dataset(tmp_path / "raw", {"a": "NNVN", "b": "NNVN"})
    figures = measured(model, tmp_path / "raw", tmp_path / "out")
    assert figures["synthetic"] and figures["dataset"]["name"] == "test"
    assert not figures["dataset"]["patients_assumed"]
    assert "SAMPLE DATA" in (tmp_path / "out" / "index.html").read_text()
    assert "SAMPLE DATA" in in_words(figures)


def test_with_no_record_left_nothing_is_written(clinic: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no record could be measured: p2/d: d\.dat is missing"):
        measured(model, clinic, tmp_path / "out", exclude=("p1/a", "p1/b", "p2/c"))
    with pytest.raises(ConfigError, match=r"expected records of .*, got p9"):
        measured(model, clinic, tmp_path / "out", exclude=("p9",))
    assert {path.name for path in tmp_path.iterdir()} == {"clinic"}


def test_model_and_labels_must_have_the_same_classes(
    clinic: Path, model: Path, tmp_path: Path
) -> None:
    two = LabelScheme(source="test", classes={"N": "N", "V": "V"})
    with pytest.raises(ContractError, match="classes N V, the model answers N S V F Q"):
        measured(model, clinic, tmp_path / "out", scheme=two)


def test_the_order_of_the_classes_does_not_matter(clinic: Path, model: Path) -> None:
    turned = LabelScheme(source="test", classes=dict(reversed(list(AAMI5.classes.items()))))
    records = choose_records(clinic)
    wanted = classify_record(model, records, AAMI5, Reading(), "p1/a").predictions
    found = classify_record(model, records, turned, Reading(), "p1/a").predictions
    pd.testing.assert_frame_equal(found, wanted)


def test_only_an_output_of_ours_is_replaced(tmp_path: Path) -> None:
    check_out(tmp_path / "new")
    out = tmp_path / "out"
    out.mkdir()
    check_out(out)
    (out / "metrics.json").write_text('{"kind": "records"}')
    check_out(out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"found notes\.txt"):
        check_out(out)
    (out / "notes.txt").unlink()
    (out / "metrics.json").write_text('{"schema": 1}')
    with pytest.raises(ConfigError, match="expected a new or empty folder"):
        check_out(out)
    shutil.rmtree(out)
    out.write_text("a file")
    with pytest.raises(ConfigError, match="it is a file"):
        check_out(out)


def test_what_tells_of_damage_is_remarked(tmp_path: Path, model: Path) -> None:
    write_record(tmp_path, leads=("II", "V1"))
    assert classified(model, tmp_path).row["remarks"] == ""
    data = bytearray((tmp_path / "a.dat").read_bytes())
    data[400] ^= 1
    (tmp_path / "a.dat").write_bytes(data)
    annotations = tmp_path / "a.atr"
    annotations.write_bytes(annotations.read_bytes()[:-8])
    remarks = classified(model, tmp_path).row["remarks"]
    assert "not the header's checksum: a.dat" in remarks
    assert ".atr has no end" in remarks
