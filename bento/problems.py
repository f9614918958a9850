"""What the service answers when it refuses: one JSON shape, one stable code each."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from bentoml._internal.server.http_app import log_exception
from bentoml.exceptions import BentoMLException
from pydantic import BaseModel, Field, ValidationError
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bento.logs import emit, noted


class Problem(BaseModel):
    """Why a request was refused."""

    code: str = Field(description="Stable word for programs.", examples=["damaged_image"])
    expected: str = Field(examples=["a whole image"])
    got: str = Field(examples=["a damaged one (image file is truncated)"])
    file: int | None = Field(
        default=None, description="Which of the uploaded files, from 0; null if none in particular."
    )


class Refused(BentoMLException):
    """A request that cannot be served as it is; the client's part to change it.

    BentoML answers an exception by its text alone: so the text is the problem as JSON.
    """

    def __init__(
        self, status: HTTPStatus, code: str, *, expected: str, got: str, file: int | None = None
    ) -> None:
        self.problem = Problem(code=code, expected=expected, got=_shown(got), file=file)
        super().__init__(self.problem.model_dump_json(), error_code=status)


def _shown(text: str) -> str:
    """`text`, which may quote what came, fit for a log and a screen."""
    shown = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
    return shown if len(shown) <= 300 else f"{shown[:299]}…"


def log_without_words() -> None:
    """Have BentoML log neither refusals as errors nor errors with what they quote."""
    logging.getLogger(log_exception.__module__).addFilter(_without_words)


def _without_words(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, Refused):
        return False  # what there is to say of it, its line "answered" says
    if error is not None:
        failed(error)
        return False
    return True


def failed(error: BaseException) -> None:
    """Log an error of our own: what and where. Its words may quote an upload, and stay out."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    emit("failed", error=type(error).__name__, where=where)


class ProblemMiddleware:
    """Give every answer of 400 and above the body `{"error": Problem}`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal: Message | None = None
        started = False
        body = bytearray()

        async def shaped(message: Message) -> None:
            nonlocal refusal, started
            if message["type"] == "http.response.start" and message["status"] >= 400:
                refusal = message
            elif refusal is None:
                started = True
                await send(message)
            elif message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    started = True
                    await _answer(refusal, bytes(body), scope)(scope, receive, send)

        try:
            await self.app(scope, receive, shaped)
        except Exception as error:
            if started:
                raise
            failed(error)
            start = {"status": HTTPStatus.INTERNAL_SERVER_ERROR, "headers": []}
            await _answer(start, b"", scope)(scope, receive, send)


async def refuse(
    refused: Refused,
    scope: Scope,
    receive: Receive,
    send: Send,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer with the refusal, from a middleware."""
    body = {"error": refused.problem.model_dump()}
    answer = JSONResponse(body, refused.error_code, {**(headers or {})})
    await answer(scope, receive, send)


def _answer(start: Message, body: bytes, scope: Scope) -> JSONResponse:
    status = HTTPStatus(start["status"])
    problem = _problem(body) or Problem(
        code=status.phrase.lower().replace(" ", "_"),
        expected=_EXPECTED.get(status, "a request that this service knows"),
        got=_shown(f"{scope['method'][:16]} {scope['path'][:100]}"),
    )
    noted(scope).code = problem.code
    answer = JSONResponse({"error": problem.model_dump()}, status)
    ours = (b"content-length", b"content-type")
    answer.raw_headers.extend(pair for pair in start["headers"] if pair[0].lower() not in ours)
    return answer


_EXPECTED = {
    HTTPStatus.NOT_FOUND: "a path that the OpenAPI description lists",
    HTTPStatus.METHOD_NOT_ALLOWED: "a method that the OpenAPI description lists",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "multipart/form-data",
    HTTPStatus.INTERNAL_SERVER_ERROR: "no fault of the service; its log says more",
}


def _problem(body: bytes) -> Problem | None:
    """The problem that an answer holds: ours, or in BentoML's `[{"error": "<its text>"}]`."""
    try:
        said = json.loads(body)
        if isinstance(said, dict):
            return Problem.model_validate(said["error"])
        return Problem.model_validate_json(said[0]["error"])
    except (ValueError, LookupError, TypeError, ValidationError):
        return None
