"""API keys, where the environment asks for them: several, each with a name, each revocable.

A key is 256 random bits (`ecgbeats api-key NAME`), so that one plain SHA-256 keeps it as well as a
slow hash would keep a password. What is kept is a line for each, `NAME:DIGEST`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from bento import settings
from bento.logs import emit, noted
from bento.problems import Refused, refuse
from bento.rates import Buckets, too_often
from bento.routes import METRICS, PROBES, STATIC, Routes
from ecgbeats.errors import ConfigError

_LINE = re.compile(r"([A-Za-z0-9._-]{1,64}):([0-9a-f]{64})")
# What a key may be long, at most: the rest is not even hashed.
_LONGEST = 256


@dataclass(frozen=True)
class Key:
    name: str
    digest: str = field(repr=False)


def parse(entries: Iterable[str], source: str) -> tuple[Key, ...]:
    """Keys from entries `NAME:DIGEST`.

    Raises
    ------
    ConfigError
        One is something else. It is not quoted: it might be a key.
    """
    found = []
    for number, entry in enumerate(entries, start=1):
        match = _LINE.fullmatch(entry)
        if match is None:
            raise ConfigError(
                f"{source}: expected NAME:DIGEST as `ecgbeats api-key NAME` prints it, "
                f"got something else as number {number}"
            )
        found.append(Key(*match.groups()))
    return tuple(found)


class Keyring:
    """The keys that hold now: those of the environment, and those of a file.

    The file is read again when it has changed. A line that cannot be read is no key, and a file
    that cannot be read holds none: what was revoked stays so, whatever else went wrong.

    Parameters
    ----------
    fixed : sequence of Key
    file : Path, optional
        Entries `NAME:DIGEST`, one a line; blank lines and those that begin with # do not count.

    Raises
    ------
    ConfigError
        The file cannot be read at the start.
    """

    def __init__(self, fixed: Iterable[Key], file: Path | None = None) -> None:
        self._fixed = tuple(fixed)
        self._file = file
        self._of_file: tuple[Key, ...] = ()
        self._seen: tuple[int, ...] | None = None
        if file is not None:
            try:
                self._seen = _version(file)
                self._of_file = parse(_lines(file), str(file))
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"{file}: expected a file of API keys, {error}") from error

    def name_of(self, secret: str) -> str | None:
        """The name of the key that `secret` is; None if it is none.

        All keys are compared, each in constant time.
        """
        self._read_again()
        if len(secret) > _LONGEST:
            return None
        digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
        name = None
        for key in (*self._fixed, *self._of_file):
            if hmac.compare_digest(key.digest, digest):
                name = key.name
        return name

    def _read_again(self) -> None:
        if self._file is None:
            return
        version: tuple[int, ...] | None
        try:
            version = _version(self._file)
            if version == self._seen:
                return
            entries = _lines(self._file)
        except (OSError, UnicodeDecodeError) as error:
            if self._seen is not None:
                emit("api_keys_unreadable", error=type(error).__name__)
            self._seen, self._of_file = None, ()
            return
        good = [entry for entry in entries if _LINE.fullmatch(entry)]
        self._seen, self._of_file = version, parse(good, str(self._file))
        emit("api_keys_read", keys=len(good), not_understood=len(entries) - len(good))


def from_environment() -> Keyring | None:
    """The keys that the environment asks for; None where it asks for none.

    Raises
    ------
    ConfigError
        A setting or the file cannot be read as keys.
    """
    entries, file = settings.words("API_KEYS"), settings.text("API_KEYS_FILE")
    if entries is None and file is None:
        return None
    if file == "":
        raise ConfigError("ECGBEATS_API_KEYS_FILE: expected a path, got none; unset it instead")
    return Keyring(
        parse(entries or (), "ECGBEATS_API_KEYS"), Path(file) if file is not None else None
    )


class ApiKeys:
    """Answer 401 to whoever brings no key, but for probes, the page's own files and the docs.

    A key comes as `Authorization: Bearer KEY` or `X-API-Key: KEY`. Where `buckets` are given, each
    such answer is taken from the bucket of the address.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Keyring,
        routes: Routes,
        open_metrics: bool = False,
        buckets: Buckets | None = None,
    ) -> None:
        self.app = app
        self._keys, self._routes, self._buckets = keys, routes, buckets
        self._open = PROBES | STATIC | ({METRICS} if open_metrics else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._routes.name(scope["path"]) in self._open:
            await self.app(scope, receive, send)
            return
        secret = _secret(Headers(scope=scope))
        name = self._keys.name_of(secret) if secret else None
        if name is None:
            # Or keys could be tried without end: no bucket of a key pays for that.
            if self._buckets is not None and await too_often(self._buckets, scope, receive, send):
                return
            refused = Refused(
                HTTPStatus.UNAUTHORIZED,
                "bad_key" if secret else "no_key",
                expected="an API key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
                got="one that is not known" if secret else "none",
            )
            headers = {"WWW-Authenticate": 'Bearer realm="ecgbeats"'}
            await refuse(refused, scope, receive, send, headers)
            return
        noted(scope).key = name
        await self.app(scope, receive, send)


def _secret(headers: Headers) -> str:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return headers.get("x-api-key", "").strip()


def _version(file: Path) -> tuple[int, ...]:
    seen = file.stat()
    return seen.st_mtime_ns, seen.st_size, seen.st_ino


def _lines(file: Path) -> list[str]:
    lines = (line.strip() for line in file.read_text("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]
