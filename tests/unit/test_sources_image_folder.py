"""Class folders of pictures: what is read, what is set aside and why."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from ecgbeats.config import ImageFolderSource, Protocol, read_params
from ecgbeats.datasets import ImageManifest, read_description, read_manifest, read_pictures
from ecgbeats.errors import ConfigError, DataError, FetchError
from ecgbeats.files import sha256_tree
from ecgbeats.imaging.spec import PictureSpec, WaveformSpec
from ecgbeats.imaging.store import BeatImages, store_pictures
from ecgbeats.labels import LabelScheme
from ecgbeats.sources import image_folder
from ecgbeats.sources.image_folder import fetch_image_folder
from ecgbeats.split import assign_sides
from ecgbeats.validation import validate_pictures
from tests.support.pictures import as_jpeg, as_png, picture, write_folders

pytestmark = pytest.mark.unit

SOURCE = ImageFolderSource(
    source="image-folder",
    version="1",
    licence="CC0-1.0",
    citation="none",
    remarks=("labels were not checked",),
)
SCHEME = LabelScheme(
    source="test", classes={"N": ("Normal",), "W": ("Wide",), "I": ("Inverted", "Upside down")}
)
SPEC = PictureSpec(representation="picture", height=32, width=48)
BLANK = np.full((96, 144), 255, np.uint8)


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def fetch(tmp_path: Path, files: Mapping[str, bytes]) -> tuple[ImageManifest, pd.DataFrame]:
    """Fetch a zip of `files` beside a good picture; the table by path."""
    good = {"Normal/good.png": as_png(picture("Normal", 100))}
    place = write_zip(tmp_path / "set.zip", {**good, **files})
    manifest = fetch_image_folder(SOURCE, "set", tmp_path / "data", origin=str(place))
    return manifest, read_pictures(tmp_path / "data").set_index("path")


def test_folder_and_zip_give_the_same_dataset(tmp_path: Path) -> None:
    write_folders(tmp_path / "set", 3)
    files = {
        path.relative_to(tmp_path / "set").as_posix(): path.read_bytes()
        for path in sorted((tmp_path / "set").rglob("*.png"), reverse=True)
    }
    place = write_zip(tmp_path / "set.zip", files)
    for origin in (tmp_path / "set", place):
        fetch_image_folder(SOURCE, "set", tmp_path / origin.suffix / "data", origin=str(origin))
    found = [sha256_tree(tmp_path / suffix / "data") for suffix in ("", ".zip")]
    assert found[0] == found[1]
    manifest = read_description(tmp_path / "data")
    assert isinstance(manifest, ImageManifest)
    assert manifest.pictures == {"Inverted": 3, "Normal": 3, "Wide": 3}
    assert manifest.quarantined == {} and not manifest.test_part
    with pytest.raises(DataError, match="of recordings, found one of pictures"):
        read_manifest(tmp_path / "data")


def test_what_is_there_already_is_enough(tmp_path: Path) -> None:
    write_folders(tmp_path / "set", 2)
    # What was refused the first time is in no archive, and must still be told of.
    folder = next((tmp_path / "set").rglob("Normal"))
    (folder / "notes.png").write_bytes(b"no picture")
    (folder / "tiny.png").write_bytes(as_png(picture()[:4, :4]))
    first = fetch_image_folder(SOURCE, "set", tmp_path / "data", origin=str(tmp_path / "set"))
    assert sum(first.quarantined.values()) == 2
    before = sha256_tree(tmp_path / "data")
    fetch_image_folder(SOURCE, "set", tmp_path / "data", origin=None)
    assert sha256_tree(tmp_path / "data") == before
    with pytest.raises(FetchError, match="MIRROR="):
        fetch_image_folder(SOURCE, "set", tmp_path / "elsewhere", origin=None)


@pytest.mark.parametrize(
    ("origin", "error"),
    [("https://example.org/set.zip", ConfigError), ("nowhere.zip", FetchError)],
)
def test_an_unusable_place_is_named(tmp_path: Path, origin: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="dataset set: "):
        fetch_image_folder(SOURCE, "set", tmp_path / "data", origin=origin)
    assert not (tmp_path / "data").exists()


def test_a_broken_zip_and_other_peoples_files_are_refused(tmp_path: Path) -> None:
    place = write_zip(tmp_path / "set.zip", {"Normal/a.png": as_png(picture())})
    place.write_bytes(place.read_bytes()[:-40])
    with pytest.raises(FetchError, match="whole zip archive"):
        fetch_image_folder(SOURCE, "set", tmp_path / "data", origin=str(place))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.doc").write_text("mine")
    with pytest.raises(DataError, match="other files"):
        fetch_image_folder(SOURCE, "set", tmp_path / "data", origin=str(tmp_path))
    assert (tmp_path / "data" / "thesis.doc").read_text() == "mine"


@pytest.mark.parametrize(
    ("path", "data", "reason"),
    [
        ("Normal/notes.txt", b"hello", "not_an_image"),
        ("Normal/a.gif", b"GIF89a", "not_an_image"),
        ("Normal/half.png", as_png(picture("Normal", 1))[:-200], "damaged_image"),
        ("Normal/half.jpg", as_jpeg(picture("Normal", 1))[:-400], "damaged_image"),
        ("Normal/tiny.png", as_png(BLANK[:10, :40]), "too_small"),
        ("Normal/huge.png", as_png(np.zeros((2000, 2001), np.uint8)), "too_many_pixels"),
        ("Normal/blank.png", as_png(BLANK), "blank"),
        ("Normal/black.png", as_png(BLANK * 0), "blank"),
        ("../Normal/out.png", as_png(picture("Normal", 1)), "unsafe_path"),
        ("/Normal/out.png", as_png(picture("Normal", 1)), "unsafe_path"),
        ("Normal\\..\\..\\out.png", as_png(picture("Normal", 1)), "unsafe_path"),
        ("C:/Normal/out.png", as_png(picture("Normal", 1)), "unsafe_path"),
        ("lone.png", as_png(picture("Normal", 1)), "no_class_folder"),
        ("train/lone.png", as_png(picture("Normal", 1)), "no_class_folder"),
    ],
)
def test_what_is_no_usable_picture_is_set_aside(
    tmp_path: Path, path: str, data: bytes, reason: str
) -> None:
    manifest, table = fetch(tmp_path, {path: data})
    assert manifest.quarantined == {reason: 1}
    assert manifest.pictures == {"Normal": 1}
    assert table.loc[path.replace("\\", "/"), "reason"] == reason
    outside = {each.name for each in tmp_path.parent.iterdir()} | {
        each.name for each in tmp_path.iterdir()
    }
    assert "out.png" not in outside


def test_an_archive_made_to_fill_a_disk_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = b"\x89PNG\r\n\x1a\n" + bytes(9 * 1024**2)
    _, table = fetch(tmp_path, {"Normal/bomb.png": bomb})
    assert table.loc["Normal/bomb.png", "reason"] == "too_large"
    # Its header may lie about the size.
    place = write_zip(tmp_path / "lie.zip", {"Normal/bomb.png": bomb})
    content = place.read_bytes()
    size = len(bomb).to_bytes(4, "little")
    assert content.count(size) == 2
    place.write_bytes(content.replace(size, (100).to_bytes(4, "little")))
    with pytest.raises(DataError, match="none usable"):
        fetch_image_folder(SOURCE, "set", tmp_path / "more", origin=str(place))
    monkeypatch.setattr(image_folder, "MAX_FILES", 1)
    with pytest.raises(DataError, match="at most 1 files, got 2"):
        fetch(tmp_path, {"Normal/b.png": b""})
    monkeypatch.setattr(image_folder, "MAX_FILES", 9)
    monkeypatch.setattr(image_folder, "MAX_TOTAL_BYTES", 100)
    with pytest.raises(DataError, match="in all"):
        fetch(tmp_path, {})


def test_links_are_not_followed(tmp_path: Path) -> None:
    write_folders(tmp_path / "set", 1)
    (tmp_path / "secret.png").write_bytes(as_png(picture("Normal", 9)))
    (tmp_path / "set" / "train" / "Normal" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "set" / "train" / "Loop").symlink_to(tmp_path / "set", target_is_directory=True)
    manifest = fetch_image_folder(SOURCE, "set", tmp_path / "data", origin=str(tmp_path / "set"))
    assert manifest.quarantined == {"link": 2} and sum(manifest.pictures.values()) == 3


def test_one_of_several_copies_stays(tmp_path: Path) -> None:
    pixels = picture("Wide", 5)
    colour = np.repeat(pixels[:, :, None], 3, axis=2)
    files = {"Wide/b.png": as_png(colour), "Wide/a.png": as_png(pixels), "Wide/c.png": b"-"}
    files["Wide/c.png"] = as_png(pixels, compress_level=0)
    manifest, table = fetch(tmp_path, files)
    assert manifest.pictures == {"Normal": 1, "Wide": 1}
    assert table.loc["Wide/a.png", "status"] == "kept"
    for name in ("Wide/b.png", "Wide/c.png"):
        assert tuple(table.loc[name, ["reason", "twin"]]) == ("duplicate", "Wide/a.png")


def test_of_a_picture_in_two_classes_none_stays(tmp_path: Path) -> None:
    same = as_png(picture("Wide", 5))
    files = {"Wide/a.png": same, "Inverted/a.png": same, "Inverted/b.png": same}
    manifest, table = fetch(tmp_path, files)
    assert manifest.pictures == {"Normal": 1}
    assert set(table.loc[list(files), "reason"]) == {"contradictory"}
    assert table.loc["Inverted/b.png", "twin"] == "Wide/a.png"


def test_twins_share_a_group_and_neighbours_do_not(tmp_path: Path) -> None:
    pixels = picture("Normal", 5)
    twice = Image.fromarray(pixels).resize((288, 192), Image.Resampling.BICUBIC)
    files = {
        "Normal/a.png": as_png(pixels),
        "Normal/inverted.png": as_png(255 - pixels),
        "Normal/moved.png": as_png(np.pad(pixels, ((3, 30), (20, 1)), constant_values=255)),
        "Normal/twice.png": as_png(np.asarray(twice)),
        "Normal/a.jpg": as_jpeg(pixels),
        "Normal/other.png": as_png(picture("Normal", 6)),
    }
    manifest, table = fetch(tmp_path, files)
    assert (table["status"] == "kept").all()
    groups = table.loc[list(files), "group"]
    assert groups.iloc[:5].nunique() == 1 and groups.iloc[5] != groups.iloc[0]
    assert manifest.groups == 3  # those, the other, the good one
    assert (table.loc[list(files)[:5], "correlation"] > 0.92).all()


def test_the_published_test_part_loses_what_training_has(tmp_path: Path) -> None:
    seen, new = picture("Normal", 5), picture("Normal", 6)
    files = {
        "train/Normal/a.png": as_png(seen),
        "test/Normal/copy.png": as_png(seen),
        "test/Normal/near.jpg": as_jpeg(seen),
        "test/Normal/new.png": as_png(new),
    }
    manifest, table = fetch(tmp_path, files)
    assert manifest.quarantined == {"twin_of_training": 2} and manifest.test_part
    assert table.loc["test/Normal/near.jpg", "twin"] == "train/Normal/a.png"
    assert tuple(table.loc["test/Normal/new.png", ["part", "status"]]) == ("test", "kept")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of each class in training, four in test, some that are set aside."""
    root = tmp_path_factory.mktemp("pictures")
    write_folders(root / "set", 12)
    write_folders(root / "set", 4, part="test", first=50)
    train = root / "set" / "train"
    for i in range(3):
        (train / "Wide" / f"blank_{i}.png").write_bytes(as_png(BLANK))
    (train / "Wide" / "again.jpg").write_bytes(as_jpeg(picture("Wide", 3)))
    (train / "Sketches").mkdir()
    (train / "Sketches" / "one.png").write_bytes(as_png(picture("Wide", 80)))
    fetch_image_folder(SOURCE, "set", root / "data", origin=str(root / "set"))
    return root / "data"


