"""The MIT-BIH Arrhythmia Database is real and sound: nothing critical, and known oddities."""

import os
from pathlib import Path

import pytest

from ecgbeats.datasets import Manifest, RecordEntry, write_manifest
from ecgbeats.labels import LabelScheme
from ecgbeats.validation import validate_dataset

AAMI = LabelScheme(
    source="ANSI/AAMI EC57",
    classes={"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"},
)
PACED = ("102", "104", "107", "217")


@pytest.mark.real_data
def test_mitdb_has_no_critical_failure(tmp_path: Path) -> None:
    database = os.environ.get("ECGBEATS_TEST_MITDB")
    if not database:
        pytest.skip("ECGBEATS_TEST_MITDB does not name a folder with the MIT-BIH database")
    folder = tmp_path / "mitdb"
    folder.mkdir()
    names = (Path(database) / "RECORDS").read_text(encoding="utf-8").split()
    for name in names:
        for suffix in ("hea", "dat", "atr"):
            (folder / f"{name}.{suffix}").symlink_to(Path(database) / f"{name}.{suffix}")
    write_manifest(
        folder,
        Manifest(
            name="mitdb",
            source="physionet",
            version="1.0.0",
            licence="ODC-By-1.0",
            citation="Moody and Mark 2001",
            synthetic=False,
            annotator="atr",
            records=tuple(
                RecordEntry(record=name, patient={"202": "201"}.get(name, name)) for name in names
            ),
        ),
    )

    summary = validate_dataset(folder, AAMI, tmp_path / "out", exclude=PACED)

    summary.raise_if_critical()
    found = {outcome.name: set(outcome.found_in) for outcome in summary.failed("warning")}
    # From the database's own description: 102 and 104 have no MLII, 114 has its leads
    # swapped, 232 has pauses of up to 6 s. AAMI's Q is 8 + 7 beats without paced records.
    assert found["has_usual_lead"] == {"102", "104"}
    assert found["same_first_lead"] == {"102", "104", "114"}
    assert found["rr_longest"] == {"232"}
    assert found["class_beats"] == {"Q"}
    (q,) = summary.outcome("class_beats").examples
    assert q.value == 15
