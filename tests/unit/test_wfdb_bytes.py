"""Records from bytes in memory: as WFDB's own package reads them from files, and bounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecgbeats.errors import DataError, SignalError
from ecgbeats.records import Annotations, Recording, read_annotations, read_recording
from ecgbeats.wfdb_bytes import read_annotation_bytes, read_header, read_record

pytestmark = pytest.mark.unit

FORMATS = ("16", "24", "32", "61", "80", "160", "212", "310", "311")


def from_bytes(path: Path, *, max_values: int = 10**6) -> Recording:
    header = read_header(path.with_suffix(".hea").read_bytes())
    files = {file: (path.parent / file).read_bytes() for file in header.files}
    return read_record(header, files, max_values=max_values)


def assert_same(one: Recording, other: Recording) -> None:
    assert (one.name, one.fs, one.leads) == (other.name, other.fs, other.leads)
    assert one.assumed == other.assumed
    np.testing.assert_array_equal(one.signal, other.signal)
    np.testing.assert_array_equal(one.adc_limits, other.adc_limits)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("length", [300, 301, 302])
def test_every_format_is_read_as_by_wfdb(tmp_path: Path, fmt: str, length: int) -> None:
    content = np.random.default_rng(int(fmt)).integers(0, 256, 4096, dtype=np.uint8)
    if fmt == "311":  # the upper two bits of four bytes belong to no sample
        content[3::4] &= 0x3F
    (tmp_path / "r.dat").write_bytes(content.tobytes())
    (tmp_path / "r.hea").write_text(
        f"r 2 250 {length}\n"
        f"r.dat {fmt}+8 150.5(-7)/uV 12 3 0 0 0 MLII\n"
        f"r.dat {fmt}+8 0 11 1024 0 0 0 lead V1\n# a comment\n"
    )
    assert_same(from_bytes(tmp_path / "r"), read_recording(tmp_path / "r"))


@pytest.mark.parametrize(
    "header",
    [
        "r 1 360/360(0) 200 12:00:00 01/01/1990\nr.dat 16 200/mV 12 0 0 0 0 ECG\n",
        "# first\n\nr 1 128.5 200\r\nr.dat 16 2.5e2(12)/mV\r\n",
        "r 1\nr.dat 16\n",
        "r 3 100 60\nr.dat 16 1/mmHg 12 0 0 0 0 ABP\nr.dat 16 100/V\nr.dat 16 9/µV 0 0 0 0 0 II\n",
    ],
)
def test_headers_of_all_kinds_are_read_as_by_wfdb(tmp_path: Path, header: str) -> None:
    samples = np.random.default_rng(3).integers(-900, 900, 200, dtype=np.int16)
    (tmp_path / "r.dat").write_bytes(samples.tobytes())
    (tmp_path / "r.hea").write_text(header, encoding="utf-8")
    assert_same(from_bytes(tmp_path / "r"), read_recording(tmp_path / "r"))


def test_what_a_header_leaves_out_is_told_as_by_wfdb(tmp_path: Path) -> None:
    (tmp_path / "r.dat").write_bytes(np.arange(200, dtype=np.int16).tobytes())
    # A gain that lacks counts for voltages alone; 0 is as none.
    (tmp_path / "r.hea").write_text(
        "r 3\nr.dat 16 0/mmHg\nr.dat 16 0/uV\nr.dat 16 9 0 0 0 0 0 II\n"
    )
    found = from_bytes(tmp_path / "r")
    assert_same(found, read_recording(tmp_path / "r"))
    assert found.assumed == (
        "the header states no sampling rate: 250 Hz assumed",
        "the header states no gain of signal 1: 200 per uV assumed",
    )


@pytest.mark.parametrize("annotation_fs", [None, 720, 128.5])
def test_annotations_are_read_as_by_wfdb(tmp_path: Path, annotation_fs: float | None) -> None:
    (tmp_path / "r.hea").write_text("r 1 360 900000\nr.dat 212\n")
    rng = np.random.default_rng(1)
    symbols = list("NLRaVFJASEj/Q~|sT*D=pB^t+u?![]en@xf()r") * 3
    samples = np.cumsum(rng.integers(1, 5000, len(symbols)))
    wfdb.wrann(
        "r",
        "atr",
        samples,
        symbol=symbols,
        aux_note=["(N" if symbol == "+" else "" for symbol in symbols],
        chan=rng.integers(0, 2, len(symbols)),
        fs=annotation_fs,
        write_dir=str(tmp_path),
    )
    ours: Annotations = read_annotation_bytes((tmp_path / "r.atr").read_bytes(), 360.0)
    theirs = read_annotations(tmp_path / "r")
    np.testing.assert_array_equal(ours.sample, theirs.sample)
    assert ours.symbol.tolist() == theirs.symbol.tolist()


def _header(**changed: str) -> bytes:
    parts = {"segments": "", "signals": "1", "fs": "360", "length": "100", "file": "r.dat"}
    parts |= {"format": "16", "gain": "200/mV"} | changed
    return (
        "r{segments} {signals} {fs} {length}\n{file} {format} {gain} 12 0 0 0 0 ECG\n".format(
            **parts
        )
    ).encode()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"segments": "/3"}, "one segment"),
        ({"signals": "999999999"}, "1 to 64 signals"),
        ({"signals": "2"}, "2 signal lines, got 1"),
        ({"signals": "x"}, "whole number"),
        ({"fs": "0"}, "over 0 Hz"),
        ({"fs": "nan"}, "over 0 Hz"),
        ({"fs": "1e999"}, "over 0 Hz"),
        ({"length": "-5"}, "number of samples"),
        ({"length": "99999999999"}, "it holds 500"),
        ({"file": "../../etc/passwd"}, "file name"),
        ({"file": "/etc/passwd"}, "file name"),
        ({"file": ".."}, "file name"),
        ({"file": "other.dat"}, "other.dat"),
        ({"format": "8"}, "expected a format"),
        ({"format": "16x4"}, "one sample a frame"),
        ({"format": "16:3"}, "no skew"),
        ({"format": "16+99999"}, "it holds 0"),
        ({"gain": "inf/mV"}, "gain"),
        ({"gain": "1e999/mV"}, "finite gain"),
        ({"gain": "200/mmHg"}, "signals in V"),
    ],
)
def test_what_it_cannot_read_is_refused_in_words(changed: dict[str, str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_record(read_header(_header(**changed)), {"r.dat": bytes(1000)}, max_values=10**6)


def test_more_samples_than_allowed_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(SignalError, match="at most 99 values") as refused:
        read_record(read_header(_header()), {"r.dat": bytes(1000)}, max_values=99)
    assert refused.value.code == "too_many_samples"


def test_spoilt_files_are_refused_or_read_and_nothing_else() -> None:
    rng = np.random.default_rng(4)
    good = _header(), bytes(rng.integers(0, 256, 1000, dtype=np.uint8))
    for i in range(600):
        header, annotations = (bytearray(part) for part in good)
        for content in (header, annotations):
            for _ in range(int(rng.integers(0, 5))):
                content[int(rng.integers(len(content)))] = int(rng.integers(256))
            if i % 3 == 0:
                del content[int(rng.integers(len(content))) :]
        try:
            recording = read_record(
                read_header(bytes(header)), {"r.dat": good[1]}, max_values=10**6
            )
            assert recording.signal.size <= 10**6
        except DataError as error:
            assert len(str(error)) < 300
        try:
            read_annotation_bytes(bytes(annotations), 360.0)
        except DataError as error:
            assert len(str(error)) < 300
