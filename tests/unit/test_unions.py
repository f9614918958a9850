"""A dataset with additions: the base as it was, its test side frozen, no twin across sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from ecgbeats.additions.frozen import assign_with_additions, side_of_patient
from ecgbeats.additions.origins import read_origins
from ecgbeats.additions.union import unite
from ecgbeats.config import PatientSplit, Protocol, read_params
from ecgbeats.datasets import RecordEntry, read_manifest, write_manifest
from ecgbeats.errors import ConfigError, ContractError, DataError, ValidationFailed
from ecgbeats.records import read_annotations, read_recording
from ecgbeats.sources.wfdb_folder import fetch_wfdb_folder
from ecgbeats.split import TEST, TRAIN, UNUSED, VALIDATION, assign_sides
from pipelines import uniting
from pipelines.adding import check_name
from pipelines.uniting import chained, with_dataset, with_unions
from tests.support.clinics import rhythm, write_record
from tests.support.projects import tiny_params
from tests.support.recordings import AAMI5
from tests.unit.test_sources_wfdb_folder import source

pytestmark = pytest.mark.unit

PROTOCOL = Protocol(
    labels=AAMI5,
    split=PatientSplit(by="patient", test_share=0.34, validation_share=0.34, seed=1),
    gate=({"metric": "accuracy", "at_least": 0.5},),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base of two records, and an addition of three: new, the base's patient, a twin."""
    root = tmp_path_factory.mktemp("union")
    write_record(root / "one", "100", 1)
    write_record(root / "one", "101", 2)
    write_record(root / "two", "new", 3, fs=250)
    write_record(root / "two", "again", 4, fs=250)
    write_record(root / "two", "twin", 2, fs=250, gain=1000, scale=2.0)
    fetch_wfdb_folder(source(root / "one"), "base", root / "base")
    manifest = fetch_wfdb_folder(source(root / "two"), "ward", root / "ward")
    entries = [
        RecordEntry(record=name, patient="base/100" if name == "again" else f"p-{name}")
        for name in manifest.record_names
    ]
    write_manifest(root / "ward", manifest.model_copy(update={"records": tuple(entries)}))
    return root / "base", root / "ward"


