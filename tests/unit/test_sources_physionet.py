from __future__ import annotations

import os
from pathlib import Path

import pytest
import wfdb

from ecgbeats.config import PhysioNetSource
from ecgbeats.datasets import read_manifest
from ecgbeats.errors import ChecksumError, ConfigError, DataError, FetchError
from ecgbeats.files import written_aside
from ecgbeats.sources.physionet import fetch_physionet
from tests.support.databases import contents, write_database, write_sums


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return write_database(tmp_path / "mirror")


def source(**changes: object) -> PhysioNetSource:
    values = {
        "source": "physionet",
        "database": "mitdb/1.0.0",
        "licence": "ODC-By-1.0",
        "citation": "Moody and Mark 2001",
        "patients": {"202": "201"},
    }
    return PhysioNetSource.model_validate(values | changes)


def files_of(*records: str) -> set[str]:
    return {f"{record}.{suffix}" for record in records for suffix in ("hea", "dat", "atr")}


@pytest.mark.unit
def test_a_byte_order_mark_is_no_part_of_the_first_record(mirror: Path, tmp_path: Path) -> None:
    names = (mirror / "RECORDS").read_text()
    (mirror / "RECORDS").write_text(names, encoding="utf-8-sig")
    write_sums(mirror)
    manifest = fetch_physionet(source(), "mitdb", tmp_path / "mitdb", mirror=str(mirror))
    assert manifest.record_names == ("100", "201", "202")


@pytest.mark.unit
def test_folder_mirror_gives_the_records_and_a_manifest(mirror: Path, tmp_path: Path) -> None:
    out = tmp_path / "raw" / "mitdb"
    manifest = fetch_physionet(source(), "mitdb", out, mirror=str(mirror))

    wanted = files_of("100", "201", "202") | {"RECORDS", "SHA256SUMS.txt"}
    assert set(contents(out)) == wanted | {"dataset.json"}
    assert all(contents(out)[name] == contents(mirror)[name] for name in wanted)
    assert read_manifest(out) == manifest
    assert manifest.patient_of == {"100": "100", "201": "201", "202": "201"}
    assert (manifest.name, manifest.source, manifest.version, manifest.synthetic) == (
        "mitdb",
        "physionet",
        "mitdb/1.0.0",
        False,
    )


@pytest.mark.unit
def test_file_url_gives_the_same_bytes_as_the_folder(tmp_path: Path) -> None:
    mirror = write_database(tmp_path / "a mirror")  # a blank is %20 in the URL
    fetch_physionet(source(), "mitdb", tmp_path / "folder", mirror=str(mirror))
    fetch_physionet(source(), "mitdb", tmp_path / "url", mirror=mirror.as_uri())
    assert contents(tmp_path / "folder") == contents(tmp_path / "url")


@pytest.mark.unit
def test_read_only_mirror_gives_writable_files(mirror: Path, tmp_path: Path) -> None:
    for path in mirror.iterdir():
        path.chmod(0o444)
    fetch_physionet(source(), "mitdb", tmp_path / "out", mirror=str(mirror))
    assert all(path.stat().st_mode & 0o200 for path in (tmp_path / "out").iterdir())


