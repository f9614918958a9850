"""What a beat image is: the contract between training and serving.

The spec is stored with the images and with the model; where they meet, `spec_id` is
compared. Every image is one plane of 8-bit grey, so that a PNG holds it exactly.
"""

from __future__ import annotations

from math import pi
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
    model_validator,
)

from ecgbeats.files import canonical_json, sha256_text

# Part of `spec_id`: raise it when the same spec would be drawn differently.
RENDERER_VERSION = 3

# Names that files use for the limb lead II of the training database and its stand-ins,
# in order of preference; a recording with none of them is read by its first lead.
LEAD_II = ("MLII", "II", "ML2", "LEAD II", "ECG LEAD II", "D2", "ECG")


def without_defaults(
    values: dict[str, Any], of: type[BaseModel], names: tuple[str, ...]
) -> dict[str, Any]:
    """`values` of a model less those of `names` that are as by default."""
    fields = of.model_fields
    return {k: v for k, v in values.items() if k not in names or v != fields[k].default}


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    # Sampling frequency at which beats are drawn, in Hz; recordings are brought to it.
    fs: float = Field(default=360.0, ge=50, le=2000)
    # Acceptable names of the lead to draw, the best first; else the first lead.
    lead: tuple[str, ...] = LEAD_II

    @property
    def spec_id(self) -> str:
        """Short hash of all that decides how a beat is drawn."""
        text = canonical_json({"version": RENDERER_VERSION, **self.model_dump(mode="json")})
        return sha256_text(text)[:16]


class _TraceSpec(_Spec):
    height: int = Field(default=64, ge=16, le=512)
    width: int = Field(default=64, ge=16, le=512)
    before_ms: float = Field(default=250.0, gt=0, le=3000)
    after_ms: float = Field(default=400.0, gt=0, le=3000)
    # Millivolts at the lower and the upper edge; the trace is clipped there.
    low_mv: float = -2.0
    high_mv: float = 2.5

    @model_validator(mode="after")
    def _edges_in_order(self) -> Self:
        if self.low_mv >= self.high_mv:
            raise ValueError(f"low_mv {self.low_mv} must lie under high_mv {self.high_mv}")
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns in pixels."""
        return self.height, self.width


class WaveformSpec(_TraceSpec):
    """The trace itself, dark on white, without axes.

    With window "rr" it reaches from the previous to the next R peak, less `margin_ms` at
    both ends (Jun et al. 2018, arXiv 1804.06812); with "fixed" from `before_ms` before R
    to `after_ms` after.
    """

    representation: Literal["waveform"]
    window: Literal["rr", "fixed"] = "rr"
    margin_ms: float = Field(default=55.0, ge=0, le=200)
    # Thickness of the trace in pixels.
    stroke: float = Field(default=1.2, gt=0, le=8)


class PictureSpec(_TraceSpec):
    """Any plain picture of one beat: a thin trace on an even background, without rhythm.

    Pictures from elsewhere come to this plane by the rule of `ecgbeats.imaging.pixels`. One
    of ours is the trace from `before_ms` before R to `after_ms` after, drawn as a thin line
    in a frame of `low_mv` to `high_mv`, and then brought to the plane by the same rule. The
    defaults are those of the published six-class image set, measured on its pictures.
    """

    representation: Literal["picture"]
    height: int = Field(default=64, ge=16, le=254)
    width: int = Field(default=96, ge=16, le=256)
    # Cut margins off, so that they do not matter; the trace is then centred by its box.
    crop: bool = True
    before_ms: float = Field(default=261.0, gt=0, le=3000)
    after_ms: float = Field(default=261.0, gt=0, le=3000)
    low_mv: float = -1.75
    high_mv: float = 1.07


class _LeadsSpec(_Spec):
    # With two, a second lead is drawn as the first; where there is none, it is left empty.
    leads: Literal[1, 2] = 1
    # Acceptable names of the second lead, the best first; else the first other lead.
    second_lead: tuple[str, ...] = ()


class _PanelsSpec(_LeadsSpec):
    """A panel for each lead, from the top, and at the foot a rhythm strip (none with 0)."""

    panel_height: int = Field(default=32, ge=8, le=256)
    width: int = Field(default=64, ge=16, le=512)
    strip_height: int = Field(default=8, ge=0, le=64)
    # What the strip shows: `ecgbeats.beats.rhythm` against the recording's mean RR or quantiles.
    rhythm: Literal["mean", "quantiles"] = "mean"
    before_ms: float = Field(default=250.0, gt=0, le=3000)
    after_ms: float = Field(default=306.0, gt=0, le=3000)

    @property
    def panels_per_lead(self) -> int:
        return 1

    @property
    def panel_count(self) -> int:
        return self.leads * self.panels_per_lead

    def rows_of_lead(self, lead: int) -> slice:
        """Rows that the panels of a lead (from 0) take."""
        height = self.panels_per_lead * self.panel_height
        return slice(lead * height, (lead + 1) * height)

    @property
    def panel_names(self) -> tuple[str, ...]:
        return tuple(f"lead{k + 1}" for k in range(self.leads))

    @property
    def value_rows_per_lead(self) -> int:
        """Rows of single values that a lead takes, between panels and strip."""
        return 0

    @property
    def rows_of_values(self) -> slice:
        """Rows between panels and strip; none in most images."""
        top = self.panel_count * self.panel_height
        return slice(top, top + self.leads * self.value_rows_per_lead)

    @property
    def rows_of_strip(self) -> slice:
        top = self.rows_of_values.stop
        return slice(top, top + self.strip_height)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns in pixels."""
        return self.rows_of_strip.stop, self.width


