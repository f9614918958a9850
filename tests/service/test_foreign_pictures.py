"""Pictures of beats from elsewhere: answered by the model that suits them, or refused in words."""

from __future__ import annotations

import asyncio
import base64
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from ecgbeats.imaging.png import decode_upload, encode_png
from ecgbeats.imaging.render import render
from ecgbeats.imaging.spec import CompositeSpec
from tests.support.bentos import PICTURES, Built
from tests.support.pictures import as_jpeg, as_png, picture
from tests.support.recordings import bumps, recording, regular
from tests.support.tiny_model import write_tiny_model

pytestmark = pytest.mark.service

COMPOSITE = CompositeSpec(representation="composite")


@pytest.fixture
def running(service: Any, built: Built, tmp_path: Path) -> Any:
    """The service as if its first model took composite images, beside that for pictures."""
    made = service()
    first, beside = made._loaded
    composite = write_tiny_model(tmp_path / "model", COMPOSITE)
    about = first.about.model_copy(update={"name": "composite", "spec_id": COMPOSITE.spec_id})
    made._loaded = [type(first)(composite, about), beside]
    return made


@pytest.fixture(scope="module")
def ours() -> np.ndarray:
    """Composite images of beats, as exported."""
    samples = regular(30)
    images: np.ndarray = render(recording(bumps(samples, 12_000, seed=1)), samples, COMPOSITE)
    return images


def answered(running: Any, *contents: bytes) -> list[Any]:
    results: list[Any] = asyncio.run(running.classify(file=list(contents))).results
    return results


def drawn(*, mode: str, light: bool, width: int, size: tuple[int, int], margin: int) -> bytes:
    """The same beat as every picture of this function, in another style."""
    image = Image.new("L", size, 255)
    at = np.linspace(-1, 1, 400)
    trace = 0.9 * np.exp(-(at**2) / 0.004) + 0.2 * np.exp(-((at - 0.5) ** 2) / 0.02)
    x = np.linspace(margin, size[0] - margin, len(at))
    y = size[1] - margin - (size[1] - 2 * margin) * trace
    ImageDraw.Draw(image).line([*zip(x.tolist(), y.tolist(), strict=True)], fill=0, width=width)
    image = ImageOps.invert(image) if light else image
    if mode == "alpha":
        ink = ImageOps.invert(image)
        image = Image.merge("RGBA", [*(Image.new("L", size, k) for k in (20, 30, 90)), ink])
    elif mode != "L":
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


STYLES = [
    {"mode": "L", "light": False, "width": 2, "size": (300, 200), "margin": 20},
    {"mode": "L", "light": True, "width": 2, "size": (300, 200), "margin": 20},
    {"mode": "RGB", "light": False, "width": 3, "size": (600, 400), "margin": 90},
    {"mode": "RGB", "light": True, "width": 2, "size": (240, 180), "margin": 5},
    {"mode": "P", "light": False, "width": 2, "size": (300, 200), "margin": 40},
    {"mode": "1", "light": False, "width": 2, "size": (300, 200), "margin": 20},
    {"mode": "alpha", "light": False, "width": 2, "size": (300, 200), "margin": 20},
]


@pytest.mark.parametrize("style", STYLES, ids=lambda style: f"{style['mode']} {style['size']}")
def test_a_foreign_picture_is_answered_by_the_model_for_pictures(
    running: Any, style: dict[str, Any]
) -> None:
    (beat,) = answered(running, drawn(**style))
    assert beat.model == "ecgbeats-tiny-picture"
    plane = decode_upload(drawn(**style), PICTURES)
    offline = running._loaded[1].classifier.predict(plane[None])[0]
    np.testing.assert_allclose(list(beat.probabilities.values()), offline, atol=1e-6)


def test_a_foreign_picture_is_shown_as_the_model_saw_it(running: Any, ours: np.ndarray) -> None:
    foreign, exported = drawn(**STYLES[3]), encode_png(ours[4], COMPOSITE.spec_id)
    # By itself a small PNG is answered on a way of its own.
    for files, places in (([foreign], [0]), ([exported, foreign], [1, 0, 1])):
        answer = asyncio.run(running.classify(file=files, pictures=places))
        assert [picture.beat for picture in answer.pictures] == [*dict.fromkeys(places)]
        png = base64.b64decode(answer.pictures[0].png)
        np.testing.assert_array_equal(
            decode_upload(png, PICTURES), decode_upload(foreign, PICTURES)
        )
        (again,) = answered(running, png)
        assert again.probabilities == answer.results[places[0]].probabilities
    with pytest.raises(Exception, match="no_such_beat"):
        asyncio.run(running.classify(file=[foreign], pictures=[1]))


