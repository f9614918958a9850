"""What the service answers, as types: the OpenAPI description is made of them."""

from __future__ import annotations

from typing import Any, Literal

import bentoml
from pydantic import BaseModel, ConfigDict, Field

_PROBABILITIES = {"N": 0.02, "S": 0.01, "V": 0.96, "F": 0.01, "Q": 0.0}


class Model(BaseModel):
    """The model that answered."""

    name: str = Field(examples=["ecgbeats-mitdb-aami5"])
    version: str = Field(description="Of the registered model.", examples=["3"])
    recipe: str = Field(examples=["mitdb-aami5"])
    spec_id: str = Field(description="Of the images that it takes.", examples=["9951e16f64949ec1"])


class Answer(BaseModel):
    """What one beat was taken for."""

    label: str = Field(
        description='The most probable class, or "uncertain" where its probability is below '
        "what the model was set to answer from.",
        examples=["V"],
    )
    most_probable: str = Field(description="The most probable class in any case.", examples=["V"])
    probabilities: dict[str, float] = Field(
        description="Of every class; they add up to 1.", examples=[_PROBABILITIES]
    )


class Beat(Answer):
    """What one image was taken for."""

    file: int = Field(description="Place among the uploaded files, from 0.", examples=[0])
    model: str = Field(
        default="",
        description="Name of the model that answered.",
        examples=["ecgbeats-mitdb-aami5"],
    )


class Picture(BaseModel):
    """A beat as the model saw it."""

    beat: int = Field(description="Place among the beats or files, from 0.", examples=[17])
    png: str = Field(description="Base64.", examples=["iVBORw0KGgo="])


class Classification(bentoml.IODescriptor):
    """One result for each image, in the order of upload."""

    model: Model = Field(description="The one that the service is of.")
    results: list[Beat]
    pictures: list[Picture] = Field(default_factory=list)


class RecordedBeat(Answer):
    """One beat of a recording."""

    sample: int = Field(description="Of R, from 0, at the recording's own rate.", examples=[1042])
    time_s: float = Field(examples=[2.894])
    rr_s: float | None = Field(
        description="Interval since the beat before; null for the first.", examples=[0.811]
    )
    reference: str | None = Field(
        default=None,
        description="The class that the annotation gives this beat, if there is one.",
        examples=["V"],
    )


class Recording(BaseModel):
    """What was read, and how."""

    fs: float = Field(description="Samples a second.", examples=[360.0])
    seconds: float = Field(examples=[1805.556])
    leads: list[str] = Field(description="Those that show an ECG.", examples=[["MLII", "V1"]])
    lead: str = Field(description="The one that was drawn, of two the first.", examples=["MLII"])
    beats_from: Literal["detected", "annotated", "given"] = Field(
        description="Where the beats' positions are from.", examples=["detected"]
    )
    remarks: list[str] = Field(
        description="What one should know of how it was read.",
        examples=[["lead V1 stands still or has no valid sample"]],
    )


class Rhythm(BaseModel):
    """The rhythm in figures; null where there are too few beats for one."""

    rate_bpm: float | None = Field(description="By the mean RR interval.", examples=[74.1])
    lowest_rate_bpm: float | None = Field(description="Over ten intervals.", examples=[58.0])
    highest_rate_bpm: float | None = Field(description="Over ten intervals.", examples=[112.4])
    rr_median_s: float | None = Field(examples=[0.806])
    rr_shortest_s: float | None = Field(examples=[0.402])
    rr_longest_s: float | None = Field(examples=[1.61])
    rmssd_s: float | None = Field(
        description="Root mean square of successive RR differences, over all beats.",
        examples=[0.041],
    )
    pauses: int = Field(description="RR intervals over 2 s.", examples=[0])
    longest_runs: dict[str, int] = Field(
        description="For each label the longest run of beats that have it.",
        examples=[{"N": 213, "V": 2}],
    )


class Comparison(BaseModel):
    """Beat by beat against the uploaded annotations, within 150 ms (ANSI/AAMI EC57)."""

    reference_beats: int = Field(examples=[2273])
    matched: int = Field(examples=[2271])
    missed: int = Field(description="Annotated beats that were not found.", examples=[2])
    extra: int = Field(description="Found beats that are not annotated.", examples=[0])
    sensitivity: float | None = Field(description="Of finding beats.", examples=[0.9991])
    positive_predictivity: float | None = Field(examples=[1.0])
    agreement: float | None = Field(
        description="Share of the matched beats with a reference class that were answered by it; "
        "null where none has one.",
        examples=[0.987],
    )
    confusion: dict[str, dict[str, int]] = Field(
        description="Beats by reference class, then by answer.",
        examples=[{"N": {"N": 2230, "S": 9}, "V": {"V": 31, "F": 1}}],
    )


class Trace(BaseModel):
    """The drawn lead, to be looked at: microvolts as little-endian int16, base64."""

    fs: float = Field(examples=[120.0])
    lead: str = Field(examples=["MLII"])
    microvolts: str = Field(description="-32768 where a sample is missing.", examples=["AAABAAIA"])


class RecordClassification(bentoml.IODescriptor):
    """Every beat of a recording, counted and compared."""

    model: Model
    recording: Recording
    counts: dict[str, int] = Field(
        description="Beats by label.", examples=[{"N": 2239, "V": 33, "uncertain": 1}]
    )
    rhythm: Rhythm
    beats: list[RecordedBeat]
    comparison: Comparison | None = None
    trace: Trace | None = None
    pictures: list[Picture] = Field(default_factory=list)


class Card(BaseModel):
    """The model, what it takes and what it was measured to be worth."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "ecgbeats-mitdb-aami5",
                    "version": "3",
                    "recipe": "mitdb-aami5",
                    "labels": {"N": "NLRBej", "S": "AaJSn", "V": "VEr", "F": "F", "Q": "/fQ"},
                    "image": {"representation": "composite", "fs": 360.0},
                    "metrics": {"headline": {"classes": ["N", "S", "V"], "macro_f1": 0.717}},
                    "lineage": {"data_hash": "1b54c8d", "git_commit": "39db76f"},
                }
            ]
        }
    )

    name: str
    version: str
    recipe: str
    classes: list[str]
    labels: dict[str, str] | None = Field(
        description="WFDB annotation symbols of each class; null where classes are of pictures."
    )
    labels_source: str | None
    abstain_below: float = Field(description='Probability below which it says "uncertain".')
    spec_id: str
    image: dict[str, Any] = Field(description="The image spec: how beats are drawn for it.")
    network: dict[str, Any]
    training: dict[str, Any]
    metrics: dict[str, Any] | None = Field(
        description="As measured offline on patients that it never saw; null if not recorded."
    )
    lineage: dict[str, str] = Field(description="What it was made of, by hash and commit.")
    saliency: str = Field(description="How `/explain` finds what an answer rests on.")
    beside: list[Card] = Field(
        default_factory=list, description="Models that answer plain pictures."
    )
    medical_device: Literal[False] = False
