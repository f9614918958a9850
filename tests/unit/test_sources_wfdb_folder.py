"""Somebody's folder of WFDB records becomes a dataset: found, verified, copied, explained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb
from click.testing import CliRunner

from ecgbeats.cli import fetch
from ecgbeats.config import WfdbFolderSource
from ecgbeats.datasets import MANIFEST, read_manifest
from ecgbeats.errors import ConfigError, DataError
from ecgbeats.records import read_annotations, read_recording
from ecgbeats.sources.wfdb_folder import fetch_wfdb_folder, files_of, find_records
from tests.support.recordings import write_dataset

pytestmark = pytest.mark.unit


def source(folder: Path, **changes: Any) -> WfdbFolderSource:
    values = {"source": "wfdb-folder", "folder": str(folder), "licence": "none", "citation": "none"}
    return WfdbFolderSource.model_validate(values | changes)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Three records of two people: p1/a, p1/b, p2/a; other files lie about."""
    folder = tmp_path / "theirs"
    write_dataset(folder / "p1", {"a": "NNVN", "b": "NNNN"})
    write_dataset(folder / "p2", {"a": "NNNNA"})
    for each in ("p1", "p2"):
        (folder / each / MANIFEST).unlink()
    (folder / "README.txt").write_text("about\n")
    (folder / "p2" / "._a.hea").write_text("of another system\n")
    return folder