def test_an_image_may_have_as_many_pixels_as_the_setting_says(
    running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[type(running).__module__], "MAX_PIXELS", 100)
    with pytest.raises(Exception, match="at most 100 pixels"):
        answered(running, drawn(**STYLES[0]))


def test_pictures_of_both_kinds_are_answered_in_order(
    running: Any, built: Built, ours: np.ndarray
) -> None:
    foreign = as_png(picture("Wide", 3))
    exported = encode_png(ours[4], COMPOSITE.spec_id)
    unnamed = as_png(ours[5])
    as_photo = as_jpeg(ours[6], 90)
    named = encode_png(decode_upload(foreign, PICTURES), PICTURES.spec_id)
    beats = answered(running, foreign, exported, unnamed, named, as_photo)
    assert [beat.file for beat in beats] == list(range(5))
    assert [beat.model for beat in beats] == [
        "ecgbeats-tiny-picture",
        "composite",
        "composite",
        "ecgbeats-tiny-picture",
        "composite",
    ]
    classifier = running._loaded[0].classifier
    np.testing.assert_allclose(
        [list(beats[k].probabilities.values()) for k in (1, 2)],
        classifier.predict(ours[4:6]),
        atol=1e-6,
    )
    assert beats[0].probabilities == beats[3].probabilities
    assert asyncio.run(running.explain(file=[foreign])).size == (
        PICTURES.width * 6,
        PICTURES.height * 6,
    )


def _shapes() -> dict[str, bytes]:
    """Pictures of no beat."""
    size, rng = (300, 200), np.random.default_rng(1)
    found = {}

    def keep(name: str, draw: Any) -> None:
        image = Image.new("L", size, 255)
        draw(ImageDraw.Draw(image))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        found[name] = buffer.getvalue()

    def several(pen: Any) -> None:
        x = np.arange(300)
        for lead in range(4):
            y = 30 + 45 * lead + 10 * np.sin(x / 9 + lead)
            pen.line([*zip(x.tolist(), y.tolist(), strict=True)], fill=0)

    keep(
        "text",
        lambda pen: [
            pen.text((5, y), "The quick brown fox jumps " * 2)
            or pen.text((5, y), "The quick brown fox jumps over it", fill=0)
            for y in range(5, 190, 14)
        ],
    )
    keep("word", lambda pen: pen.text((100, 90), "Hello world", fill=0))
    keep(
        "bars",
        lambda pen: [
            pen.rectangle((20 + 40 * k, 190 - high, 45 + 40 * k, 190), fill=40)
            for k, high in enumerate((50, 120, 90, 160, 30, 70))
        ],
    )
    keep("disc", lambda pen: pen.ellipse((80, 40, 220, 160), fill=0))
    keep("ring", lambda pen: pen.ellipse((80, 40, 220, 160), outline=0, width=3))
    keep("line", lambda pen: pen.line((10, 100, 290, 100), fill=0, width=2))
    keep("leads", several)
    found["noise"] = as_png(rng.integers(0, 256, (120, 160), dtype=np.uint8))
    slope = np.tile(np.linspace(0, 255, 160), (120, 1))
    found["slope"] = as_png(slope.astype(np.uint8))
    found["even"] = as_png(np.full((50, 50), 200, np.uint8))
    return found


@pytest.mark.parametrize("name", sorted(_shapes()))
def test_what_is_no_beat_is_said_to_be_none(running: Any, name: str) -> None:
    with pytest.raises(Exception, match=r"not_a_beat|blank_image") as refused:
        answered(running, _shapes()[name])
    assert refused.value.problem.code in ("not_a_beat", "blank_image")
    # Nor by a service that knows composite images alone.
    running._loaded = running._loaded[:1]
    with pytest.raises(Exception, match="not_a_beat"):
        answered(running, _shapes()[name])


def test_a_plain_picture_is_none_for_a_service_of_composite_images_alone(running: Any) -> None:
    running._loaded = running._loaded[:1]
    with pytest.raises(Exception, match="as this project exports them"):
        answered(running, as_png(picture("Normal", 1)))
