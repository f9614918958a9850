"""Any plain picture of a beat comes to the same plane, and so to the same answer."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ecgbeats.errors import ImageError
from ecgbeats.imaging.pixels import flatten, ink, is_blank, to_plane
from ecgbeats.imaging.png import decode_upload, encode_png
from ecgbeats.imaging.render import render
from ecgbeats.imaging.spec import PictureSpec, WaveformSpec, spec_from_json
from ecgbeats.records import Recording
from tests.support.pictures import FOLDERS, as_jpeg, as_png, exif, picture
from tests.support.tiny_model import write_tiny_model

pytestmark = pytest.mark.unit

SPEC = PictureSpec(representation="picture")
PIXELS = picture("Normal", 3)


def plane(pixels: np.ndarray) -> np.ndarray:
    return decode_upload(as_png(pixels), SPEC)


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_the_plane_is_white_with_a_black_trace_from_edge_to_edge() -> None:
    found = plane(PIXELS)
    assert found.shape == (64, 96) and found.dtype == np.uint8
    assert np.median(found) == 255
    darkest = found.min(axis=0)
    # No gap anywhere, however thin the line: the plane is smaller than the picture.
    assert (darkest < 128).all() and (darkest == 0).mean() > 0.4


def with_alpha(pixels: np.ndarray, line: int) -> np.ndarray:
    """The trace in one colour on nothing, as drawing programs export it."""
    rgba = np.full((*pixels.shape, 4), line, np.uint8)
    rgba[:, :, 3] = 255 - pixels
    return rgba


def coloured(pixels: np.ndarray) -> np.ndarray:
    """A pure blue trace on white: nearly no luminance, all in two channels."""
    return np.stack([pixels, pixels, np.full_like(pixels, 255)], axis=2)


def palette(pixels: np.ndarray) -> bytes:
    image = Image.fromarray(pixels).convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


SAME: dict[str, Callable[[np.ndarray], bytes]] = {
    "light on dark": lambda p: as_png(255 - p),
    "colour": lambda p: as_png(np.repeat(p[:, :, None], 3, axis=2)),
    "sixteen bits": lambda p: as_png(p.astype(np.uint16) * 257),
    "margins": lambda p: as_png(np.pad(p, ((5, 60), (40, 0)), constant_values=255)),
    "grey and alpha": lambda p: as_png(np.stack([p, np.full_like(p, 255)], axis=2)),
    "palette": palette,
    "grey paper": lambda p: as_png((p * 0.9).astype(np.uint8)),
    "black on nothing": lambda p: as_png(with_alpha(p, 0)),
    "white on nothing": lambda p: as_png(with_alpha(p, 255)),
    "blue on white": lambda p: as_png(coloured(p)),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
@pytest.mark.parametrize("folder", FOLDERS)
def test_polarity_mode_margins_and_paper_do_not_matter(
    change: Callable[[np.ndarray], bytes], folder: str
) -> None:
    pixels = picture(folder, 3)
    assert likeness(decode_upload(change(pixels), SPEC), plane(pixels)) > 0.995


@pytest.mark.parametrize("times", [1.5, 2, 4])
def test_size_hardly_matters(times: float) -> None:
    size = (round(144 * times), round(96 * times))
    larger = np.asarray(Image.fromarray(PIXELS).resize(size, Image.Resampling.BICUBIC))
    assert likeness(plane(larger), plane(PIXELS)) > 0.93
    # Much more than another beat of the same kind.
    assert likeness(plane(picture("Normal", 4)), plane(PIXELS)) < 0.8


def test_a_thin_line_in_a_large_picture_does_not_vanish() -> None:
    drawn = picture("Wide", 1, size=(960, 1440), thick=1.0)
    found = plane(drawn)
    assert (found.min(axis=0) < 160).all()


def test_compression_hardly_matters() -> None:
    assert likeness(decode_upload(as_jpeg(PIXELS, 75), SPEC), plane(PIXELS)) > 0.9


# A resolution that is text, a description and a time that are fractions.
ODD_TAGS = [(0x011A, 2, 1, 0), (0x010E, 5, 1, 0), (0x0132, 12, 1, 26)]


@pytest.mark.parametrize("odd", [[], *([tag] for tag in ODD_TAGS)], ids=str)
def test_photographs_are_turned_by_their_tag_whatever_else_is_in_their_exif(odd: list) -> None:
    turned = as_jpeg(np.rot90(PIXELS), 95, exif=exif(6, *odd))
    assert likeness(decode_upload(turned, SPEC), plane(PIXELS)) > 0.95


def test_exif_beyond_reading_is_a_damaged_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def getexif(_: Image.Image) -> Image.Exif:
        raise AttributeError("as Pillow has raised on crafted tags")

    monkeypatch.setattr(Image.Image, "getexif", getexif)
    with pytest.raises(ImageError) as raised:
        decode_upload(as_jpeg(PIXELS), SPEC)
    assert raised.value.code == "damaged_image"


def test_without_crop_margins_stay() -> None:
    whole = SPEC.model_copy(update={"crop": False})
    margin = np.pad(PIXELS, ((40, 40), (60, 60)), constant_values=255)
    found = decode_upload(as_png(margin), whole)
    assert found.shape == (64, 96) and (found[:, :10] == 255).all() and (found[:5] == 255).all()
    assert found.min() == 0


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param(np.full((50, 80), 255, np.uint8), id="white"),
        pytest.param(np.zeros((50, 80), np.uint8), id="black"),
        pytest.param(
            np.random.default_rng(0).integers(248, 256, (50, 80), dtype=np.uint8), id="noise"
        ),
        pytest.param(np.pad(np.zeros((2, 2), np.uint8), 30, constant_values=255), id="speck"),
    ],
)
def test_a_picture_without_a_trace_is_blank(pixels: np.ndarray) -> None:
    assert is_blank(ink(flatten(Image.fromarray(pixels))[None])[0])
    with pytest.raises(ImageError) as raised:
        plane(pixels)
    assert raised.value.code == "blank_image"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F"])
def test_every_mode_is_flattened(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert("RGB").convert(mode)
    found = flatten(image)
    assert found.dtype == np.uint8 and found.shape[:2] == PIXELS.shape
    assert not is_blank(ink(found[None])[0])


def test_pictures_of_one_size_are_drawn_at_once_as_one_by_one() -> None:
    many = np.stack([picture(folder, seed) for folder in FOLDERS for seed in range(4)])
    together = to_plane(ink(many[:, :, :, None]), SPEC.shape)
    alone = [to_plane(ink(each[None, :, :, None]), SPEC.shape)[0] for each in many]
    # The order of sums may differ in the last place: by one grey level at most.
    assert np.abs(together.astype(int) - np.stack(alone)).max() <= 1


def recording(scale: float = 1.0, lead: str = "MLII", fs: float = 360.0) -> Recording:
    """Four beats, upright and wide by turns, in millivolts."""
    at = np.arange(int(8 * fs)) / fs
    signal = 0.02 * np.random.default_rng(0).normal(size=len(at))
    for k, centre in enumerate(np.arange(1.5, 7.5, 1.5)):
        signal += 0.8 * scale * np.exp(-((at - centre) ** 2) / (2 * (0.015 + 0.03 * (k % 2)) ** 2))
    limits = np.array([[-10, 10]], np.float32)
    return Recording("r", fs, (lead,), signal[:, None].astype(np.float32), limits)


def test_beats_of_a_recording_are_drawn_without_their_rhythm() -> None:
    source = recording()
    samples = np.array([540, 1080, 1620, 2160])
    images = render(source, samples, SPEC)
    assert images.shape == (4, 64, 96) and (images.min(axis=1) < 128).all()
    # Each by itself: the same beat among others, or alone, is the same picture.
    np.testing.assert_array_equal(render(source, samples[2:3], SPEC)[0], images[2])
    assert likeness(images[0], images[2]) > likeness(images[0], images[1])
    # The rate of the recording does not show.
    resampled = render(recording(fs=250.0), np.array([375, 750, 1125, 1500]), SPEC)
    assert likeness(resampled[0], images[0]) > 0.6


def test_what_leaves_the_frame_is_not_drawn() -> None:
    images = render(recording(scale=5.0), np.array([540]), SPEC)
    assert (images[0].min(axis=0) > 200).any()
    assert render(recording(), np.array([], int), SPEC).shape == (0, 64, 96)


def test_an_export_of_ours_classifies_as_offline(tmp_path: Path) -> None:
    classifier = write_tiny_model(tmp_path / "model", SPEC)
    images = render(recording(), np.array([540, 1080]), SPEC)
    offline = classifier.predict(images)
    uploads = np.stack([decode_upload(encode_png(i, SPEC.spec_id), SPEC) for i in images])
    np.testing.assert_array_equal(uploads, images)
    np.testing.assert_array_equal(classifier.predict(uploads), offline)
    # Without its tag it is a picture as any other, and comes out nearly the same.
    again = plane(images[0])
    assert likeness(again, images[0]) > 0.8


def test_another_spec_is_refused_and_stays_strict() -> None:
    other = WaveformSpec(representation="waveform", height=64, width=96)
    with pytest.raises(ImageError) as raised:
        decode_upload(encode_png(plane(PIXELS), other.spec_id), SPEC)
    assert raised.value.code == "other_spec"
    # Any other model takes pixels as they are.
    np.testing.assert_array_equal(decode_upload(as_png(255 - plane(PIXELS)), other)[0, 0], 0)


def test_the_spec_survives_json() -> None:
    assert spec_from_json(SPEC.model_dump(mode="json")) == SPEC
    assert SPEC.model_copy(update={"crop": False}).spec_id != SPEC.spec_id
    with pytest.raises(ValueError, match="low_mv"):
        PictureSpec(representation="picture", low_mv=2.0, high_mv=1.0)