class SpectrogramSpec(_PanelsSpec):
    """Magnitude of the short-time Fourier transform in decibels; polarity is lost.

    A column is a frame: the time of the middle of a Hann window. 0 dB is a sine of the
    recording's R amplitude.
    """

    representation: Literal["spectrogram"]
    window_ms: float = Field(default=130.0, ge=10, le=2000)
    # Frequencies of the lowest and the highest row, in Hz; even steps between.
    low_hz: float = Field(default=0.0, ge=0)
    high_hz: float = Field(default=62.0, gt=0)
    # Drawn as black and as white; beyond them it is clipped.
    floor_db: float = Field(default=-50.0, ge=-120)
    ceiling_db: float = Field(default=0.0, le=20)

    @model_validator(mode="after")
    def _ranges_in_order(self) -> SpectrogramSpec:
        if not self.low_hz < self.high_hz <= self.fs / 2:
            raise ValueError(
                f"expected low_hz < high_hz <= fs / 2, got {self.low_hz:g}, {self.high_hz:g} "
                f"and {self.fs / 2:g}"
            )
        if self.window_ms * self.fs < 4000:
            raise ValueError(
                f"window_ms {self.window_ms:g}: expected at least 4 samples at {self.fs:g} Hz, "
                f"got {self.window_ms * self.fs / 1000:.1f}"
            )
        if self.floor_db >= self.ceiling_db:
            raise ValueError(f"floor_db {self.floor_db} must lie under ceiling_db")
        return self

    @property
    def hop_ms(self) -> float:
        """Time from frame to frame: as many as there are columns."""
        return (self.before_ms + self.after_ms) / (self.width - 1)


class _WaveletSpec(_PanelsSpec):
    wavelet: Literal["mexican_hat", "gaus1", "gaus3", "gaus4", "morlet"] = "mexican_hat"
    # Standard deviation of the Mexican hat's Gaussian at the first and the last row; other
    # wavelets (`gaus`n: n-th derivative of a Gaussian, the second is the Mexican hat) are
    # drawn at the same centre frequencies.
    finest_ms: float = Field(default=5.0, gt=0)
    coarsest_ms: float = Field(default=160.0, gt=0, le=1000)

    @model_validator(mode="after")
    def _scales_in_order(self) -> Self:
        if self.finest_ms >= self.coarsest_ms:
            raise ValueError(f"finest_ms {self.finest_ms} must lie under coarsest_ms")
        # Centre frequency of the first row: sqrt(2) / (2 pi sigma).
        highest = 2**0.5 / (2 * pi * self.finest_ms / 1000)
        if highest > self.fs / 2:
            raise ValueError(
                f"finest_ms {self.finest_ms:g}: expected a centre frequency of at most fs / 2 = "
                f"{self.fs / 2:g} Hz, got {highest:.0f} Hz"
            )
        return self


