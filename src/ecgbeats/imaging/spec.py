"""What a beat image is: the contract between training and serving.

The spec is stored with the images and with the model; where they meet, `spec_id` is
compared. Every image is one plane of 8-bit grey, so that a PNG holds it exactly.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from ecgbeats.files import canonical_json, sha256_text

# Part of `spec_id`: raise it when the same spec would be drawn differently.
RENDERER_VERSION = 2

# Names that files use for the limb lead II of the training database and its stand-ins,
# in order of preference; a recording with none of them is read by its first lead.
LEAD_II = ("MLII", "II", "ML2", "LEAD II", "ECG LEAD II", "D2", "ECG")


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


class WaveformSpec(_Spec):
    """The trace itself, dark on white, without axes.

    With window "rr" it reaches from the previous to the next R peak, less `margin_ms` at
    both ends (Jun et al. 2018, arXiv 1804.06812); with "fixed" from `before_ms` before R
    to `after_ms` after.
    """

    representation: Literal["waveform"]
    height: int = Field(default=64, ge=16, le=512)
    width: int = Field(default=64, ge=16, le=512)
    window: Literal["rr", "fixed"] = "rr"
    margin_ms: float = Field(default=55.0, ge=0, le=200)
    before_ms: float = Field(default=250.0, gt=0, le=3000)
    after_ms: float = Field(default=400.0, gt=0, le=3000)
    # Millivolts at the lower and the upper edge; the trace is clipped there.
    low_mv: float = -2.0
    high_mv: float = 2.5
    # Thickness of the trace in pixels.
    stroke: float = Field(default=1.2, gt=0, le=8)

    @model_validator(mode="after")
    def _edges_in_order(self) -> WaveformSpec:
        if self.low_mv >= self.high_mv:
            raise ValueError(f"low_mv {self.low_mv} must lie under high_mv {self.high_mv}")
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns in pixels."""
        return self.height, self.width


class CompositeSpec(_Spec):
    """Time-frequency panels above a strip that shows the rhythm, in one grey plane.

    Panels, from the top, each `panel_height` rows (one scale a row, the finest on top):
    the signed Mexican-hat wavelet transform of the beat, and that of its difference from
    the recording's median beat. Middle grey is zero, so polarity survives. The strip
    below holds one block of even grey for each rhythm value (`ecgbeats.beats.rhythm`),
    so that the image holds all that the model sees.
    """

    representation: Literal["composite"]
    panel_height: int = Field(default=32, ge=8, le=256)
    width: int = Field(default=64, ge=16, le=512)
    strip_height: int = Field(default=8, ge=2, le=64)
    before_ms: float = Field(default=250.0, gt=0, le=3000)
    after_ms: float = Field(default=306.0, gt=0, le=3000)
    # Standard deviation of the wavelet's Gaussian at the first and the last row.
    finest_ms: float = Field(default=5.0, gt=0)
    coarsest_ms: float = Field(default=160.0, gt=0, le=1000)
    panels: tuple[Literal["beat", "difference"], ...] = ("beat", "difference")

    @model_validator(mode="after")
    def _scales_in_order(self) -> CompositeSpec:
        if self.finest_ms >= self.coarsest_ms:
            raise ValueError(f"finest_ms {self.finest_ms} must lie under coarsest_ms")
        if not self.panels or len(set(self.panels)) != len(self.panels):
            raise ValueError(f"panels: expected each at most once, got {self.panels}")
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns in pixels."""
        return len(self.panels) * self.panel_height + self.strip_height, self.width


Spec = WaveformSpec | CompositeSpec
ImageSpec = Annotated[Spec, Field(discriminator="representation")]

_ADAPTER: TypeAdapter[Spec] = TypeAdapter(ImageSpec)


def spec_from_json(value: object) -> Spec:
    """The spec that `model_dump` gave, checked again."""
    return _ADAPTER.validate_python(value)