@pytest.mark.unit
def test_second_run_keeps_right_files_and_replaces_wrong_ones(
    mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    fetch_physionet(source(), "mitdb", out, mirror=str(mirror))
    before = contents(out)
    (out / "201.dat").write_bytes(b"damaged")
    (out / "202.atr").unlink()
    kept = (out / "100.dat").stat().st_ino
    capsys.readouterr()

    fetch_physionet(source(), "mitdb", out, mirror=str(mirror))

    assert contents(out) == before
    assert (out / "100.dat").stat().st_ino == kept
    # RECORDS and nine files of records, less the two.
    assert "2 files fetched" in capsys.readouterr().err.splitlines()[-1]
    assert (out / "201.dat").read_bytes() == (mirror / "201.dat").read_bytes()


@pytest.mark.unit
def test_partial_files_of_a_killed_run_are_removed(mirror: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("100.dat", "RECORDS"):
        with written_aside(out / name) as aside:
            pass
        (out / name).unlink()
        aside.write_bytes(b"half")
    fetch_physionet(source(), "mitdb", out, mirror=str(mirror))
    assert not [name for name in contents(out) if "partial" in name]


@pytest.mark.unit
@pytest.mark.parametrize("stranger", ["notes.txt", "100.xws", "sub/100.dat", ".hidden"])
def test_files_of_others_are_neither_removed_nor_mixed_in(
    mirror: Path, tmp_path: Path, stranger: str
) -> None:
    path = tmp_path / "out" / stranger
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(DataError, match=f"found 1 others .{stranger}"):
        fetch_physionet(source(), "mitdb", tmp_path / "out", mirror=str(mirror))
    assert path.read_text() == "mine"
    assert not (tmp_path / "out" / "dataset.json").exists()


@pytest.mark.unit
@pytest.mark.parametrize("lacking", ["SHA256SUMS.txt", "RECORDS", "201.hea", "201.dat", "201.atr"])
def test_mirror_that_lacks_a_file_is_named_with_it(
    mirror: Path, tmp_path: Path, lacking: str
) -> None:
    (mirror / lacking).unlink()
    with pytest.raises(FetchError, match=f"{lacking}: expected in the mirror .*{mirror.name}"):
        fetch_physionet(source(), "mitdb", tmp_path / "out", mirror=str(mirror))
    assert lacking not in contents(tmp_path / "out")
    assert not (tmp_path / "out" / "dataset.json").exists()


@pytest.mark.unit
@pytest.mark.parametrize(
    "place", ["no/such/folder", "ftp://example.org/mitdb", "file://host/mitdb"]
)
def test_unusable_mirror_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigError, match="mirror: expected"):
        fetch_physionet(source(), "mitdb", tmp_path / "out", mirror=place)


@pytest.mark.unit
def test_wrong_byte_in_the_mirror_never_gets_the_final_name(mirror: Path, tmp_path: Path) -> None:
    right = (mirror / "201.dat").read_bytes()
    (mirror / "201.dat").write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    with pytest.raises(ChecksumError, match=r"201\.dat: .*expected SHA-256 \w{64}, got \w{64}"):
        fetch_physionet(source(), "mitdb", tmp_path / "out", mirror=str(mirror))
    assert "201.dat" not in contents(tmp_path / "out")


@pytest.mark.unit
def test_damaged_folder_is_no_longer_complete_while_the_source_is_bad(
    mirror: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fetch_physionet(source(), "mitdb", out, mirror=str(mirror))
    for folder in (out, mirror):
        (folder / "201.dat").write_bytes(b"damaged")
    with pytest.raises(ChecksumError):
        fetch_physionet(source(), "mitdb", out, mirror=str(mirror))
    assert not {"201.dat", "dataset.json"} & set(contents(out))


@pytest.mark.unit
@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("<html>log in</html>", ChecksumError, "line 1: expected a SHA-256 and a file name"),
        ("abc123 100.dat", ChecksumError, "line 1: expected a SHA-256 and a file name"),
        ("", ChecksumError, "the file is empty"),
        (f"{'0' * 64} ../100.dat", DataError, "expected a path inside the database"),
        (f"{'0' * 64} /etc/passwd", DataError, "expected a path inside the database"),
        (f"{'0' * 64} 100.dat", FetchError, "expected a line for RECORDS, found none"),
    ],
)
def test_bad_sums_are_refused(
    mirror: Path, tmp_path: Path, line: str, error: type[Exception], message: str
) -> None:
    (mirror / "SHA256SUMS.txt").write_text(line)
    with pytest.raises(error, match=f"{mirror}/SHA256SUMS.txt: .*{message}"):
        fetch_physionet(source(), "mitdb", tmp_path / "out", mirror=str(mirror))
    assert set(contents(tmp_path / "out")) <= {"SHA256SUMS.txt"}


@pytest.mark.unit
@pytest.mark.parametrize("separator", [" ", "  ", " *", "  ./"])
def test_sums_as_every_sha256sum_writes_them(mirror: Path, tmp_path: Path, separator: str) -> None:
    sums = mirror / "SHA256SUMS.txt"
    sums.write_text(sums.read_text().replace(" ", separator))
    manifest = fetch_physionet(source(), "mitdb", tmp_path / "out", mirror=str(mirror))
    assert manifest.record_names == ("100", "201", "202")


