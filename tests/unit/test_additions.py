"""New data: what is wrong with them is found, by the expectation that is there for it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb

from ecgbeats.additions.adding import Examined, Judges, Request, _look_at_files, examine
from ecgbeats.additions.agreement import agreement_of
from ecgbeats.additions.archives import opened
from ecgbeats.additions.findings import findings
from ecgbeats.additions.fingerprints import fingerprints_of
from ecgbeats.additions.order import COLUMNS, Beats, look_at, order_of
from ecgbeats.additions.page import render_addition
from ecgbeats.additions.suites import agreement_suite, file_suite, label_suite
from ecgbeats.additions.twins import Rhythms
from ecgbeats.datasets import read_manifest
from ecgbeats.errors import DataError
from ecgbeats.files import write_text
from ecgbeats.records import read_annotations, read_recording
from ecgbeats.sources.wfdb_folder import fetch_wfdb_folder, find_records
from ecgbeats.validation.engine import judge
from pipelines.adding import Options
from tests.support.clinics import rhythm, write_clinic, write_record, write_samples
from tests.support.recordings import AAMI5
from tests.unit.test_sources_wfdb_folder import source

pytestmark = pytest.mark.unit


# One fault a record, and the expectations that it alone breaks.
FAULTS = {
    "truncated": {"signals_readable", "header_length"},
    "longer": {"header_length", "inside_record", "signal_checksum"},
    "flipped": {"signal_checksum"},
    "cut": {"annotations_there"},
    "gain": {"amplitude_unit"},
    "leads": {"signals_readable"},
    "timeless": {"signals_readable", "sampling_rate"},
    "late": {"inside_record"},
    "empty": {"annotations_there"},
    "single": {"enough_beats"},
    "gaps": {"missing_samples"},
    "still": {"dead_lead", "amplitude_unit"},
    "twice": {"no_copy", "no_twin"},
    "resampled": {"no_twin"},
    "foreign": {"no_twin_elsewhere"},
    "exchanged": {
        "ventricular_beats_unlike",
        "ventricular_beats_early",
        "supraventricular_beats_early",
        "supraventricular_beats_alike",
    },
    "sans": {"files_complete"},
}


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> tuple[Examined, Request, Path]:
    """A batch of seven sound records and one of each fault, examined."""
    root = tmp_path_factory.mktemp("additions")
    theirs = write_clinic(root / "theirs", 7)
    for k, name in enumerate(FAULTS):
        swap = {"N": "V", "V": "N"} if name == "exchanged" else None
        if name not in ("twice", "resampled", "foreign"):
            write_record(theirs, name, k, swap=swap)
    break_records(theirs)
    write_record(theirs, "resampled", 101, fs=250, gain=1000, scale=0.5)
    write_record(theirs, "foreign", 7777, fs=128)
    for suffix in ("hea", "dat", "atr"):
        content = (theirs / f"r1.{suffix}").read_bytes()
        (theirs / f"twice.{suffix}").write_bytes(content.replace(b"r1", b"twice"))
    write_record(root / "elsewhere", "known", 7777)
    fetch_wfdb_folder(source(root / "elsewhere"), "other", root / "other")
    request = Request("clinic", theirs)
    judges = Judges(AAMI5, known=fingerprints_of(root / "other"))
    return examine(request, judges, root / "out", workers=1), request, root / "out"


def break_records(folder: Path) -> None:
    (folder / "truncated.dat").write_bytes((folder / "truncated.dat").read_bytes()[:20000])
    for name, old, new in (
        ("longer", "16200", "9000"),
        ("gain", "200(0)", "0.2(0)"),
        ("leads", "leads 2", "leads 3"),
        ("timeless", "timeless 2 180", "timeless 2 0"),
    ):
        text = (folder / f"{name}.hea").read_text()
        assert old in text
        write_text(folder / f"{name}.hea", text.replace(old, new))
    samples = np.array([*range(100, 16000, 135), 16300])
    symbols = ["N"] * len(samples)
    wfdb.wrann("late", "atr", samples, symbol=symbols, write_dir=str(folder))
    flipped = bytearray((folder / "flipped.dat").read_bytes())
    flipped[len(flipped) // 2 & ~1] ^= 1
    (folder / "flipped.dat").write_bytes(flipped)
    (folder / "cut.atr").write_bytes((folder / "cut.atr").read_bytes()[:120])
    (folder / "empty.atr").write_bytes(b"\0\0")
    wfdb.wrann("single", "atr", np.array([900]), symbol=["N"], write_dir=str(folder))
    for name in ("gaps", "still"):
        signal = wfdb.rdrecord(str(folder / name)).p_signal
        signal[4000:9000, 0] = np.nan if name == "gaps" else 0.1
        signal[:, 0] = 0.1 if name == "still" else signal[:, 0]
        write_samples(folder, name, signal)
    (folder / "sans.dat").unlink()


@pytest.mark.parametrize("name", FAULTS)
def test_a_record_with_one_fault_is_quarantined_for_that_fault_alone(
    examined: tuple[Examined, Request, Path], name: str
) -> None:
    found = {each.expectation for each in examined[0].quarantine if each.record == name}
    assert found
    assert found <= FAULTS[name]
    assert name not in read_manifest(examined[2]).record_names


def test_what_is_left_is_usable_and_complete(examined: tuple[Examined, Request, Path]) -> None:
    result, request, out = examined
    assert result.usable
    assert read_manifest(out).record_names == tuple(f"r{k}" for k in range(1, 8))
    stems = {path.stem for path in out.iterdir()} - {"dataset", "quarantine"}
    assert stems == {f"r{k}" for k in range(1, 8)}
    listed = pd.read_csv(out / "quarantine.csv")
    assert set(listed["record"]) == set(FAULTS)
    page = render_addition(request, result, AAMI5, about={})
    assert all(name in page for name in (*FAULTS, "r7", "no_twin_elsewhere", "other/known"))


def test_of_however_many_records_each_is_left_out_with_its_reason() -> None:
    problems = [f"r{k}.atr is missing" if k % 2 else None for k in range(260)]
    empty = [None] * 260
    table = pd.DataFrame(
        {
            "record": [f"r{k}" for k in range(260)],
            **{f"{what}_problem": empty for what in ("name", "files", "paced")},
            "labels_problem": problems,
        }
    )
    suites = [file_suite(table)]
    found = findings(suites, judge(suites))
    assert {(each.record, each.found) for each in found} == {
        (f"r{k}", f"r{k}.atr is missing") for k in range(1, 260, 2)
    }
    assert {each.expectation for each in found} == {"annotations_there"}


def order(folder: Path, swap: dict[str, str]) -> pd.DataFrame:
    """The order of labels of three records, one of which has sinus beats alone."""
    rows = []
    for k in range(3):
        write_record(folder, f"q{k}", 50 + k)
        read = read_annotations(folder / f"q{k}")
        symbol = (
            np.where(read.symbol == "", "N", read.symbol) if k else np.full(len(read.symbol), "N")
        )
        symbol = np.array([swap.get(each, each) for each in symbol])
        beats = look_at(read_recording(folder / f"q{k}"), read.sample, symbol)
        rows.append({"record": f"q{k}", **order_of(beats)})
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.mark.parametrize(
    ("exchanged", "stops"),
    [
        ("", set()),
        ("NV", {"ventricular_beats_unlike", "ventricular_beats_early", "sinus_beats_prevail"}),
        ("NA", {"supraventricular_beats_early", "sinus_beats_prevail"}),
        ("AV", {"supraventricular_beats_alike"}),
    ],
)
def test_a_batch_whose_labels_were_exchanged_is_stopped_by_name(
    tmp_path: Path, exchanged: str, stops: set[str]
) -> None:
    swap = {exchanged[0]: exchanged[1], exchanged[1]: exchanged[0]} if exchanged else {}
    outcomes = judge([label_suite(order(tmp_path, swap), enforced=True)])
    failed = {o.name for o in outcomes if not o.success and o.severity == "critical"}
    assert failed >= stops
    assert bool(failed) == bool(stops)


@pytest.mark.parametrize("records", [3, 6, 9])
def test_a_third_of_the_records_may_be_out_of_order_and_no_more(records: int) -> None:
    good = {name: [0.9] * records for name in COLUMNS[1:]}
    names = [f"r{k}" for k in range(records)]
    for out_of_order in (records // 3, records // 3 + 1):
        column = [0.1] * out_of_order + [0.9] * (records - out_of_order)
        table = pd.DataFrame({"record": names, **good, "early_v": column})
        (found,) = (
            each
            for each in judge([label_suite(table, enforced=True)])
            if each.name == "ventricular_beats_early"
        )
        assert found.success == (out_of_order == records // 3)


@pytest.mark.parametrize("column", COLUMNS[1:])
def test_each_expectation_about_labels_stops_a_batch_alone(column: str) -> None:
    good = {name: [0.9, 0.9, 0.9] for name in COLUMNS[1:]}
    table = pd.DataFrame({"record": ["a", "b", "c"], **good, column: [0.9, 0.1, 0.1]})
    (failed,) = (o for o in judge([label_suite(table, enforced=True)]) if not o.success)
    assert failed.column == column
    assert failed.severity == "critical"


def test_trusted_labels_are_warned_of_and_stop_nothing() -> None:
    bad = {name: [0.1, 0.1] for name in COLUMNS[1:]}
    outcomes = judge([label_suite(pd.DataFrame({"record": ["a", "b"], **bad}), enforced=False)])
    assert {(o.success, o.severity) for o in outcomes} == {(False, "warning")}


def test_the_model_stops_a_class_that_it_does_not_recognise() -> None:
    counts = np.array([[900, 10, 20], [30, 1, 0], [90, 2, 8]])
    floors = {"N": 0.7, "S": 0.015, "V": 0.15}
    table = agreement_of(counts, ("N", "S", "V"))
    outcomes = judge([agreement_suite(table, floors, enforced=True)])
    assert [o.name for o in outcomes if not o.success] == ["model_agrees_V"]
    few = agreement_of(counts // 10, ("N", "S", "V"))
    assert few["agreement"].notna().tolist() == [True, False, False]


def test_order_is_told_only_where_both_kinds_are_there() -> None:
    kinds = np.array(["N"] * 20 + ["V"] * 4)
    beats = Beats(kinds, np.linspace(1, 0, 24), np.linspace(0, 1, 24))
    assert order_of(beats)["unlike_v"] is None
    assert order_of(beats)["normal_share"] == pytest.approx(20 / 24, abs=1e-4)


def test_a_heart_is_recognised_in_a_cut_of_it_but_not_in_another() -> None:
    hearts = {f"h{k}": rhythm(k)[0] for k in range(12)}
    rhythms = Rhythms(hearts)
    cut = hearts["h5"][(hearts["h5"] > 20) & (hearts["h5"] < 80)] - 20
    jittered = np.delete(cut, [7, 31]) + np.random.default_rng(0).normal(0, 0.004, len(cut) - 2)
    found = rhythms.twin_of("x", np.round(jittered * 128) / 128)
    assert found is not None
    assert found.of == "h5"
    assert found.offset_s == pytest.approx(20, abs=0.02)
    assert all(rhythms.twin_of(name, times) is None for name, times in hearts.items())


def test_a_rhythm_without_variation_is_nobodys_twin() -> None:
    even = np.arange(0, 300, 0.8)
    assert Rhythms({"paced": even}).twin_of("x", even + 0.1) is None


def test_a_zip_is_read_as_its_folder_and_may_not_lead_out_of_it(tmp_path: Path) -> None:
    good, evil = tmp_path / "good.zip", tmp_path / "evil.zip"
    with zipfile.ZipFile(good, "w") as archive:
        archive.writestr("ward/a.hea", "a 1 100 10\n")
    with opened(good) as folder:
        assert (folder / "ward" / "a.hea").read_text() == "a 1 100 10\n"
    with zipfile.ZipFile(evil, "w") as archive:
        archive.writestr("../a.hea", "")
    with pytest.raises(DataError, match="inside the archive"), opened(evil):
        pass


def test_what_is_damaged_in_a_zip_costs_its_record_alone_and_is_said(tmp_path: Path) -> None:
    write_clinic(tmp_path / "clinic", 5)
    packed = tmp_path / "clinic.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "clinic").iterdir()):
            archive.write(path, f"ward/{path.name}")
        link = zipfile.ZipInfo("ward/r5.dat.link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        starts = {info.filename: info.header_offset for info in archive.infolist()}
    content = bytearray(packed.read_bytes())
    for name in ("ward/r1.dat", "ward/r2.hea"):
        at = starts[name] + 30 + len(name)
        content[at : at + 40] = b"\xff" * 40
    listed = content.index(b"ward/r3.atr", content.index(b"PK\x01\x02"))
    content[listed - 46 + 8] |= 1  # encrypted
    packed.write_bytes(content)
    with opened(packed) as folder:
        assert not (folder / "ward" / "r5.dat.link").exists()
        request = Request("clinic", folder)
        rows = _look_at_files(request, find_records(folder)).set_index("record")
    said = rows["files_problem"].combine_first(rows["labels_problem"]).dropna()
    assert list(rows.index) == [f"ward/r{k}" for k in range(1, 6)]
    assert set(said.index) == {"ward/r1", "ward/r2", "ward/r3"}
    assert said["ward/r1"].startswith("r1.dat is damaged in the archive: Error -3")
    assert said["ward/r2"].startswith("r2.hea is damaged in the archive: ")
    assert said["ward/r3"] == "r3.atr is encrypted in the archive"


def test_a_suffix_of_annotations_may_have_its_dot() -> None:
    assert Options(annotator=".qrs") == Options(annotator="qrs")
    assert Options(annotator=".qrs").of_content() == Options(annotator="qrs").of_content()