def protocol(**split: object) -> Protocol:
    values = {"by": "patient", "test_share": 0.25, "validation_share": 0.25, **split}
    return Protocol.model_validate(
        {"labels": SCHEME, "split": values, "gate": [{"metric": "accuracy", "at_least": 0.9}]}
    )


def test_pictures_are_stored_as_beats_are(dataset: Path, tmp_path: Path) -> None:
    store_pictures(dataset, SPEC, SCHEME, tmp_path / "images", workers=1)
    images = BeatImages.open(tmp_path / "images")
    assert set(images.beats["symbol"]) == {"Normal", "Wide", "Inverted"}  # no class for sketches
    assert len(images.beats) == 3 * 16 + 1
    assert set(images.beats["record"]) == {"train-0000", "test-0000"}
    # A shard's order says nothing about the class.
    train = images.beats[images.beats["part"] == "train"]
    assert (train["symbol"] != train["symbol"].shift()).sum() > 10
    planes = images.take(np.arange(len(images.beats)))
    assert planes.shape[1:] == SPEC.shape and (planes.min(axis=(1, 2)) == 0).all()


@pytest.mark.parametrize("published", [True, False])
def test_no_group_of_twins_is_parted(dataset: Path, tmp_path: Path, published: bool) -> None:
    beats = store_pictures(dataset, SPEC, SCHEME, tmp_path / "images", workers=1)
    parted = assign_sides(beats, SCHEME, protocol(published_part=published))
    assert parted.groupby("patient")["side"].nunique().max() == 1
    assert beats["patient"].nunique() == len(beats) - 1
    tests = parted["side"] == "test"
    assert (parted.loc[tests, "part"] == "test").all() == published
    if published:
        assert tests.sum() == 12