@pytest.mark.unit
@pytest.mark.parametrize("name", ["../100", "/etc/passwd", "100/100", "..", "10 0", ".100", "a\\b"])
def test_record_names_cannot_leave_the_folder(mirror: Path, tmp_path: Path, name: str) -> None:
    (mirror / "RECORDS").write_text(f"100\n{name}\n")
    write_sums(mirror)
    with pytest.raises(DataError, match="RECORDS: expected plain record names"):
        fetch_physionet(source(), "mitdb", tmp_path / "out", mirror=str(mirror))
    assert set(contents(tmp_path)) == {f"mirror/{n}" for n in contents(mirror)} | {
        "out/RECORDS",
        "out/SHA256SUMS.txt",
    }


@pytest.mark.unit
@pytest.mark.parametrize("records", ["", "100\n201\n100\n"])
def test_unusable_records_file(mirror: Path, tmp_path: Path, records: str) -> None:
    (mirror / "RECORDS").write_text(records)
    write_sums(mirror)
    with pytest.raises(DataError, match="RECORDS: expected"):
        fetch_physionet(source(), "mitdb", tmp_path / "out", mirror=str(mirror))


@pytest.mark.unit
@pytest.mark.parametrize("name", ["../100.dat", "/tmp/100.dat", "sub/100.dat", "RECORDS", "~"])
def test_signal_file_names_cannot_leave_the_folder(mirror: Path, tmp_path: Path, name: str) -> None:
    header = mirror / "100.hea"
    header.write_text(header.read_text().replace("100.dat", name))
    write_sums(mirror)
    with pytest.raises(DataError, match=r"100\.hea: "):
        fetch_physionet(source(), "mitdb", tmp_path / "out", mirror=str(mirror))
    assert (tmp_path / "out" / "RECORDS").read_text() == "100\n201\n202\n"
    assert not [n for n in contents(tmp_path) if n.endswith(".dat") and not n.startswith("mirror")]


@pytest.mark.unit
def test_signal_files_are_those_that_the_header_names(mirror: Path, tmp_path: Path) -> None:
    header = mirror / "100.hea"
    lines = header.read_text().splitlines()
    header.write_text("\n".join([lines[0], lines[1], lines[2].replace("100.dat", "100b.dat")]))
    (mirror / "100b.dat").write_bytes(b"second lead")
    write_sums(mirror)
    fetch_physionet(source(), "mitdb", tmp_path / "out", mirror=str(mirror))
    assert {"100.dat", "100b.dat"} <= set(contents(tmp_path / "out"))


@pytest.mark.unit
def test_other_annotator(mirror: Path, tmp_path: Path) -> None:
    for record in ("100", "201", "202"):
        (mirror / f"{record}.atr").rename(mirror / f"{record}.qrs")
    write_sums(mirror)
    fetch_physionet(source(annotator="qrs"), "mitdb", tmp_path / "out", mirror=str(mirror))
    assert wfdb.rdann(str(tmp_path / "out" / "100"), "qrs").symbol == ["N", "V"]
    with pytest.raises(FetchError, match=r"expected a line for \d+\.atr, found none"):
        fetch_physionet(source(), "mitdb", tmp_path / "none", mirror=str(mirror))


@pytest.mark.unit
def test_patients_of_unknown_records_are_refused(mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"patients: expected records of mitdb/1\.0\.0, got 999"):
        fetch_physionet(
            source(patients={"999": "201"}), "mitdb", tmp_path / "out", mirror=str(mirror)
        )


@pytest.mark.real_data
def test_the_whole_mit_bih_database(tmp_path: Path) -> None:
    mirror = os.environ.get("ECGBEATS_TEST_MITDB")
    if not mirror:
        pytest.skip("ECGBEATS_TEST_MITDB names no folder with the MIT-BIH database")
    manifest = fetch_physionet(source(), "mitdb", tmp_path / "mitdb", mirror=mirror)
    assert len(manifest.records) == 48
    assert len(contents(tmp_path / "mitdb")) == 48 * 3 + 3
    assert len(set(manifest.patient_of.values())) == 47
    assert manifest.patient_of["202"] == manifest.patient_of["201"] == "201"
