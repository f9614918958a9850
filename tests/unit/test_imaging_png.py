from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ecgbeats.errors import ImageError
from ecgbeats.imaging.png import SPEC_KEY, decode_image, decode_upload, encode_png
from ecgbeats.imaging.spec import CompositeSpec

pytestmark = pytest.mark.unit

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 20), dtype=np.uint8)


def test_a_png_holds_the_image_exactly_and_names_its_spec() -> None:
    png = encode_png(IMAGE, "0123")
    np.testing.assert_array_equal(decode_image(png, (12, 20), "0123"), IMAGE)
    with Image.open(io.BytesIO(png)) as opened:
        assert (opened.mode, opened.info[SPEC_KEY]) == ("L", "0123")


def test_colour_counts_by_its_luma_and_transparency_lies_on_white() -> None:
    # ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B.
    pixels = np.array([[[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255], [0, 0, 0, 0]]])
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    grey = decode_image(buffer.getvalue(), (1, 4), "0123")
    np.testing.assert_allclose(grey, [[76, 150, 29, 255]], atol=1)


def test_sixteen_bits_keep_their_upper_byte() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.array([[0, 0x1234, 0x80FF, 0xFFFF]], np.uint16)).save(buffer, "PNG")
    np.testing.assert_array_equal(
        decode_image(buffer.getvalue(), (1, 4), "0123"), [[0, 0x12, 0x80, 0xFF]]
    )


def test_another_size_is_resampled() -> None:
    halves = np.zeros((20, 40), np.uint8)
    halves[:, 20:] = 200
    image = decode_image(encode_png(halves, "0123"), (10, 10), "0123")
    assert image.shape == (10, 10)
    assert image[:, :4].max() == 0 and image[:, 6:].min() == 200


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", "not_an_image", id="empty"),
        pytest.param(b"GIF89a", "not_an_image", id="gif"),
        pytest.param(encode_png(IMAGE, "0123")[:-30], "damaged_image", id="truncated"),
        pytest.param(encode_png(IMAGE, "4567"), "other_spec", id="other spec"),
        pytest.param(
            encode_png(np.zeros((2000, 2001), np.uint8), "0123"), "too_many_pixels", id="large"
        ),
        pytest.param(
            encode_png(np.zeros((1, 16_385), np.uint8), "0123"), "too_many_pixels", id="thread"
        ),
    ],
)
def test_refuses_by_code(data: bytes, code: str) -> None:
    with pytest.raises(ImageError) as raised:
        decode_image(data, (12, 20), "0123")
    assert raised.value.code == code
    assert f"expected {raised.value.expected}, got {raised.value.got}" in str(raised.value)


def test_where_single_pixels_matter_none_is_resampled() -> None:
    spec = CompositeSpec(representation="composite", panel_height=16, values=True)
    drawn = np.random.default_rng(1).integers(0, 256, spec.shape, np.uint8)

    def enlarged(rows: int, columns: int, spec: CompositeSpec = spec) -> np.ndarray:
        buffer = io.BytesIO()
        way = Image.Resampling.NEAREST
        Image.fromarray(drawn).resize((columns, rows), way).save(buffer, "PNG")
        return decode_upload(buffer.getvalue(), spec)

    rows, columns = spec.shape
    for times in (1, 2, 3):
        np.testing.assert_array_equal(enlarged(times * rows, times * columns), drawn)
    for size in ((rows + 1, columns), (2 * rows, columns), (rows // 2, columns // 2)):
        with pytest.raises(ImageError, match=f"{columns} x {rows} pixels, or a whole") as raised:
            enlarged(*size)
        assert raised.value.code == "other_size"
    # Panels alone are as good at another size.
    plain = spec.model_copy(update={"values": False})
    assert enlarged(2 * rows, columns, plain).shape == plain.shape


def test_whoever_has_room_for_more_pixels_says_so() -> None:
    png = encode_png(np.full((2000, 2001), 7, np.uint8), "0123")
    image = decode_image(png, (12, 20), "0123", max_pixels=5_000_000)
    assert image.shape == (12, 20) and (image == 7).all()
    with pytest.raises(ImageError, match="at most 100 pixels"):
        decode_image(encode_png(IMAGE, "0123"), (12, 20), "0123", max_pixels=100)


def test_needs_no_table_or_signal_library() -> None:
    code = (
        "import sys, ecgbeats.imaging.png;"
        "print(*{'pandas', 'scipy', 'wfdb', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
