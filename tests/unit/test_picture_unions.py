"""Pictures and pictures that were added: the base as it was, its test side frozen."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ecgbeats.additions.frozen import assign_with_additions
from ecgbeats.additions.origins import read_origins
from ecgbeats.additions.union import unite
from ecgbeats.config import ImageFolderSource, PatientSplit, Protocol
from ecgbeats.datasets import ImageManifest, read_pictures
from ecgbeats.errors import ContractError, DataError, ValidationFailed
from ecgbeats.imaging.spec import PictureSpec
from ecgbeats.imaging.store import store_pictures
from ecgbeats.labels import LabelScheme
from ecgbeats.sources.image_folder import fetch_image_folder
from ecgbeats.split import TEST, assign_sides
from tests.support.clinics import write_record
from tests.support.pictures import FOLDERS, as_jpeg, as_png, picture, write_folders

pytestmark = pytest.mark.unit

# Different drawn traces correlate by less than 0.85, another rendering by 0.98.
SOURCE = ImageFolderSource(
    source="image-folder", version="1", licence="CC0-1.0", citation="none", twin_correlation=0.95
)
SCHEME = LabelScheme(source="test", classes={name[0]: (name,) for name in FOLDERS})
SPEC = PictureSpec(representation="picture", height=32, width=48)
PROTOCOL = Protocol(
    labels=SCHEME,
    split=PatientSplit(
        by="patient", test_share=0.3, validation_share=0.3, seed=1, published_part=True
    ),
    gate=({"metric": "accuracy", "at_least": 0.5},),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base with a published test part; and an addition that repeats two of its test pictures."""
    root = tmp_path_factory.mktemp("pictures")
    write_folders(root / "one", 12)
    write_folders(root / "one", 5, part="test", first=40)
    write_folders(root / "two", 9, part="test", first=80)
    again = root / "two" / "test" / "Wide"
    (again / "copy.png").write_bytes(as_png(picture("Wide", 41)))
    larger = Image.fromarray(picture("Wide", 42)).resize((216, 144), Image.Resampling.BICUBIC)
    (again / "larger.jpg").write_bytes(as_jpeg(np.asarray(larger), 75))
    fetch_image_folder(SOURCE, "base", root / "base", origin=str(root / "one"))
    fetch_image_folder(SOURCE, "ward", root / "ward", origin=str(root / "two"))
    return root / "base", root / "ward"


@pytest.fixture(scope="module")
def union(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("union") / "out"
    unite("base-with-ward", *folders, out)
    return out


def test_a_union_holds_the_base_as_it_was_and_leaves_out_what_the_base_shows(
    folders: tuple[Path, Path], union: Path
) -> None:
    base, ward = folders
    table, theirs = read_pictures(union), read_pictures(base)
    np.testing.assert_array_equal(
        table[: len(theirs)].fillna(-1).to_numpy(), theirs.fillna(-1).to_numpy()
    )
    added = table[len(theirs) :]
    left_out = read_origins(union).left_out
    assert left_out["ward__test/Wide/copy.png"] == "base/test/Wide/fig_41.png"
    assert left_out["ward__test/Wide/larger.jpg"] == "base/test/Wide/fig_42.png"
    ours = read_pictures(ward)
    kept = set("ward__" + ours.loc[ours["status"] == "kept", "path"])
    assert set(added["path"]) == kept - set(left_out) and len(added) >= 15
    assert set(added["part"]) == {"ward__train"}
    assert added["group"].str.startswith("ward/").all()
    with pytest.raises(ContractError, match="no pictures of ward"):
        unite("twice", union, ward, union.parent / "twice")
    again = shutil.copytree(base, union.parent / "again")
    with pytest.raises(DataError, match=r"all \d+ are left out"):
        unite("itself", base, again, union.parent / "itself")


def test_the_test_side_stays_and_what_was_added_trains(
    folders: tuple[Path, Path], union: Path, tmp_path: Path
) -> None:
    alone = store_pictures(folders[0], SPEC, SCHEME, tmp_path / "alone", workers=1)
    before = assign_sides(alone, SCHEME, PROTOCOL)
    beats = store_pictures(union, SPEC, SCHEME, tmp_path / "both", workers=1)
    after = assign_with_additions(beats, SCHEME, PROTOCOL, ["ward"])
    new = after["record"].str.startswith("ward__")
    columns = ["record", "patient", "file", "side"]
    np.testing.assert_array_equal(after.loc[~new, columns].to_numpy(), before[columns].to_numpy())
    assert set(after.loc[new, "side"]) == {"train", "validation"}
    tested = after.loc[after["side"] == TEST, "window_sha"].iloc[0]
    # As if the union had let a tested picture in.
    beats.loc[new.idxmax(), "window_sha"] = tested
    with pytest.raises(ValidationFailed, match="twins_apart"):
        assign_with_additions(beats, SCHEME, PROTOCOL, ["ward"])


def test_recordings_and_pictures_do_not_join(union: Path, tmp_path: Path) -> None:
    from ecgbeats.sources.wfdb_folder import fetch_wfdb_folder
    from tests.unit.test_sources_wfdb_folder import source

    write_record(tmp_path / "one", "100", 1)
    fetch_wfdb_folder(source(tmp_path / "one"), "clinic", tmp_path / "clinic")
    with pytest.raises(DataError, match="expected recordings or pictures as"):
        unite("mixed", union, tmp_path / "clinic", tmp_path / "mixed")


def test_the_manifest_counts_both(folders: tuple[Path, Path], union: Path) -> None:
    from ecgbeats.datasets import read_description

    manifest = read_description(union)
    assert isinstance(manifest, ImageManifest)
    table = read_pictures(union)
    kept = table[table["status"] == "kept"]
    assert dict(manifest.pictures) == kept["folder"].value_counts().to_dict()
    assert manifest.groups == kept["group"].nunique()
    assert manifest.version == "1+ward:1" and manifest.test_part
