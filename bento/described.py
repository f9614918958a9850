"""The OpenAPI document as the service really is: refusals have the shape that we give them.

BentoML writes its own shapes of errors, which no client of ours ever gets, into the document.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bento.problems import Problem

PATH = "/docs.json"
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
            self._document = with_refusals(json.loads(body))
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
