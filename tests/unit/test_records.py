import os
from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecgbeats.errors import DataError
from ecgbeats.labels import UNLABELLED
from ecgbeats.records import BEAT_SYMBOLS, read_annotations, read_recording
from tests.support.recordings import AAMI5, write_dataset

pytestmark = pytest.mark.unit


def test_signal_and_annotations_as_written(tmp_path: Path) -> None:
    write_dataset(tmp_path, {"a": "NVN~N"})
    recording = read_recording(tmp_path / "a")
    assert (recording.fs, recording.leads) == (360.0, ("MLII", "V1"))
    annotations = read_annotations(tmp_path / "a")
    assert "".join(annotations.symbol) == "NVN~N"
    beats = annotations.only(BEAT_SYMBOLS)
    assert "".join(beats.symbol) == "NVNN"
    assert recording.signal[beats.sample[0], 0] == pytest.approx(1.0, abs=0.1)
    assert recording.adc_limits[0].tolist() == pytest.approx([-163.84, 163.835])


@pytest.mark.parametrize(("unit", "gain"), [("mV", 200.0), ("uV", 0.2), ("V", 200000.0)])
def test_units_are_brought_to_millivolts(tmp_path: Path, unit: str, gain: float) -> None:
    digital = np.arange(1000, dtype=np.int64).reshape(-1, 1)
    wfdb.wrsamp(
        "u",
        fs=250,
        units=[unit],
        sig_name=["II"],
        d_signal=digital,
        fmt=["16"],
        adc_gain=[gain],
        baseline=[0],
        write_dir=str(tmp_path),
    )
    assert read_recording(tmp_path / "u").signal[400, 0] == pytest.approx(2.0)


def test_missing_samples_become_nan(tmp_path: Path) -> None:
    digital = np.zeros((500, 1), np.int64)
    digital[100:110] = -32768
    wfdb.wrsamp(
        "m",
        fs=250,
        units=["mV"],
        sig_name=["II"],
        d_signal=digital,
        fmt=["16"],
        adc_gain=[200],
        baseline=[0],
        write_dir=str(tmp_path),
    )
    assert np.flatnonzero(np.isnan(read_recording(tmp_path / "m").signal)).tolist() == list(
        range(100, 110)
    )


def test_unreadable_records_are_named(tmp_path: Path) -> None:
    write_dataset(tmp_path, {"a": "NNNN"})
    with pytest.raises(DataError, match="record b"):
        read_recording(tmp_path / "b")
    with pytest.raises(DataError, match=r"record a: annotations \.qrs"):
        read_annotations(tmp_path / "a", "qrs")
    data = tmp_path / "a.dat"
    data.write_bytes(data.read_bytes()[:-400])
    with pytest.raises(DataError, match="record a"):
        read_recording(tmp_path / "a")
    header = tmp_path / "a.hea"
    header.write_text(header.read_text().replace("mV", "degC"))
    with pytest.raises(DataError):
        read_recording(tmp_path / "a")


def test_labels_are_encoded_in_class_order() -> None:
    symbols = np.array(list("NLRejAaJSVEF/fQ~B"))
    expected = [0] * 5 + [1] * 4 + [2] * 2 + [3] + [4] * 3 + [UNLABELLED] * 2
    assert AAMI5.encode(symbols).tolist() == expected


@pytest.mark.real_data
def test_leads_of_the_database_that_are_not_where_one_expects() -> None:
    """Record 114 has its leads swapped; 102 and 104 have no MLII (the database's own page)."""
    folder = os.environ.get("ECGBEATS_TEST_MITDB")
    if not folder:
        pytest.skip("ECGBEATS_TEST_MITDB names no folder with the MIT-BIH database")
    assert read_recording(Path(folder) / "114").leads == ("V5", "MLII")
    assert read_recording(Path(folder) / "102").leads == ("V5", "V2")
