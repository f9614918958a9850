import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ecgbeats.errors import ConfigError
from ecgbeats.imaging.png import decode_image
from ecgbeats.imaging.sheets import class_sheets, contact_sheet, export_pngs
from ecgbeats.imaging.spec import CompositeSpec
from ecgbeats.imaging.store import BeatImages, render_dataset
from tests.support.recordings import AAMI5, write_dataset

pytestmark = pytest.mark.unit

SPEC = CompositeSpec(representation="composite", panel_height=8, width=20, strip_height=2)


@pytest.fixture
def images(tmp_path: Path) -> BeatImages:
    write_dataset(tmp_path / "raw", {"a": "NNNVNANNN", "b": "NNNNVNNNN"})
    render_dataset(tmp_path / "raw", SPEC, AAMI5, tmp_path / "images", workers=1)
    return BeatImages.open(tmp_path / "images")


def test_exported_pngs_hold_the_very_pixels(images: BeatImages, tmp_path: Path) -> None:
    counts = export_pngs(images, AAMI5, tmp_path / "out")
    assert counts == {"N": 15, "S": 1, "V": 2, "F": 0, "Q": 0}
    for index, beat in images.beats.iterrows():
        name = AAMI5.names[AAMI5.encode(np.array([beat["symbol"]]))[0]]
        path = tmp_path / "out" / name / f"{beat['record']}_{beat['sample']:08d}.png"
        pixels = decode_image(path.read_bytes(), SPEC.shape, SPEC.spec_id)
        assert (pixels == images.take(np.array([index]))[0]).all()


def test_export_of_some_records_and_at_most_so_many(images: BeatImages, tmp_path: Path) -> None:
    counts = export_pngs(images, AAMI5, tmp_path / "out", records=["b"], each=3)
    assert (counts["N"], counts["V"]) == (3, 1)
    assert {path.name[0] for path in (tmp_path / "out").rglob("*.png")} == {"b"}


def test_export_refuses_unknown_records_and_an_existing_folder(
    images: BeatImages, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="zz"):
        export_pngs(images, AAMI5, tmp_path / "out", records=["zz"])
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="is there already"):
        export_pngs(images, AAMI5, tmp_path)


def test_a_sheet_shows_every_record_of_a_class(images: BeatImages) -> None:
    labels = np.array(AAMI5.names, object)[AAMI5.encode(images.beats["symbol"].to_numpy())]
    sheets = class_sheets(images, labels, AAMI5.names, each=2)
    assert set(sheets) == {"N", "S", "V"}
    picture = Image.open(io.BytesIO(sheets["V"]))
    shown = np.asarray(picture)[::2, ::2][2 : 2 + SPEC.shape[0]]
    both = images.take(np.flatnonzero(labels == "V"))
    assert (shown[:, 2 : 2 + SPEC.width] == both[0]).all()
    assert (shown[:, 4 + SPEC.width : 4 + 2 * SPEC.width] == both[1]).all()


def test_a_contact_sheet_has_room_for_all() -> None:
    sheet = Image.open(io.BytesIO(contact_sheet(np.zeros((13, 4, 5), np.uint8), 6, scale=1)))
    assert sheet.size == (6 * 7 + 2, 3 * 6 + 2)
