"""The OpenAPI document as the service really is: its refusals, and bodies that are no form.

BentoML writes its own shapes of errors, which no client of ours ever gets, into the document; and
of what an endpoint takes only the form.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bento.problems import Problem
from bento.uploads import FORM

PATH, SIGNAL = "/docs.json", "/classify_signal"
_REFERENCE = "#/components/schemas/{model}"
_NOT_OURS = ("InvalidArgument", "NotFound", "InternalServerError", "HTTPValidationError")
_REFUSALS = {
    "4XX": "Refused: the request has to change, or to wait (401, 408, 413, 415, 422, 429, ...).",
    "5XX": "Not answered now: overloaded (503), out of time (504), or an error of our own (500).",
}


class Refusal(BaseModel):
    """The body of every answer of 400 and above."""

    error: Problem


class DescribedMiddleware:
    """Correct the document on its way out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._document: dict[str, Any] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        if self._document is None:
            body = bytearray()
            status = 0

            async def kept(message: Message) -> None:
                nonlocal status
                status = message.get("status", status)
                body.extend(message.get("body", b""))

            await self.app(scope, receive, kept)
            if status != 200:
                raise RuntimeError(f"BentoML answered {PATH} with {status}")
            self._document = with_bodies(with_refusals(json.loads(body)))
        await JSONResponse(self._document)(scope, receive, send)


def with_refusals(document: dict[str, Any]) -> dict[str, Any]:
    """The document with our refusals instead of errors that are not ours."""
    schemas = document["components"]["schemas"]
    for name in _NOT_OURS:
        schemas.pop(name, None)
    refusal = Refusal.model_json_schema(ref_template=_REFERENCE)
    schemas.update(refusal.pop("$defs"))
    schemas["Refusal"] = refusal
    content = {
        "application/json": {
            "schema": {"$ref": _REFERENCE.format(model="Refusal")},
            "example": {
                "error": {
                    "code": "damaged_image",
                    "expected": "a whole image",
                    "got": "a damaged one (image file is truncated)",
                    "file": 0,
                }
            },
        }
    }
    for path in document["paths"].values():
        for operation in path.values():
            answers = {k: v for k, v in operation["responses"].items() if int(k) < 400}
            for status, description in _REFUSALS.items():
                answers[status] = {"description": description, "content": content}
            operation["responses"] = answers
    return document


def with_bodies(document: dict[str, Any]) -> dict[str, Any]:
    """The document with samples as the body itself of `/classify_signal`, fields in the address."""
    operation = document["paths"][SIGNAL]["post"]
    contents = operation["requestBody"]["content"]
    form = contents[FORM]["schema"]
    if "$ref" in form:
        form = document["components"]["schemas"][form["$ref"].rpartition("/")[2]]
    contents["text/csv"] = {"schema": {"type": "string"}, "example": "MLII\n0.145\n0.145\n"}
    contents["application/json"] = {"schema": _SAMPLES, "example": _SAMPLES_EXAMPLE}
    operation["parameters"] = [
        *operation.get("parameters", []),
        *(
            {
                "name": name,
                "in": "query",
                "description": f"{schema.get('description', '')} With a form it is a field.",
                "schema": {key: value for key, value in schema.items() if key != "description"},
                # As 0,17: not the name once for each.
                **({"style": "form", "explode": False} if schema.get("type") == "array" else {}),
            }
            for name, schema in form["properties"].items()
            if name != "file"
        ),
    ]
    return document


_NUMBERS = {"type": "array", "items": {"type": ["number", "null"]}}
_SAMPLES = {
    "type": "object",
    "properties": {
        "samples": {
            "description": "Numbers, null where one is missing; or a list of them for each lead.",
            "oneOf": [_NUMBERS, {"type": "array", "items": _NUMBERS}],
        },
        "fs": {"type": "number", "exclusiveMinimum": 0},
        "units": {"type": "string", "enum": ["mV", "uV", "V", "nV", "adu"]},
        "gain": {"type": "number", "exclusiveMinimum": 0},
        "lead": {
            "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "description": "A name, or one for each lead.",
        },
        "beats": {"type": "array", "items": {"type": "integer", "minimum": 0}},
    },
    "required": ["samples"],
    "additionalProperties": False,
}
_SAMPLES_EXAMPLE = {"samples": [[0.145, 0.15], [-0.065, -0.06]], "fs": 360, "lead": ["MLII", "V1"]}