def test_a_union_holds_the_base_as_it_was_and_new_records_under_names_of_their_own(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    base, ward = folders
    manifest = unite("base-with-ward", base, ward, tmp_path / "out")
    people = manifest.patient_of
    assert people == {
        "100": "100",
        "101": "101",
        "ward__again": "100",
        "ward__new": "ward/p-new",
    }
    assert read_origins(tmp_path / "out").left_out == {"ward__twin": "base/101"}
    for path in base.glob("1*"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    ours, theirs = read_recording(tmp_path / "out" / "ward__new"), read_recording(ward / "new")
    assert ours.fs == 250
    np.testing.assert_array_equal(ours.signal, theirs.signal)
    symbols = read_annotations(tmp_path / "out" / "ward__new").symbol
    assert list(symbols) == list(read_annotations(ward / "new").symbol)
    with pytest.raises(ContractError, match="no record called ward__"):
        unite("twice", tmp_path / "out", ward, tmp_path / "twice")


def test_a_patient_of_the_base_who_is_not_there_is_refused(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    base, ward = folders
    manifest = read_manifest(ward)
    entries = (RecordEntry(record="new", patient="base/109"),)
    here = tmp_path / "ward"
    here.mkdir()
    for path in ward.glob("new*"):
        (here / path.name).write_bytes(path.read_bytes())
    write_manifest(here, manifest.model_copy(update={"records": entries}))
    with pytest.raises(DataError, match="the patient map names base/109"):
        unite("union", base, here, tmp_path / "out")


def beats_of(seeds: dict[str, int], patients: dict[str, str] | None = None) -> pd.DataFrame:
    """A table of beats as `render_dataset` gives it."""
    tables = []
    for record, seed in seeds.items():
        times, symbols = rhythm(seed)
        tables.append(
            pd.DataFrame(
                {
                    "record": record,
                    "patient": (patients or {}).get(record, record),
                    "row": np.arange(len(times)),
                    "sample": np.rint(times * 360).astype(int),
                    "time_s": times,
                    "symbol": symbols,
                    "window_sha": [f"{seed}-{k}" for k in range(len(times))],
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


BASE = {f"b{k}": k for k in range(9)}


def test_without_additions_the_split_is_what_it_was() -> None:
    beats = beats_of(BASE)
    pd.testing.assert_frame_equal(
        assign_with_additions(beats, AAMI5, PROTOCOL, ()), assign_sides(beats, AAMI5, PROTOCOL)
    )


def test_the_base_keeps_its_sides_and_nobody_who_is_added_is_tested() -> None:
    before = assign_sides(beats_of(BASE), AAMI5, PROTOCOL)
    side_of = before.groupby("patient")["side"].first()
    tested, learnt = (side_of.index[side_of == side][0] for side in (TEST, TRAIN))
    new = {f"ward__n{k}": 100 + k for k in range(12)}
    people = {"ward__n0": str(tested), "ward__n1": str(learnt)}
    united = assign_with_additions(beats_of({**BASE, **new}, people), AAMI5, PROTOCOL, ("ward",))
    pd.testing.assert_frame_equal(united[: len(before)], before)
    sides = united[len(before) :].groupby("record")["side"].agg(["first", "nunique"])
    assert (sides["nunique"] == 1).all()
    assert sides.loc["ward__n0", "first"] == UNUSED
    assert sides.loc["ward__n1", "first"] == TRAIN
    assert set(sides["first"][2:]) == {TRAIN, VALIDATION}
    # Another addition, and another order, move nobody.
    more = {"else__m0": 300, **dict(reversed(new.items()))}
    again = assign_with_additions(
        beats_of({**BASE, **more}, people), AAMI5, PROTOCOL, ("else", "ward")
    )
    moved = again.groupby("record")["side"].first()
    assert moved[sides.index].tolist() == sides["first"].tolist()


def test_a_twin_of_a_tested_record_stops_the_split_under_any_name() -> None:
    before = assign_sides(beats_of(BASE), AAMI5, PROTOCOL)
    tested = str(before.loc[before["side"] == TEST, "record"].iloc[0])
    beats = beats_of({**BASE, "ward__w": BASE[tested]})
    # At another rate no window is the same, so that the usual check sees nothing.
    beats.loc[beats["record"] == "ward__w", "window_sha"] = None
    with pytest.raises(ValidationFailed, match=rf"twins_apart \[record ward__w: {tested}\]"):
        assign_with_additions(beats, AAMI5, PROTOCOL, ("ward",))


def test_the_rule_for_new_patients_is_a_share_and_never_changes() -> None:
    sides = [side_of_patient(f"ward/{k}", set(), 0.25) for k in range(4000)]
    assert sides.count(VALIDATION) / len(sides) == pytest.approx(0.25, abs=0.02)
    assert side_of_patient("ward/p1", set(), 0.25) == TRAIN
    assert side_of_patient("ward/p2", set(), 0.25) == TRAIN
    assert side_of_patient("201+202", {TRAIN, TEST}, 0.25) == UNUSED


TEXT = """\
# Ours.
recipes:
  one: # of two
    dataset: mitdb # the real one
    records: ["1",
      "2"]
unions: {}

# Theirs.
benchmark: {}
"""


def test_params_are_changed_in_two_places_and_nowhere_else() -> None:
    dataset, unions = chained("mitdb", ("a", "b"))
    assert dataset == "mitdb-with-a-with-b"
    changed = with_unions(with_dataset(TEXT, "one", dataset), unions)
    assert changed == TEXT.replace("dataset: mitdb", f"dataset: {dataset}").replace(
        "unions: {}",
        "unions: {\n  mitdb-with-a: {base: mitdb, added: a},\n"
        "  mitdb-with-a-with-b: {base: mitdb-with-a, added: b},\n}",
    )
    assert with_unions(with_dataset(changed, "one", "mitdb"), {}) == TEXT
    block = TEXT.replace("unions: {}", "unions:\n  old:\n    base: x\n    added: y")
    assert "# Theirs." in with_unions(block, unions)
    assert "unions: {\n" in with_unions("recipes: {}\n", unions)


def test_two_chains_of_one_name_change_no_other_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tiny_params()
    params["unions"] = {"small-with-a-with-b": {"base": "small", "added": "a-with-b"}}
    params["recipes"]["other"] = {**params["recipes"]["tiny"], "dataset": "small-with-a-with-b"}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    before = path.read_text()
    monkeypatch.setattr(uniting, "_check_kind", lambda *_: None)
    with pytest.raises(ConfigError, match=r"other would learn from small [+] a [+] b instead of"):
        uniting.change_additions(tmp_path, "tiny", with_=("a", "b"))
    assert path.read_text() == before
    with pytest.raises(ConfigError, match="without the word 'with'"):
        check_name(read_params(path), "a-with-b")
