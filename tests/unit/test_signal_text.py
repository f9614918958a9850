"""Recordings as text: the CSV and JSON that people have, and what is wrong with others."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest

from ecgbeats.errors import SignalError
from ecgbeats.records import Recording
from ecgbeats.signal_text import parse_json, read_csv, read_json_signal

pytestmark = pytest.mark.unit

VALUES = [0.1, -0.25, 0.5, 1.5]


def csv(text: str | bytes, **options: object) -> Recording:
    data = text if isinstance(text, bytes) else text.encode()
    return read_csv(data, **({"fs": 250.0, "max_values": 1000} | options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "0.1\n-0.25\n0.5\n1.5\n",
        "anything at all\n0.1\n-0.25\n0.5\n1.5",
        "ABP\r\n0.1\r\n-0.25\r\n.5\r\n15e-1\r\n",
        "\ufeff# exported\nMLII (mV)\n\n0.1\n-0.25\n+0.5\n1.5\n\n",
        '"MLII"\n"0.1"\n"-0.25"\n"0.5"\n"1.5"\n',
        "x\n0,1\n-0,25\n0,5\n1,5\n".replace(",", "."),
        "time,MLII\n0,0.1\n0.004,-0.25\n0.008,0.5\n0.012,1.5\n",
        "sample;ecg\n0;0,1\n1;-0,25\n2;0,5\n3;1,5\n",
        "'sample #','MLII'\n0,0.1\n1,-0.25\n2,0.5\n3,1.5\n",
        "time (ms)\tII\n0\t0.1\n4\t-0.25\n8\t0.5\n12\t1.5\n",
        "'Elapsed time','ECG'\n'sec','mV'\n0,0.1\n0.004,-0.25\n0.008,0.5\n0.012,1.5\n",
        "'Elapsed time','ECG'\n'hh:mm:ss.mmm','mV'\n"
        "'0:00.000',0.1\n'0:00.004',-0.25\n'0:00.008',0.5\n'0:00.012',1.5\n",
        "when;ecg\n59:59,996;0,1\n1:00:00,000;-0,25\n1:00:00,004;0,5\n1:00:00,008;1,5\n",
        "2026-11-21T12:00:00.000Z,0.1\n2026-11-21T12:00:00.004Z,-0.25\n"
        "2026-11-21T12:00:00.008Z,0.5\n2026-11-21T12:00:00.012Z,1.5\n",
        "0.1,\n-0.25,\n0.5,\n1.5,\n",
        "0,1\n-0,25\n0,5\n1,5\n",
        "ECG\n0,1\n-0,25\n0,5\n1,5\n",
        '"ECG, mV"\n"0,1"\n"-0,25"\n"0,5"\n"1,5"\n',
        '"s","mV"\n"0,0","0,1"\n"0,004","-0,25"\n"0,008","0,5"\n"0,012","1,5"\n',
        "0,1;\n-0,25;\n0,5;\n1,5;\n",
        "   Elapsed time      MLII\n (seconds)   (mV)\n 0.000  0.1\n 0.004  -0.25\n"
        " 0.008  0.5\n 0.012  1.5\n",
        # As Apple Health exports, in two languages; and a recorder's report above the table.
        "Name,Jane\nDate of Birth,1 Jan 1970\nRecorded Date,2020-05-01 12:00:00 +0200\n"
        "Classification,Sinus Rhythm\nSymptoms,\nSoftware Version,1.61\nDevice,Watch4\n"
        "Sample Rate,250 hertz\n\n\nLead,Lead I\nUnit,µV\n100\n-250.0\n500.0\n1500.0\n",
        "Name,Jane\nGeburtsdatum,1.1.1970\nAbtastrate,250 Hertz\nUnit,µV\n"
        "100,000\n-250,000\n500,000\n1500,000\n",
        "Report\nDevice: X\nSerial: 5\nFirmware: 1.0\nFilter: none\nGain: 1\nNotes:\n-\n"
        "0.1\n-0.25\n0.5\n1.5\n",
    ],
)
def test_a_lead_is_read_whatever_stands_around_it(text: str) -> None:
    recording = csv(text)
    assert recording.fs == 250
    np.testing.assert_allclose(recording.signal[:, 0], VALUES, rtol=1e-6)
    assert recording.signal.shape == (4, 1)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("995,1011\n993,1012\n", [[995, 1011], [993, 1012]]),
        ("0,145\n0,147\n", [[0, 145], [0, 147]]),
        ("I,II\n1,nan\n3,\n,4\n", [[1, np.nan], [3, np.nan], [np.nan, 4]]),
        ("1\t\n3\t4\n", [[1, np.nan], [3, 4]]),
        ("I,II,\n1,2,\n3,4,\n", [[1, 2], [3, 4]]),
        ("I;II\n" + "0;0\n" * 601 + "0,5;1,5\n", [[0, 0]] * 601 + [[0.5, 1.5]]),
    ],
)  # fmt: skip
def test_columns_are_told_apart_and_gaps_are_no_ends(text: str, rows: list) -> None:
    np.testing.assert_allclose(csv(text, max_values=5000).signal, rows)


@pytest.mark.parametrize(
    ("text", "millivolts"),
    [
        ("'t','MLII','V5'\n'seconds','uV','mV'\n0,500,2\n1,500,2\n", [0.5, 2]),
        ("I [µV];II/mV;raw_nV\n5;5;5\n5;5;5\n", [0.005, 5, 5e-6]),
        ("Unit,µV\n500\n500\n", [0.5]),
    ],
)
def test_units_are_as_the_file_says_unless_they_are_given(text: str, millivolts: list) -> None:
    np.testing.assert_allclose(csv(text).signal[0], millivolts, rtol=1e-6)
    values = csv(text, units="mV").signal[0]
    assert len(values) == len(millivolts) and not np.allclose(values, millivolts)


def test_the_lines_above_tell_the_sampling_rate() -> None:
    assert csv("Name,Jane\nSample Rate,512 hertz\nLead,I\n1.5\n2.5\n", fs=None).fs == 512


def test_what_is_named_as_a_time_is_no_lead_however_it_is_written() -> None:
    # To the hundredth of a second at 250 a second; backwards once; with a pause.
    coarse = [round(k / 250, 2) for k in range(500)]
    lead = [k % 7 for k in range(500)]
    for times in (coarse, coarse[250:] + coarse[:250], [*coarse[:400], *range(90, 190)]):
        text = "time,II\n" + "".join(f"{t},{v}\n" for t, v in zip(times, lead, strict=True))
        assert csv(text, max_values=5000).leads == ("II",)
        if times is coarse:
            assert csv(text, fs=None, max_values=5000).fs == pytest.approx(250, rel=0.01)
        else:
            with pytest.raises(SignalError, match="different lengths"):
                csv(text, fs=None, max_values=5000)


def test_a_line_without_end_takes_no_more_memory_than_itself() -> None:
    for divider in (b",", b";", b" ", b"\t"):
        data = b"1" + (divider + b"1") * 500_000 + b"\n"
        tracemalloc.start()
        with pytest.raises(SignalError) as refused:
            csv(data, max_values=1_000_000)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert refused.value.code == "not_a_table"
        assert peak < 2 * len(data)


@pytest.mark.parametrize(
    "line", ["Sample rate 5" + " " * 16_000 + "x", "h:" + "s" * 16_000 + "x", "mV " * 5000]
)
def test_long_lines_above_take_no_long_time(line: str) -> None:
    # Each would take seconds by a pattern that tries all ways to part it; all, minutes.
    assert len(csv(f"{line}\n" * 200 + "1.5\n2.5\n", fs=250).signal) == 2


def test_leads_have_the_names_of_their_columns() -> None:
    recording = csv("MLII,,MLII\n1,2,3\n4,5,6\n")
    assert recording.leads == ("MLII", "lead 2", "MLII (3)")
    assert recording.signal.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert csv("hr\n1\n2\n", lead="V5").leads == ("V5",)


@pytest.mark.parametrize(
    ("text", "fs"),
    [
        ("time,a\n0,1\n0.003,1\n0.006,1\n0.008,1\n0.011,1\n0.014,1\n0.017,1\n", 6 / 0.017),
        ("ms,a\n10,1\n12,1\n14,1\n", 500),
        ("t [s];a\n0;1\n0,5;1\n1;1\n", 2),
    ],
)
def test_a_column_of_times_tells_the_sampling_rate(text: str, fs: float) -> None:
    assert csv(text, fs=None).fs == pytest.approx(fs)


def test_a_column_that_rises_by_even_steps_is_no_lead() -> None:
    for name, fs in (("Zeit [s]", None), ("Zeit", 250.0), ("", 250.0), ("tid/ms", None)):
        step = 4.0 if "ms" in name else 0.004
        text = f"{name};EKG [mV]\n" + "".join(f"{k * step:.4f};{k % 7}\n" for k in range(40))
        recording = csv(text.replace(".", ","), fs=fs)
        assert (recording.fs, recording.leads) == (250, ("EKG [mV]",))
    with pytest.raises(SignalError) as refused:
        csv("Zeit;EKG\n" + "".join(f"{k};{k % 7}\n" for k in range(40)), fs=None)
    assert refused.value.code == "missing_sampling_rate"


@pytest.mark.parametrize(
    ("options", "millivolts"),
    [
        ({"units": "mV"}, 200),
        ({"units": "uV"}, 0.2),
        ({"units": "V"}, 2e5),
        ({"units": "adu"}, 1),
        ({"units": "adu", "gain": 100}, 2),
    ],
)
def test_units_become_millivolts(options: dict[str, object], millivolts: float) -> None:
    assert csv("200\n200\n", **options).signal[0, 0] == pytest.approx(millivolts)


def test_gaps_and_what_is_beyond_all_measure_are_missing_samples() -> None:
    signal = csv("a,b\n1,nan\n,2\ninf,1e300\n3,4\n").signal
    np.testing.assert_array_equal(np.isnan(signal), [[0, 1], [1, 0], [1, 1], [0, 0]])


@pytest.mark.parametrize(
    ("data", "options", "code"),
    [
        (b"", {}, "not_a_table"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", {}, "not_a_table"),
        (b"header\n", {}, "not_a_table"),
        (b"1\n2\nthree\n", {}, "not_a_table"),
        (b"1,2\n3,4\n5\n", {}, "not_a_table"),
        (b",".join([b"1"] * 40) + b"\n", {}, "not_a_table"),
        (b"1\n" * 1001, {}, "too_many_samples"),
        (b"1\n2\n", {"fs": None}, "missing_sampling_rate"),
        (b"1\n2\n", {"fs": 0.0}, "bad_sampling_rate"),
        (b"1\n2\n", {"fs": float("nan")}, "bad_sampling_rate"),
        (b"time,a\n0,1\n1,1\n2,1\n9,1\n", {"fs": None}, "bad_sampling_rate"),
        (b"1\n2\n", {"units": "mmHg"}, "bad_units"),
        (b"1\n2\n", {"gain": 200.0}, "bad_units"),
        (b"1\n2\n", {"units": "adu", "gain": 0.0}, "bad_units"),
    ],
)
def test_other_text_is_refused_in_words(data: bytes, options: dict, code: str) -> None:
    with pytest.raises(SignalError) as refused:
        csv(data, **options)
    assert refused.value.code == code
    assert len(str(refused.value)) < 200


def test_json_says_all_that_a_form_would() -> None:
    content = {
        "samples": [[1, None, 3], [4, 5, 6.5]],
        "fs": 100,
        "units": "uV",
        "lead": ["I", "V1"],
    }
    recording, beats = read_json_signal({**content, "beats": [0, 2]}, max_values=10)
    assert (recording.fs, recording.leads) == (100, ("I", "V1"))
    np.testing.assert_allclose(recording.signal * 1000, [[1, 4], [np.nan, 5], [3, 6.5]], rtol=1e-6)
    assert beats is not None and beats.tolist() == [0, 2]
    recording, beats = read_json_signal({"samples": [1, 2], "fs": 100}, fs=50, max_values=10)
    assert (recording.fs, recording.leads, beats) == (50, ("ECG",), None)
    # Of several leads the argument says which one is meant, not how they are called.
    recording, _ = read_json_signal(content, lead="V1", max_values=10)
    assert recording.leads == ("I", "V1")
    recording, _ = read_json_signal({"samples": [1, 2], "fs": 9}, lead="V1", max_values=10)
    assert recording.leads == ("V1",)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ([1, 2], "not_a_signal"),
        ({}, "not_a_signal"),
        ({"samples": []}, "not_a_signal"),
        ({"samples": [[]]}, "not_a_signal"),
        ({"samples": [[1, 2], [3]]}, "not_a_signal"),
        ({"samples": [1, "2"]}, "not_a_signal"),
        ({"samples": [True, False]}, "not_a_signal"),
        ({"samples": [10**400, 1]}, "not_a_signal"),
        ({"samples": [[[1]]]}, "not_a_signal"),
        ({"samples": [1], "fs": 9, "sql": "drop"}, "not_a_signal"),
        ({"samples": [1], "fs": 9, "lead": [1]}, "not_a_signal"),
        ({"samples": [1], "fs": 9, "lead": ["I", "II"]}, "not_a_signal"),
        ({"samples": [1] * 11, "fs": 9}, "too_many_samples"),
        ({"samples": [1]}, "missing_sampling_rate"),
        ({"samples": [1], "fs": "360"}, "bad_sampling_rate"),
        ({"samples": [1], "fs": 10**400}, "bad_sampling_rate"),
        ({"samples": [1], "fs": 9, "units": ["mV"]}, "bad_units"),
        ({"samples": [1, 2], "fs": 9, "beats": []}, "bad_beats"),
        ({"samples": [1, 2], "fs": 9, "beats": [1, 0]}, "bad_beats"),
        ({"samples": [1, 2], "fs": 9, "beats": [2]}, "bad_beats"),
        ({"samples": [1, 2], "fs": 9, "beats": [-(10**400)]}, "bad_beats"),
        ({"samples": [1, 2], "fs": 9, "beats": [0.5]}, "bad_beats"),
    ],
)
def test_other_json_is_refused_in_words(content: object, code: str) -> None:
    with pytest.raises(SignalError) as refused:
        read_json_signal(content, max_values=10)
    assert refused.value.code == code
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("text", ["", "{", "[NaN]", "[1e999999, Infinity]", "[" * 100_000, "\xff"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(SignalError) as refused:
        parse_json(text.encode("latin-1"))
    assert refused.value.code == "not_json"


def test_spoilt_text_is_refused_or_read_and_nothing_else() -> None:
    rng = np.random.default_rng(8)
    seeds = [
        b"time,MLII\n" + b"".join(b"%.3f,%.2f\n" % (k / 250, k % 7) for k in range(40)),
        json.dumps({"samples": [k % 5 for k in range(40)], "fs": 250, "beats": [3, 9]}).encode(),
    ]
    for i in range(600):
        content = bytearray(seeds[i % 2])
        for _ in range(int(rng.integers(1, 6))):
            content[int(rng.integers(len(content)))] = int(rng.integers(256))
        if i % 5 == 0:
            del content[int(rng.integers(len(content))) :]
        try:
            if i % 2:
                read_json_signal(parse_json(bytes(content)), max_values=1000)
            else:
                csv(bytes(content))
        except SignalError as error:
            assert len(str(error)) < 300
