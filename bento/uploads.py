"""Uploaded files and the fields beside them, read into memory.

BentoML's own file inputs would write each upload to disk, and fetch whatever address a
text field holds. These take files alone, keep them in memory and bound them.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from bento.limits import MAX_FIELD_BYTES, MAX_FILE_BYTES, MAX_FILES, MAX_REQUEST_BYTES
from bento.problems import Refused

FORM = "multipart/form-data"


@dataclass(frozen=True)
class Upload:
    """A file by the name that the client gave it, which reaches no log."""

    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Form:
    files: list[Upload]
    fields: dict[str, str]


def media_type_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def unsupported(request: Request, expected: str = FORM) -> Refused:
    media_type = media_type_of(request)
    return Refused(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        expected=expected,
        got=repr(media_type[:64]) if media_type else "no content type",
    )


async def read_form(
    request: Request,
    field: str,
    fields: Collection[str] = (),
    *,
    max_files: int = MAX_FILES,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> Form:
    """The files in `field` of a multipart form, and the texts in `fields` beside it.

    Raises
    ------
    Refused
        Saying what is wrong with the form or goes beyond a limit.
    """
    if media_type_of(request) != FORM:
        raise unsupported(request)
    try:
        form = await _InMemory(request, fields, max_files, max_file_bytes).parse()
    except MultiPartException as error:
        raise bad("bad_form", "a well-formed multipart form", error.message) from error
    except ClientDisconnect as error:
        raise bad("incomplete_upload", "the whole form", "a lost connection") from error
    files: list[Upload] = []
    texts: dict[str, str] = {}
    try:
        for name, value in form.multi_items():
            if name == field:
                if not isinstance(value, UploadFile):
                    raise bad("not_a_file", f"files in the field {field!r}", "text")
                files.append(Upload(value.filename or "", await value.read()))
            elif name in fields:
                if not isinstance(value, str):
                    raise bad("bad_field", f"text in the field {name!r}", "a file")
                if name in texts:
                    raise bad("bad_field", f"the field {name!r} once", "twice")
                texts[name] = _plain(value)
            else:
                raise unknown(name, field, *fields)
    finally:
        await form.close()
    if not files:
        raise bad("no_file", f"at least one file in the field {field!r}", "none")
    return Form(files, texts)


def _plain(text: str) -> str:
    """`text` without the JSON around it: BentoML's client sends every field as JSON."""
    if text == "null":
        return ""
    if len(text) > 1 and text[0] == text[-1] == '"':
        with suppress(ValueError):
            found = json.loads(text)
            return found if isinstance(found, str) else text
    return text


def unknown(name: str, *known: str) -> Refused:
    expected = f"the field {known[0]!r} alone" if len(known) == 1 else f"of {', '.join(known)}"
    return bad("unknown_field", expected, f"{name[:32]!r}")


def query_fields(request: Request, fields: Collection[str]) -> dict[str, str]:
    """Fields that stand in the address, each at most once."""
    texts: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in fields:
            raise unknown(name, *fields)
        if name in texts:
            raise bad("bad_field", f"the field {name!r} once", "twice")
        if len(value) > MAX_FIELD_BYTES:
            raise too_large("field_too_large", f"at most {MAX_FIELD_BYTES} bytes a field", "more")
        texts[name] = value
    return texts


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body of a request that is no form."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise too_large("request_too_large", f"at most {max_bytes} bytes", "more")
    except ClientDisconnect as error:
        raise bad("incomplete_upload", "the whole body", "a lost connection") from error
    return bytes(body)


class _InMemory(MultiPartParser):
    """Starlette's parser, which never spills to disk and stops at our limits."""

    def __init__(
        self, request: Request, fields: Collection[str], max_files: int, max_file_bytes: int
    ) -> None:
        super().__init__(
            request.headers,
            self._checked(request.stream()),
            max_files=math.inf,
            # One more than there are, so that what is unknown or comes twice is said to.
            max_fields=len(fields) + 1,
            max_part_size=MAX_FIELD_BYTES,
        )
        # Content up to here stays in memory; longer content is refused before it is stored.
        self.spool_max_size = max_file_bytes
        self._max_files, self._max_file_bytes = max_files, max_file_bytes
        self._bytes = 0
        self._ended = False

    def on_end(self) -> None:
        self._ended = True

    def on_part_begin(self) -> None:
        super().on_part_begin()
        self._bytes = 0

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if self._current_files > self._max_files:
            raise too_large("too_many_files", f"at most {self._max_files} files", "more")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._bytes += end - start
        if self._bytes > self._max_file_bytes:
            limit = f"at most {self._max_file_bytes} bytes a file"
            raise too_large("file_too_large", limit, "more", self._current_files - 1)
        super().on_part_data(data, start, end)

    async def _checked(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        received = 0
        async for chunk in stream:
            received += len(chunk)
            if received > MAX_REQUEST_BYTES:
                limit = f"at most {MAX_REQUEST_BYTES} bytes a request"
                raise too_large("request_too_large", limit, "more")
            yield chunk
        if not self._ended:
            # Else a file that was cut off would be missing from the answer, unnoticed.
            raise MultiPartException("no closing boundary")


def bad(code: str, expected: str, got: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, code, expected=expected, got=got)


def too_large(code: str, expected: str, got: str, file: int | None = None) -> Refused:
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return Refused(status, code, expected=expected, got=got, file=file)