def test_store_refuses_what_pictures_are_not(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected picture"):
        store_pictures(dataset, WaveformSpec(representation="waveform"), SCHEME, tmp_path / "a")
    symbols = LabelScheme(source="test", classes={"N": "N"})
    with pytest.raises(ConfigError, match="lists of folders"):
        store_pictures(dataset, SPEC, symbols, tmp_path / "a")
    empty = LabelScheme(source="test", classes={"N": ("Nobody",)})
    with pytest.raises(DataError, match="in one of the folders Nobody"):
        store_pictures(dataset, SPEC, empty, tmp_path / "a")


def test_validation_names_every_file_set_aside(dataset: Path, tmp_path: Path) -> None:
    summary = validate_pictures(dataset, SCHEME, tmp_path)
    assert summary.ok
    failed = {outcome.name for outcome in summary.failed("warning")}
    assert failed == {"rarely_blank", "folders_have_a_class", "classes_large_enough"}
    quarantine = pd.read_csv(tmp_path / "quarantine.csv", keep_default_na=False)
    assert list(quarantine["reason"]) == ["blank"] * 3
    page = (tmp_path / "index.html").read_text()
    assert "train/Wide/blank_0.png" in page and "labels were not checked" in page
    assert summary.outcome("rarely_blank").unexpected == 3


def test_a_class_without_pictures_is_critical(dataset: Path, tmp_path: Path) -> None:
    scheme = LabelScheme(source="test", classes={"N": ("Normal",), "X": ("Nobody",)})
    summary = validate_pictures(dataset, scheme, tmp_path)
    assert {outcome.name for outcome in summary.failed("critical")} == {
        *("classes_there", "classes_can_be_split"),
    }


def test_label_schemes_of_folders() -> None:
    assert SCHEME.of_folders and SCHEME.symbols == {"Normal", "Wide", "Inverted", "Upside down"}
    found = SCHEME.encode(np.array(["Upside down", "Normal", "Sketches"], object))
    assert found.tolist() == [2, 0, -1]
    assert not LabelScheme(source="test", classes={"N": "NL"}).of_folders
    with pytest.raises(ValueError, match="folder 'a' is in class N and in M"):
        LabelScheme(source="test", classes={"N": ("a",), "M": ("a",)})
    with pytest.raises(ValueError, match="symbols for all classes or folders for all"):
        LabelScheme(source="test", classes={"N": ("a",), "M": "V"})


def test_a_picture_that_photographs_say_is_turned_is_turned(tmp_path: Path) -> None:
    upright = picture("Normal", 5)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter to the right to see it upright
    buffer = io.BytesIO()
    Image.fromarray(np.rot90(upright)).save(buffer, "JPEG", quality=95, exif=exif)
    files = {"Normal/a.png": as_png(upright), "Normal/turned.jpg": buffer.getvalue()}
    _, table = fetch(tmp_path, files)
    assert table.loc["Normal/turned.jpg", "group"] == table.loc["Normal/a.png", "group"]


def test_pictures_and_symbols_are_not_mixed_in_a_recipe(tmp_path: Path) -> None:
    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    values["recipes"]["folder6"]["protocol"] = "aami5"
    values["recipes"]["folder6"]["evaluate"]["headline"] = ["N"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=r"recipes\.folder6: pictures need a protocol"):
        read_params(tmp_path / "params.yaml")
    with pytest.raises(ValueError, match="pictures are in no records"):
        Protocol.model_validate({**protocol().model_dump(), "exclude_records": ["100"]})