def write_segments(folder: Path) -> None:
    """A record "joined" of the segments "one", a gap of 100 samples, "two"."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(("one", "two")):
        wfdb.wrsamp(
            name,
            fs=250,
            units=["mV", "mV"],
            sig_name=["I", "II"],
            d_signal=np.full((500, 2), 100 * (k + 1), np.int64) + np.array([0, 7]),
            fmt=["16", "16"],
            adc_gain=[200, 200],
            baseline=[0, 0],
            write_dir=str(folder),
        )
    (folder / "joined.hea").write_text("joined/3 2 250 1100\none 500\n~ 100\ntwo 500\n")
    samples = np.array([100, 300, 700, 900])
    wfdb.wrann("joined", "atr", samples, symbol=list("NVNN"), write_dir=str(folder))


def test_records_are_found_by_their_headers_also_in_subfolders(theirs: Path) -> None:
    assert find_records(theirs) == ("p1/a", "p1/b", "p2/a")


def test_a_file_of_names_decides_which_records_there_are(theirs: Path) -> None:
    (theirs / "RECORDS").write_text("p2/\n\np1/b.hea\np1/b\n")
    assert find_records(theirs) == ("p2/a", "p1/b")
    # As some editors save it; its mark is no part of the first name.
    (theirs / "RECORDS").write_text("p2/a\np1/b\n", encoding="utf-8-sig")
    assert find_records(theirs) == ("p2/a", "p1/b")
    (theirs / "RECORDS").write_text("../elsewhere\n")
    with pytest.raises(DataError, match=r"below it, got '\.\./elsewhere'"):
        find_records(theirs)


def test_segments_are_no_records_of_their_own(tmp_path: Path) -> None:
    write_segments(tmp_path)
    assert find_records(tmp_path) == ("joined",)
    files = files_of(tmp_path, "joined", "atr")
    assert files.headers == ("joined.hea", "one.hea", "two.hea")
    assert files.signals == ("one.dat", "two.dat")


def test_a_folder_without_records_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected WFDB records"):
        find_records(tmp_path)
    with pytest.raises(DataError, match="there is none"):
        find_records(tmp_path / "nowhere")


def test_copies_read_as_the_originals_under_flat_names(theirs: Path, tmp_path: Path) -> None:
    out = tmp_path / "raw"
    manifest = fetch_wfdb_folder(source(theirs), "clinic", out)
    assert manifest.record_names == ("p1_a", "p1_b", "p2_a")
    assert manifest == read_manifest(out)
    for record, name in zip(("p1/a", "p1/b", "p2/a"), manifest.record_names, strict=True):
        old, new = read_recording(theirs / record), read_recording(out / name)
        assert new.leads == old.leads and new.fs == old.fs
        np.testing.assert_array_equal(new.signal, old.signal)
        assert read_annotations(out / name).symbol.tolist() == (
            read_annotations(theirs / record).symbol.tolist()
        )
    stems = {path.name.partition(".")[0] for path in out.iterdir()}
    assert stems == {"p1_a", "p1_b", "p2_a", "dataset"}
    assert not any(path.is_symlink() for path in out.iterdir())
    assert theirs.joinpath("p1/a.hea").read_text().startswith("a 2")


def test_a_record_of_segments_is_copied_whole(tmp_path: Path) -> None:
    write_segments(tmp_path / "theirs" / "ward")
    fetch_wfdb_folder(source(tmp_path / "theirs"), "clinic", tmp_path / "raw")
    copied = read_recording(tmp_path / "raw" / "ward_joined")
    assert copied.leads == ("I", "II")
    assert copied.signal[[0, 550, 1099], 0].tolist() == pytest.approx(
        [0.5, np.nan, 1.0], nan_ok=True
    )


def test_the_version_follows_the_content(theirs: Path, tmp_path: Path) -> None:
    def version(name: str) -> str:
        return fetch_wfdb_folder(source(theirs, version="2024"), "c", tmp_path / name).version

    first = version("one")
    assert first.startswith("2024-") and version("two") == first
    samples = np.array([100, 400])
    wfdb.wrann("a", "atr", samples, symbol=["N", "V"], write_dir=str(theirs / "p1"))
    assert version("one") != first


def patients(manifest: Any) -> list[str]:
    return [entry.patient for entry in manifest.records]


def test_each_record_is_a_patient_unless_said_otherwise(theirs: Path, tmp_path: Path) -> None:
    out = tmp_path / "raw"
    assert patients(fetch_wfdb_folder(source(theirs), "c", out)) == ["p1_a", "p1_b", "p2_a"]
    ruled = source(theirs, patients_rule=r"^(p\d+)/")
    assert patients(fetch_wfdb_folder(ruled, "c", out)) == ["p1", "p1", "p2"]
    named = source(theirs, patients={"p2/a": "Smith"})
    assert patients(fetch_wfdb_folder(named, "c", out)) == ["p1_a", "p1_b", "Smith"]
    (tmp_path / "who.csv").write_text("record,age,patient\np2/a,50,x\np1/b,3,y\np1/a,3,y\n")
    table = source(theirs, patients_file="who.csv")
    assert patients(fetch_wfdb_folder(table, "c", out, base=tmp_path)) == ["y", "y", "x"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patients_rule": r"^(p1)/"}, "gives no patient for 1 of 3 records: p2/a"),
        ({"patients_rule": r"^p\d"}, "one group"),
        ({"patients_rule": r"(p"}, "regular expression"),
        ({"patients": {"p3/a": "x"}}, "p3/a"),
        ({"skip_records": ["p3/a"]}, "p3/a"),
        ({"skip_records": ["p1/a", "p1/b", "p2/a"]}, "no record"),
        ({"patients_file": "two.csv"}, "record p1/a has the patients x and y"),
        ({"patients_file": "few.csv"}, "gives no patient for 2 of 3"),
        ({"patients_file": "odd.csv"}, "columns record and patient, got name"),
        ({"patients_file": "none.csv"}, "cannot be read"),
    ],
)
def test_patients_that_do_not_fit_are_refused(
    theirs: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    (tmp_path / "two.csv").write_text("record,patient\np1/a,x\np1/a,y\n")
    (tmp_path / "few.csv").write_text("record,patient\np1/a,x\np1/b,\n")
    (tmp_path / "odd.csv").write_text("name\np1/a\n")
    with pytest.raises(ConfigError, match=words):
        fetch_wfdb_folder(source(theirs, **changes), "c", tmp_path / "raw", base=tmp_path)
    assert not (tmp_path / "raw").exists()


def test_only_one_way_to_patients_can_be_given(theirs: Path) -> None:
    with pytest.raises(ValueError, match="give one of"):
        source(theirs, patients_rule="(a)", patients={"a": "b"})


def test_all_unusable_records_are_named_at_once_and_can_be_skipped(
    theirs: Path, tmp_path: Path
) -> None:
    (theirs / "p1" / "a.dat").unlink()
    (theirs / "p2" / "a.atr").write_bytes(b"\0\0")
    (theirs / "p1" / "c.hea").write_text("garbage\n")
    with pytest.raises(DataError) as caught:
        fetch_wfdb_folder(source(theirs), "c", tmp_path / "raw")
    words = str(caught.value)
    assert "3 of 4 records" in words
    assert "record p1/a: a.dat is missing" in words
    assert "p2/a: .atr holds no annotation" in words
    assert "c.hea cannot be read" in words
    assert words.endswith('skip_records: ["p1/a", "p1/c", "p2/a"]')
    skipping = source(theirs, skip_records=["p1/a", "p1/c", "p2/a"])
    assert fetch_wfdb_folder(skipping, "c", tmp_path / "raw").record_names == ("p1_b",)


def test_another_annotator_is_taken(theirs: Path, tmp_path: Path) -> None:
    for path in theirs.rglob("*.atr"):
        path.rename(path.with_suffix(".qrs"))
    with pytest.raises(DataError, match=r"a\.atr is missing; found \.qrs.*annotator: qrs\)"):
        fetch_wfdb_folder(source(theirs), "c", tmp_path / "raw")
    manifest = fetch_wfdb_folder(source(theirs, annotator="qrs"), "c", tmp_path / "raw")
    assert manifest.annotator == "qrs"
    assert (tmp_path / "raw" / "p1_a.qrs").is_file()


def test_names_that_would_meet_are_refused(theirs: Path, tmp_path: Path) -> None:
    for path in (theirs / "p1").glob("a.*"):
        shutil.copyfile(path, theirs / f"p1_{path.name}")
    with pytest.raises(DataError, match="would both be called p1_a"):
        fetch_wfdb_folder(source(theirs), "c", tmp_path / "raw")


def test_somebody_elses_folder_is_not_replaced(theirs: Path, tmp_path: Path) -> None:
    kept = tmp_path / "raw" / "thesis.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(DataError, match="found files without"):
        fetch_wfdb_folder(source(theirs), "c", kept.parent)
    assert kept.read_text() == "mine"


def test_what_was_generated_stays_marked_as_generated(tmp_path: Path) -> None:
    write_dataset(tmp_path / "theirs", {"a": "NNNN"})
    copied = fetch_wfdb_folder(source(tmp_path / "theirs"), "c", tmp_path / "raw")
    assert copied.synthetic and copied.record_names == ("a",)


def test_the_fetch_stage_takes_a_folder_beside_params(theirs: Path, tmp_path: Path) -> None:
    text = f"""
    datasets:
      clinic: {{source: wfdb-folder, folder: {theirs.name}, licence: x, citation: y}}
    protocols: {{}}
    recipes: {{}}
    """
    (tmp_path / "params.yaml").write_text(text)
    options = ["clinic", "--params", str(tmp_path / "params.yaml"), "--out", str(tmp_path / "raw")]
    done = CliRunner().invoke(fetch, options)
    assert done.exit_code == 0, done.output
    assert read_manifest(tmp_path / "raw").name == "clinic"