class ScalogramSpec(_WaveletSpec):
    """Continuous wavelet transform, one scale a row, the finest on top.

    "signed" draws the real part, zero as middle grey; "magnitude" the modulus, zero as black.
    """

    representation: Literal["scalogram"]
    value: Literal["signed", "magnitude"] = "signed"


class CompositeSpec(_WaveletSpec):
    """Wavelet panels of the beat and of what is unusual in it, above the rhythm.

    Panels, from the top, for each lead: the signed wavelet transform of the beat, and that of
    its difference from the recording's median beat. Middle grey is zero, so polarity
    survives. Below them, with `values`, for each lead what `features` says of how the beat
    differs from the recording's usual one, and of its QRS, a pixel a value. The strip at the
    foot holds one block of even grey for each rhythm value (`ecgbeats.beats.rhythm`), so that
    the image holds all that the model sees.
    """

    representation: Literal["composite"]
    panels: tuple[Literal["beat", "difference"], ...] = ("beat", "difference")
    values: bool = False

    # Settings that came later: `spec_id` has them where they are set.
    LATER: ClassVar[tuple[str, ...]] = ("values",)

    @model_serializer(mode="wrap")
    def _as_ever(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(write(self), type(self), self.LATER)

    @model_validator(mode="after")
    def _each_panel_once(self) -> Self:
        if not self.panels or len(set(self.panels)) != len(self.panels):
            raise ValueError(f"panels: expected each at most once, got {self.panels}")
        return self

    @property
    def panels_per_lead(self) -> int:
        return len(self.panels)

    @property
    def morphology(self) -> FeaturesSpec:
        """The values of each lead: none of the beat as it is, by which patients are known."""
        # In full, as `spec_id` does not hold it: whoever changes it raises RENDERER_VERSION.
        return FeaturesSpec(
            representation="features",
            fs=self.fs,
            lead=self.lead,
            before_ms=250.0,
            after_ms=400.0,
            points=0,
            difference_points=20,
        )

    @property
    def value_rows_per_lead(self) -> int:
        return -(-self.morphology.values_per_lead // self.width) if self.values else 0

    @property
    def panel_names(self) -> tuple[str, ...]:
        if self.leads == 1:
            return self.panels
        return tuple(f"lead{k + 1} {name}" for k in range(self.leads) for name in self.panels)


# Values on QRS that `features` draws for each lead. Width: of the time under the squared
# slope, against 30 ms and against the recording's median; height against its median; area
# over 100 ms around R, highest and lowest value, steepest rise and fall (in R amplitudes per
# 5 ms), distance (root mean square) from the median beat: all in R amplitudes.
QRS_VALUES = (
    "qrs_width",
    "qrs_width_ratio",
    "height_ratio",
    "qrs_area",
    "highest",
    "lowest",
    "steepest_rise",
    "steepest_fall",
    "template_distance",
)
# Of `ecgbeats.beats.RHYTHMS`, which needs signal libraries that readers of a spec may lack.
_RHYTHM_VALUES = 6


class FeaturesSpec(_LeadsSpec):
    """RR and morphology values as one row of grey, for classifiers that want vectors.

    `ecgbeats.imaging.features` says which values, and how they become grey levels.
    """

    representation: Literal["features"]
    before_ms: float = Field(default=250.0, gt=0, le=3000)
    after_ms: float = Field(default=400.0, gt=0, le=3000)
    # Even times at which the beat, and its difference from the median beat, are read.
    points: int = Field(default=40, ge=0, le=512)
    difference_points: int = Field(default=20, ge=0, le=512)

    @property
    def values_per_lead(self) -> int:
        """Columns that each lead takes."""
        return self.points + self.difference_points + len(QRS_VALUES)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns in pixels."""
        return 1, _RHYTHM_VALUES + self.leads * self.values_per_lead


Spec = WaveformSpec | CompositeSpec | PictureSpec | SpectrogramSpec | ScalogramSpec | FeaturesSpec
# Panels from the top, each `panel_height` rows, over a rhythm strip of `strip_height`.
PANELLED = (CompositeSpec, SpectrogramSpec, ScalogramSpec)
ImageSpec = Annotated[Spec, Field(discriminator="representation")]

_ADAPTER: TypeAdapter[Spec] = TypeAdapter(ImageSpec)


def spec_from_json(value: object) -> Spec:
    """The spec that `model_dump` gave, checked again."""
    return _ADAPTER.validate_python(value)
