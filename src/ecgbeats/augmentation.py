"""Training images altered at random, in ways that leave the class of the beat as it was.

What an image shows decides what an operation does to it (`ecgbeats.imaging.spec`). Traces
are moved as pictures are, white coming in. Of time-frequency images each panel is altered by
itself, and operations on time and amplitude are what they would be to the signal: a beat
stretched by a factor moves along the columns and, as scales are logarithmic, along the rows.
The rhythm strip is no picture; only `rhythm_jitter` touches it here, and `ecgbeats.contexts`.
Leads are changed first, values with them (`ecgbeats.imaging.leads`).

All is drawn from the generator given, so that a batch is the same whenever it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, pi

import numpy as np

from ecgbeats.beats import RHYTHMS
from ecgbeats.config import AugmentParams, LeadChanges
from ecgbeats.errors import ConfigError
from ecgbeats.imaging import leads
from ecgbeats.imaging.plane import HALF_LEVEL
from ecgbeats.imaging.spec import (
    CompositeSpec,
    PictureSpec,
    ScalogramSpec,
    Spec,
    SpectrogramSpec,
    WaveformSpec,
)

# Images altered at once: the work arrays then stay in cache.
_CHUNK = 32
# Cycles of a time warp over the image: from half a beat faster, half slower, to some waves.
_WARP_CYCLES = (0.5, 2.0)
# Baseline wander, by breathing and movement, in Hz.
_WANDER_HZ = (0.15, 0.5)
# What a waveform from one R peak to the next but one takes at 75 beats a minute.
_RR_WINDOW_S = 1.5


@dataclass(frozen=True)
class _Layout:
    """What is where in an image: equal panels, and under them the strip.

    Attributes
    ----------
    zero : int
        Grey level where nothing is.
    kind : str
        "trace", "signed" (time-scale, zero is middle grey), "magnitude" or "decibel".
    time_axis : tuple of float
        Seconds of the first and the last column, from R.
    scales : tuple of float or None
        Seconds of the first and the last row of a panel, in geometric steps.
    """

    kind: str
    panels: int
    height: int
    width: int
    zero: int
    time_axis: tuple[float, float]
    scales: tuple[float, float] | None = None
    # Blocks of the rhythm strip, and its rows.
    rhythm: int = 0
    strip: int = 0

    @classmethod
    def of(cls, spec: Spec) -> _Layout:
        rows, columns = spec.shape
        if isinstance(spec, (WaveformSpec, PictureSpec)):
            ends = (-spec.before_ms / 1000, spec.after_ms / 1000)
            if isinstance(spec, WaveformSpec) and spec.window == "rr":
                ends = (-_RR_WINDOW_S / 2, _RR_WINDOW_S / 2)
            return cls("trace", 1, rows, columns, 255, ends)
        if not isinstance(spec, (CompositeSpec, ScalogramSpec, SpectrogramSpec)):
            raise ConfigError(
                f"train.augment: expected images with a time axis, got {spec.representation}"
            )
        panels, rhythm, strip = spec.panel_count, len(RHYTHMS[spec.rhythm]), spec.strip_height
        ends = (-spec.before_ms / 1000, spec.after_ms / 1000)
        if isinstance(spec, SpectrogramSpec):
            return cls(
                "decibel", panels, spec.panel_height, columns, 0, ends, rhythm=rhythm, strip=strip
            )
        signed = isinstance(spec, CompositeSpec) or spec.value == "signed"
        scales = (spec.finest_ms / 1000, spec.coarsest_ms / 1000)
        kind, zero = ("signed", 128) if signed else ("magnitude", 0)
        return cls(kind, panels, spec.panel_height, columns, zero, ends, scales, rhythm, strip)

    @property
    def r_column(self) -> float:
        first, last = self.time_axis
        return -first / (last - first) * (self.width - 1)


class Augmentation:
    """Alters batches of images of one spec.

    Parameters
    ----------
    params : AugmentParams
    spec : Spec
    classes : sequence of str
        Names, in the order of the labels.

    Raises
    ------
    ConfigError
        An operation has no meaning for these images, or a class is not among `classes`.
    """

    def __init__(self, params: AugmentParams, spec: Spec, classes: Sequence[str]) -> None:
        self._params, self._spec = params, spec
        self._layout = _Layout.of(spec)
        self._check()
        nine = params.nine_crop
        self._cropped = np.ones(len(classes), bool)
        if nine is not None and nine.classes is not None:
            for name in nine.classes:
                if name not in classes:
                    raise ConfigError(
                        "train.augment.nine_crop.classes: expected some of "
                        f"{', '.join(classes)}; got {name!r}"
                    )
            self._cropped = np.isin(classes, nine.classes)

    @classmethod
    def of(cls, params: AugmentParams, spec: Spec, classes: Sequence[str]) -> Augmentation | None:
        """The augmentation that `params` ask for; None where all is off."""
        return cls(params, spec, classes) if params.any_on_pixels else None

    def copies(self, labels: np.ndarray) -> np.ndarray:
        """How often each beat is shown in an epoch, by its label, int (n,)."""
        nine = self._params.nine_crop
        return np.where(self._cropped[labels], nine.copies if nine is not None else 1, 1)

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Altered copies of `images`.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, rows, columns)
        labels : ndarray of int, shape (n,)
        rng : Generator
            The only chance there is.

        Returns
        -------
        ndarray of float32, shape (n, rows, columns)
            Whole grey levels, 0 to 255.
        """
        out = images.astype(np.float32)
        chosen = np.flatnonzero(rng.random(len(images)) < self._params.probability)
        for start in range(0, len(chosen), _CHUNK):
            part = chosen[start : start + _CHUNK]
            out[part] = self._altered(out[part], labels[part], rng)
        return out

    def _altered(self, out: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        params, layout = self._params, self._layout
        count, bottom = len(out), layout.panels * layout.height
        if params.leads is not None:
            self._change_leads(out, params.leads, rng)
        shape = (count, layout.panels, layout.height, layout.width)
        body = (out[:, :bottom] - np.float32(layout.zero)).reshape(shape)
        body = self._moved(body, labels, rng)
        if layout.kind != "trace":
            self._revalue(body, rng)
        if params.noise:
            deviation = params.noise * _even(rng, 0, 1, count)
            body += rng.standard_normal(shape, np.float32) * deviation[:, None, None, None]
        if params.brightness:
            change = _even(rng, -params.brightness, params.brightness, count)
            body += change[:, None, None, None]
        out[:, :bottom] = body.reshape(count, bottom, -1) + np.float32(layout.zero)
        if params.rhythm_jitter:
            block = layout.width // layout.rhythm
            jitter = rng.normal(0, params.rhythm_jitter, (count, layout.rhythm))
            wide = np.repeat(jitter.astype(np.float32), block, axis=1)[:, None, :]
            out[:, -layout.strip :, : wide.shape[2]] += wide
        # As an image holds them: what comes in service looks the same.
        np.rint(out, out=out)
        return np.clip(out, 1 if layout.zero == 128 else 0, 255, out=out)

    def _change_leads(
        self, out: np.ndarray, changes: LeadChanges, rng: np.random.Generator
    ) -> None:
        spec = leads.signed(self._spec)
        if changes.exchanged:
            leads.exchange(out, _some(rng, changes.exchanged, len(out)), spec)
        if changes.inverted:
            for lead in range(spec.leads):
                leads.invert(out, _some(rng, changes.inverted, len(out)), spec, lead)
        if changes.missing:
            leads.remove(out, _some(rng, changes.missing, len(out)), spec)

    def _check(self) -> None:
        params, layout = self._params, self._layout

        def refuse(name: str, why: str) -> None:
            raise ConfigError(f"train.augment.{name} of {self._spec.representation}: {why}")

        if params.brightness and layout.kind != "trace":
            refuse("brightness", "grey levels are values there, see amplitude")
        if params.flip_vertical and layout.kind in ("magnitude", "decibel"):
            refuse("flip_vertical", "the images do not show polarity")
        if params.rhythm_jitter and not getattr(self._spec, "strip_height", 0):
            refuse("rhythm_jitter", "the images have no rhythm strip")
        alone = type(params)(
            probability=params.probability,
            rhythm_contexts=params.rhythm_contexts,
            rhythm_jitter=params.rhythm_jitter,
            leads=params.leads,
        )
        if getattr(self._spec, "values", False) and params != alone:
            raise ConfigError(
                "train.augment: expected leads, rhythm_contexts and rhythm_jitter alone, as "
                "image.values is set: values would stay as they are while the panels change"
            )
        if params.leads is not None:
            two = leads.signed(self._spec).leads == 2
            if not two and (params.leads.exchanged or params.leads.missing):
                refuse("leads", "expected two leads to exchange, or to miss one of")
        if params.baseline_wander:
            wavelet = getattr(self._spec, "wavelet", "mexican_hat")
            if layout.kind in ("magnitude", "decibel") or wavelet != "mexican_hat":
                refuse(
                    "baseline_wander",
                    "expected traces or signed transforms by the Mexican hat, to which it "
                    "can be added",
                )

    # Moving ---------------------------------------------------------------------------------

    def _moved(self, body: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Panels, shape (n, panels, height, width), resampled at other rows and columns."""
        count, panels, height, width = body.shape
        columns = np.tile(np.arange(width, dtype=np.float32), (count, 1))
        rows = np.tile(np.arange(height, dtype=np.float32), (count, 1))
        still_columns, still_rows = columns, rows
        columns, rows = self._sources(columns, rows, labels, rng)
        if columns is not still_columns:
            weight = _interpolation(columns, width, hold=False)
            flat = body.reshape(count, panels * height, width)
            body = (flat @ weight.transpose(0, 2, 1)).reshape(body.shape)
        if rows is not still_rows:
            # Rows of a panel are scales, which go on beyond it: no emptiness comes in.
            weight = _interpolation(rows, height, hold=self._layout.kind != "trace")
            body = weight[:, None] @ body
        offset = self._slopes(count, rng)
        return body if offset is None else self._sheared(body, offset)

    def _sources(
        self, columns: np.ndarray, rows: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where the pixels of each output column and row come from, (n, width), (n, height)."""
        params, layout = self._params, self._layout
        count, width, height = len(labels), layout.width, layout.height
        if params.flip_horizontal:
            flip = rng.random(count) < params.flip_horizontal
            columns = np.where(flip[:, None], width - 1 - columns, columns)
        if params.shift:
            columns = columns - _even(rng, -params.shift, params.shift, (count, 1)) * width
        if params.zoom:
            factor = np.exp(_even(rng, -params.zoom, params.zoom, (count, 1)))
            middle = (width - 1) / 2 if layout.kind == "trace" else layout.r_column
            columns = middle + (columns - middle) / factor
            rows = self._stretched_rows(rows, factor)
        if params.time_warp:
            columns = columns + _warp(columns, width, layout.r_column, params.time_warp, rng)
        if layout.kind == "trace":
            middle = self._zero_row()
            if params.amplitude:
                factor = np.exp(_even(rng, -params.amplitude, params.amplitude, (count, 1)))
                rows = middle + (rows - middle) / factor
            if params.flip_vertical:
                flip = rng.random(count) < params.flip_vertical
                rows = np.where(flip[:, None], 2 * middle - rows, rows)
        if params.crop:
            share = 1 - _even(rng, 0, params.crop, (count, 1))
            columns = _cropped(columns, width, share, _even(rng, 0, 1, (count, 1)))
            rows = _cropped(rows, height, share, _even(rng, 0, 1, (count, 1)))
        nine = params.nine_crop
        if nine is not None:
            crops = self._cropped[labels] & (rng.random(count) < nine.probability)
            share = np.where(crops, nine.share, 1.0).astype(np.float32)[:, None]
            place = rng.integers(0, 3, (2, count, 1)).astype(np.float32) / 2
            if crops.any():
                columns = _cropped(columns, width, share, place[0])
                rows = _cropped(rows, height, share, place[1])
        return columns.astype(np.float32, copy=False), rows.astype(np.float32, copy=False)

    def _stretched_rows(self, rows: np.ndarray, factor: np.ndarray) -> np.ndarray:
        """Rows where a beat that lasts `factor` times as long was before it did."""
        layout, spec = self._layout, self._spec
        if layout.scales is not None:
            finest, coarsest = layout.scales
            step = log(coarsest / finest) / (layout.height - 1)
            return np.asarray(rows - np.log(factor) / step)
        if isinstance(spec, SpectrogramSpec):
            dc = spec.high_hz / (spec.high_hz - spec.low_hz) * (layout.height - 1)
            return np.asarray(dc + (rows - dc) * factor)
        middle = (layout.height - 1) / 2
        return np.asarray(middle + (rows - middle) / factor)

    def _zero_row(self) -> float:
        """The row of 0 mV of a trace; a picture's is not known, and its middle is taken."""
        spec, height = self._spec, self._layout.height
        if isinstance(spec, WaveformSpec):
            return spec.high_mv / (spec.high_mv - spec.low_mv) * height - 0.5
        return (height - 1) / 2

    def _slopes(self, count: int, rng: np.random.Generator) -> np.ndarray | None:
        """Rows by which each column is displaced, shape (n, width); None for none."""
        params, layout = self._params, self._layout
        offset = np.zeros((count, layout.width), np.float32)
        if params.shear:
            slope = _even(rng, -params.shear, params.shear, (count, 1))
            offset += slope * (np.arange(layout.width, dtype=np.float32) - layout.r_column)
        if params.baseline_wander and layout.kind == "trace":
            assert isinstance(self._spec, (WaveformSpec, PictureSpec))
            rows_per_mv = layout.height / (self._spec.high_mv - self._spec.low_mv)
            wave, _ = self._wander(count, rng)
            offset += wave * np.float32(rows_per_mv)
        return offset if offset.any() else None

    def _sheared(self, body: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Each column of each panel displaced by its own number of rows."""
        height = body.shape[2]
        reach = int(np.ceil(np.abs(offset).max()))
        mode = "constant" if self._layout.kind == "trace" else "edge"
        padded = np.pad(body, ((0, 0), (0, 0), (reach, reach), (0, 0)), mode=mode)  # type: ignore[call-overload]
        # Linear interpolation, one whole displacement after the other: faster than picking
        # pixels by index, as displacements are small.
        out = np.zeros_like(body)
        for rows in range(-reach, reach + 1):
            weight = np.maximum(0, 1 - np.abs(offset - np.float32(rows)))
            some = np.flatnonzero(weight.any(axis=1))
            if len(some):
                first = reach + rows
                out[some] += padded[some, :, first : first + height] * weight[some, None, None, :]
        return out

    def _wander(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A sine over the columns, shape (n, width), and its frequency in rad/s, (n, 1)."""
        size = _even(rng, 0, self._params.baseline_wander, (count, 1))
        frequency = 2 * np.float32(pi) * _even(rng, *_WANDER_HZ, (count, 1))
        phase = _even(rng, 0, 2 * pi, (count, 1))
        times = np.linspace(*self._layout.time_axis, self._layout.width, dtype=np.float32)
        return size * np.sin(frequency * times + phase), frequency

    # Values of panels -----------------------------------------------------------------------

    def _revalue(self, body: np.ndarray, rng: np.random.Generator) -> None:
        """Amplitude, polarity and baseline of panels, as of the signal under them, in place."""
        params, layout = self._params, self._layout
        count = len(body)
        full = np.float32(127 if layout.kind == "signed" else 255)
        if params.amplitude:
            reach = params.amplitude
            if isinstance(self._spec, SpectrogramSpec):
                level = 20 / log(10) * _even(rng, -reach, reach, (count, 1, 1, 1))
                range_db = self._spec.ceiling_db - self._spec.floor_db
                # What lies under the floor, or a lead that is not there, stays there.
                body += np.where(body > 0, level / np.float32(range_db) * full, 0)
            else:
                factor = np.exp(_even(rng, -reach, reach, (count, 1, 1, 1)))
                # Grey is g = v / (|v| + h): k v is drawn as k g / (1 + (k - 1) |g|).
                divisor = np.abs(body)
                divisor *= (factor - 1) / full
                divisor += 1
                body *= factor
                body /= divisor
        if params.flip_vertical:
            flip = rng.random(count) < params.flip_vertical
            body *= np.where(flip, -1, 1).astype(np.float32)[:, None, None, None]
        if params.baseline_wander and layout.scales is not None:
            wave, frequency = self._wander(count, rng)
            added = self._wander_gain(frequency)[:, :, None] * wave[:, None, :]
            share = np.clip(body / full, -0.996, 0.996)
            values = share * np.float32(HALF_LEVEL) / (1 - np.abs(share))
            values += added[:, None]
            body[:] = full * values / (np.abs(values) + np.float32(HALF_LEVEL))

    def _wander_gain(self, frequency: np.ndarray) -> np.ndarray:
        """What the Mexican hat of each row makes of a sine of 1, shape (n, height).

        The wavelet's positive lobe has area one, as `ecgbeats.imaging` scales it.
        """
        assert self._layout.scales is not None
        scales = np.geomspace(*self._layout.scales, self._layout.height, dtype=np.float32)
        square = (frequency * scales) ** 2
        return np.asarray((2 * pi) ** 0.5 / (2 * exp(-0.5)) * square * np.exp(-square / 2))


def _some(rng: np.random.Generator, probability: float, count: int) -> np.ndarray:
    """Each of `count` by this probability: indices, int (m,)."""
    return np.flatnonzero(rng.random(count) < probability)


def _even(
    rng: np.random.Generator, low: float, high: float, shape: int | tuple[int, ...]
) -> np.ndarray:
    """Evenly distributed float32 from `low` to `high`."""
    return np.float32(low) + np.float32(high - low) * rng.random(shape, np.float32)


def _interpolation(sources: np.ndarray, size: int, *, hold: bool) -> np.ndarray:
    """Weights of linear interpolation, shape (n, len(sources[0]), size), zero outside.

    As a matrix product this is several times faster than picking pixels by index.
    """
    # A pixel reaches half a pixel beyond its middle.
    reach = np.inf if hold else 0.5
    near = (sources > -reach) & (sources < size - 1 + reach)
    at = np.where(near, np.clip(sources, 0, size - 1), sources)
    weight = at[:, :, None] - np.arange(size, dtype=np.float32)
    np.abs(weight, out=weight)
    np.subtract(1, weight, out=weight)
    return np.maximum(weight, 0, out=weight)


def _cropped(at: np.ndarray, size: int, share: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Sources in a window of `share` of `size`; `place` from 0, first, to 1, last."""
    start = place * (1 - share) * size
    return np.asarray((at + np.float32(0.5)) * share + start - np.float32(0.5))


def _warp(
    at: np.ndarray, width: int, anchor: float, most: float, rng: np.random.Generator
) -> np.ndarray:
    """Displacement by a sine whose slope is at most `most`; none at `anchor`, so R stays."""
    count = len(at)
    size = _even(rng, -most, most, (count, 1))
    wave = 2 * np.float32(pi) * _even(rng, *_WARP_CYCLES, (count, 1)) / np.float32(width)
    phase = _even(rng, 0, 2 * pi, (count, 1))
    here = np.sin(wave * at + phase) - np.sin(wave * np.float32(anchor) + phase)
    return np.asarray(size / wave * here)
