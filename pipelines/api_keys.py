"""A key for the service, and the line by which the service knows it."""

from __future__ import annotations

import hashlib
import re
import secrets

from ecgbeats.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def make(name: str) -> tuple[str, str]:
    """A new key of 256 random bits.

    Returns
    -------
    key : str
        For the client, and for nobody else.
    line : str
        `NAME:DIGEST` (SHA-256), for the service's settings.

    Raises
    ------
    ConfigError
        The name is not of letters, digits, dots, dashes and underscores.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "NAME: expected at most 64 letters, digits, dots, dashes and underscores, "
            f"got {name[:80]!r}"
        )
    key = f"ecgb_{secrets.token_urlsafe(32)}"
    return key, f"{name}:{hashlib.sha256(key.encode('ascii')).hexdigest()}"
