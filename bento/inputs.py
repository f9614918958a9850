"""What each endpoint takes: fields as the OpenAPI description has them, read from a request."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import bentoml
from pydantic import Field, WithJsonSchema
from starlette.requests import Request

from bento.limits import (
    MAX_FILES,
    MAX_FS,
    MAX_PICTURES,
    MAX_RECORD_FILE_BYTES,
    MAX_RECORD_FILES,
    MAX_REQUEST_BYTES,
)
from bento.uploads import (
    FORM,
    Form,
    Upload,
    bad,
    media_type_of,
    query_fields,
    read_body,
    read_form,
    unsupported,
)

# BentoML's clients send as a file what the schema of an input calls one.
File = Annotated[bytes, WithJsonSchema({"type": "file", "format": "image"}, mode="validation")]
Named = Annotated[
    Upload,
    WithJsonSchema({"type": "file"}, mode="validation"),
    WithJsonSchema({"type": "string", "format": "binary"}, mode="serialization"),
]
_YES, _NO = ("true", "1", "yes"), ("false", "0", "no", "")


class Images(bentoml.IODescriptor):
    """One or more images in the field `file` of a multipart form."""

    file: list[File] = Field(description="PNG or JPEG beat images.", max_length=MAX_FILES)
    pictures: list[int] = Field(
        default_factory=list,
        max_length=MAX_FILES,
        description="Places, from 0, of files whose image comes with the answer as the model "
        "took it.",
        examples=[[0]],
    )

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Images:
        form = await read_form(request, "file", ("pictures",))
        pictures = _places(form.fields, MAX_FILES)
        return cls(file=[file.content for file in form.files], pictures=pictures)


class Explained(bentoml.IODescriptor):
    """One image, and the class to explain."""

    file: list[File] = Field(description="A PNG or JPEG beat image.", min_length=1, max_length=1)
    label: str | None = Field(
        default=None,
        description="The class to explain; the most probable one by default.",
        examples=["V"],
    )

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Explained:
        form = await read_form(request, "file", ("label",), max_files=1)
        # Empty is the default, as of other fields.
        label = form.fields.get("label") or None
        return cls(file=[file.content for file in form.files], label=label)


class _OfRecording(bentoml.IODescriptor):
    lead: str | None = Field(
        default=None,
        max_length=64,
        description="Name of the lead to draw; the model's own choice by default. Of a single "
        "column it is the name.",
        examples=["MLII"],
    )
    trace: bool = Field(
        default=False, description="Whether the drawn lead comes with the answer.", examples=[True]
    )
    pictures: list[int] = Field(
        default_factory=list,
        max_length=MAX_PICTURES,
        description="Places, from 0, of beats whose image comes with the answer.",
        examples=[[0, 17]],
    )


class Signal(_OfRecording):
    """Samples as CSV or JSON.

    As the field `file` of a multipart form; or as the body itself, of type text/csv or
    application/json, with the other fields in the address.
    """

    file: list[Named] = Field(
        description="CSV, one column a lead, with or without a header, or lines above it; a column "
        'named as a time is one. Or JSON: {"samples": [0.1, ...] or [[...], [...]], "fs": 360, '
        '"units": "mV", "lead": "II", "beats": [sample numbers, if known]}. Gzip is unpacked.',
        min_length=1,
        max_length=1,
    )
    fs: float | None = Field(
        default=None,
        description="Samples a second; needed unless the file tells.",
        gt=0,
        le=MAX_FS,
        examples=[360],
    )
    units: Literal["mV", "uV", "V", "nV", "adu"] | None = Field(
        default=None,
        description="Of the samples; as the file says by default, and mV where it does not.",
        examples=["mV"],
    )
    gain: float | None = Field(
        default=None, description='With "adu": units a millivolt; 200 by default.', examples=[200]
    )

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Signal:
        kinds = {"text/csv": "signal.csv", "application/json": "signal.json"}
        fields = ("fs", "units", "gain", *_SHARED)
        media_type = media_type_of(request)
        if media_type == FORM:
            form = await read_form(
                request, "file", fields, max_files=1, max_file_bytes=MAX_RECORD_FILE_BYTES
            )
        elif media_type in kinds:
            texts = query_fields(request, fields)
            body = await read_body(request, min(MAX_RECORD_FILE_BYTES, MAX_REQUEST_BYTES))
            form = Form([Upload(kinds[media_type], body)], texts)
        else:
            raise unsupported(request, f"{FORM}, text/csv or application/json")
        given = form.fields
        units = given.get("units") or None
        if units not in (None, "mV", "uV", "V", "nV", "adu"):
            raise bad("bad_units", "one of mV, uV, V, nV, adu", repr(units[:32]))
        return cls(
            file=form.files,
            fs=_number(given, "fs", MAX_FS),
            units=units,
            gain=_number(given, "gain", 1e9),
            **_shared(given),
        )


class Record(_OfRecording):
    """A WFDB record as files of a multipart form."""

    file: list[Named] = Field(
        description="The header (.hea) and the signal files that it names; annotations "
        "(.atr) if there are any, to compare with; each by its own name, or in a zip.",
        max_length=MAX_RECORD_FILES,
    )
    beats: Literal["detected", "annotated"] = Field(
        default="detected",
        description='Where beats are taken from: found in the signal, or with "annotated" as '
        "the annotations have them.",
        examples=["detected"],
    )
    annotator: str = Field(
        default="atr", max_length=32, description="Suffix of the annotations.", examples=["atr"]
    )

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Record:
        form = await read_form(
            request,
            "file",
            ("beats", "annotator", *_SHARED),
            max_files=MAX_RECORD_FILES,
            max_file_bytes=MAX_RECORD_FILE_BYTES,
        )
        beats = form.fields.get("beats") or "detected"
        if beats not in ("detected", "annotated"):
            raise bad("bad_field", "detected or annotated as 'beats'", repr(beats[:32]))
        annotator = form.fields.get("annotator") or "atr"
        if not annotator.isidentifier() or len(annotator) > 32:
            raise bad("bad_field", "a suffix as 'annotator'", repr(annotator[:32]))
        return cls(file=form.files, beats=beats, annotator=annotator, **_shared(form.fields))


# By itself BentoML takes only paths and Pillow images for files.
for _form in (Images, Explained, Signal, Record):
    _form.multipart_fields = ["file"]

_SHARED = ("lead", "trace", "pictures")


def _shared(given: dict[str, str]) -> dict[str, Any]:
    trace = given.get("trace", "").lower()
    if trace not in (*_YES, *_NO):
        raise bad("bad_field", "true or false as 'trace'", repr(trace[:32]))
    lead = given.get("lead", "").strip() or None
    if lead is not None and (len(lead) > 64 or not lead.isprintable()):
        raise bad("bad_field", "a lead's name of at most 64 letters", "another text")
    return {"lead": lead, "trace": trace in _YES, "pictures": _places(given, MAX_PICTURES)}


def _places(given: dict[str, str], most: int) -> list[int]:
    # BentoML's client sends a list as JSON.
    words = given.get("pictures", "").strip().removeprefix("[").removesuffix("]")
    places = [word.strip() for word in words.split(",") if word.strip()]
    if len(places) > most or any(
        not (place.isascii() and place.isdigit()) or len(place) > 9 for place in places
    ):
        raise bad("bad_field", f"at most {most} numbers as 'pictures'", repr(words[:32]))
    return [int(place) for place in places]


def _number(given: dict[str, str], name: str, highest: float) -> float | None:
    text = given.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= highest:
        code = "bad_sampling_rate" if name == "fs" else "bad_field"
        raise bad(code, f"a number over 0, at most {highest:g}, as {name!r}", repr(text[:32]))
    return value
