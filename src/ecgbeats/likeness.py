"""Whether an image from elsewhere looks like a beat at all, before a model is asked about it.

A network answers whatever it is shown. An image that names its spec is ours; any other is held
against what images of the spec have in common, and refused if it has it not.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ecgbeats.errors import ImageError
from ecgbeats.imaging.png import MAX_PIXELS, SPEC_KEY
from ecgbeats.imaging.spec import PANELLED, PictureSpec, ScalogramSpec, Spec, SpectrogramSpec

# A plane's pixel is ink from here, of 255 at full.
_INK = 90
# One trace: of 3,300 beats of DS1 and 880 drawn in five other styles, none has over 1.07 lines a
# column, ink on over 8 % of the plane, or gaps in over a third of its columns. Text, charts,
# drawings of shapes, several leads and photographs have.
_MOST_LINES, _MOST_INK, _LEAST_HELD = 1.25, 0.15, 0.6
# Rows that a trace spans at least; a straight line is no beat.
_LEAST_ROWS = 5
# Grey levels by which blocks of even grey may differ, of a JPEG or after resampling.
_EVEN = 12.0
_OF_BLOCKS = 0.75


def named_spec(data: bytes) -> str | None:
    """The spec that an uploaded PNG says it was drawn by, if it says so."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            name = image.info.get(SPEC_KEY)
    except Exception:  # what is wrong with it is said where it is decoded
        return None
    return name if isinstance(name, str) else None


def check_likeness(image: np.ndarray, spec: Spec) -> None:
    """Refuse an image, as a model for `spec` would take it, that shows no beat.

    Parameters
    ----------
    image : ndarray of uint8, shape `spec.shape`

    Raises
    ------
    ImageError
        With code "not_a_beat". Never for a spec of plain traces with axes of their own
        (`waveform`) or of values (`features`).
    """
    if isinstance(spec, PictureSpec):
        _one_trace(image)
    elif isinstance(spec, PANELLED) and spec.strip_height:
        _panels_over_blocks(image, spec)


def _one_trace(plane: np.ndarray) -> None:
    ink = plane < 255 - _INK
    columns = np.flatnonzero(ink.any(axis=0))
    rows = np.flatnonzero(ink.any(axis=1))
    expected = "a picture of one beat: one thin trace on an even background"
    if not len(columns):
        raise ImageError("not_a_beat", expected, "an even picture")
    starts = (ink[1:] & ~ink[:-1]).sum(axis=0) + ink[0]
    lines = float(starts[columns].mean())
    held = len(columns) / (columns[-1] - columns[0] + 1)
    if lines > _MOST_LINES:
        raise ImageError("not_a_beat", expected, f"{lines:.1f} lines beside one another")
    if ink.mean() > _MOST_INK:
        raise ImageError("not_a_beat", expected, f"ink on {100 * ink.mean():.0f} % of it")
    if held < _LEAST_HELD:
        raise ImageError("not_a_beat", expected, "strokes with gaps between")
    if rows[-1] - rows[0] + 1 < _LEAST_ROWS:
        raise ImageError("not_a_beat", expected, "a straight line")


def _panels_over_blocks(image: np.ndarray, spec: Spec) -> None:
    """Panels whose usual grey is that of no signal, above a strip of even blocks."""
    from ecgbeats.beats import RHYTHMS

    assert isinstance(spec, PANELLED)
    expected = f"an image of spec {spec.spec_id}, as this project exports them"
    if not isinstance(spec, SpectrogramSpec) and not (
        isinstance(spec, ScalogramSpec) and spec.value == "magnitude"
    ):
        # Signed transforms: more than half of it is about nothing.
        usual = float(np.median(image[: -spec.strip_height]))
        if abs(usual - 128) > 64:
            raise ImageError("not_a_beat", expected, f"a picture whose usual grey is {usual:.0f}")
    strip = image[-spec.strip_height :].astype(np.float64)
    count = len(RHYTHMS[spec.rhythm])
    width = spec.width // count
    edge = max(1, round((1 - _OF_BLOCKS) / 2 * width)) if width > 2 else 0
    inner = strip[1:] if len(strip) > 2 else strip
    for k in range(count):
        block = inner[:, k * width + edge : (k + 1) * width - edge]
        if block.size and float(block.std()) > _EVEN:
            raise ImageError("not_a_beat", expected, "no rhythm strip at its foot")
    rest = inner[:, count * width + edge :]
    if rest.size and abs(float(rest.mean()) - 128) > 2 * _EVEN:
        raise ImageError("not_a_beat", expected, "no rhythm strip at its foot")
