"""Uploaded files, read into memory.

BentoML's own file inputs would write each upload to disk, and fetch whatever address a
text field holds. These take files alone, keep them in memory and bound them.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Annotated, Any

import bentoml
from pydantic import Field, WithJsonSchema
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from bento.problems import Refused

MAX_FILES = 256
MAX_FILE_BYTES = 4 * 1024**2
MAX_REQUEST_BYTES = 32 * 1024**2

_FORM = "multipart/form-data"

# BentoML's clients send as a file what the schema of an input calls one.
File = Annotated[bytes, WithJsonSchema({"type": "file", "format": "image"}, mode="validation")]


class Images(bentoml.IODescriptor):
    """One or more images in the field `file` of a multipart form."""

    file: list[File] = Field(description="PNG or JPEG beat images.", max_length=MAX_FILES)

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Images:
        return cls(file=await read_files(request, "file"))


# By itself BentoML takes only paths and Pillow images for files.
Images.multipart_fields = ["file"]


async def read_files(request: Request, field: str) -> list[bytes]:
    """The files in `field` of a multipart form, which must hold nothing else.

    Raises
    ------
    Refused
        Saying what is wrong with the form or goes beyond a limit.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != _FORM:
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            expected=_FORM,
            got=repr(media_type[:64]) if media_type else "no content type",
        )
    try:
        form = await _InMemory(request).parse()
    except MultiPartException as error:
        raise _bad("bad_form", "a well-formed multipart form", error.message) from error
    except ClientDisconnect as error:
        raise _bad("incomplete_upload", "the whole form", "a lost connection") from error
    files = []
    try:
        for name, value in form.multi_items():
            if name != field:
                raise _bad("unknown_field", f"the field {field!r} alone", f"{name[:32]!r}")
            if not isinstance(value, UploadFile):
                raise _bad("not_a_file", f"files in the field {field!r}", "text")
            files.append(await value.read())
    finally:
        await form.close()
    if not files:
        raise _bad("no_file", f"at least one file in the field {field!r}", "none")
    return files


class _InMemory(MultiPartParser):
    """Starlette's parser, which never spills to disk and stops at our limits."""

    # Content up to here stays in memory; longer content is refused before it is stored.
    spool_max_size = MAX_FILE_BYTES

    def __init__(self, request: Request) -> None:
        super().__init__(
            request.headers,
            self._checked(request.stream()),
            max_files=math.inf,
            max_fields=math.inf,
        )
        self._parts = 0
        self._bytes = 0
        self._ended = False

    def on_end(self) -> None:
        self._ended = True

    def on_part_begin(self) -> None:
        super().on_part_begin()
        self._parts += 1
        self._bytes = 0
        if self._parts > MAX_FILES:
            raise _too_large("too_many_files", f"at most {MAX_FILES} files", "more")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._bytes += end - start
        if self._bytes > MAX_FILE_BYTES:
            limit = f"at most {MAX_FILE_BYTES} bytes a file"
            raise _too_large("file_too_large", limit, "more", self._parts - 1)
        super().on_part_data(data, start, end)

    async def _checked(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        received = 0
        async for chunk in stream:
            received += len(chunk)
            if received > MAX_REQUEST_BYTES:
                limit = f"at most {MAX_REQUEST_BYTES} bytes a request"
                raise _too_large("request_too_large", limit, "more")
            yield chunk
        if not self._ended:
            # Else a file that was cut off would be missing from the answer, unnoticed.
            raise MultiPartException("no closing boundary")


def _bad(code: str, expected: str, got: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, code, expected=expected, got=got)


def _too_large(code: str, expected: str, got: str, file: int | None = None) -> Refused:
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return Refused(status, code, expected=expected, got=got, file=file)
