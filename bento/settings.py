"""Settings of the service from the environment: ECGBEATS_ and a name, read as the service starts.

One that cannot be what it says stops the start, rather than leave a limit unset.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

from ecgbeats.errors import ConfigError

_YES, _NO = ("true", "1", "yes"), ("false", "0", "no")


def text(name: str) -> str | None:
    return os.environ.get(f"ECGBEATS_{name}")


def whole(name: str, default: int, least: int = 1) -> int:
    """A whole number of at least `least`.

    Raises
    ------
    ConfigError
        It is set to something else.
    """
    above = "above zero" if least == 1 else f"of at least {least}"
    return int(
        _number(
            name,
            default,
            f"a whole number {above}",
            lambda value: value >= least and value.is_integer(),
        )
    )


def seconds(name: str, default: float) -> float:
    """A time in seconds, above zero and at most a day.

    Raises
    ------
    ConfigError
        It is set to something else.
    """
    return _number(
        name, default, "seconds, above zero and at most a day", lambda value: 0 < value <= 86_400
    )


def flag(name: str, default: bool = False) -> bool:
    """Whether something is wanted.

    Raises
    ------
    ConfigError
        It is set to neither true nor false.
    """
    given = text(name)
    if given is None:
        return default
    if given.lower() not in (*_YES, *_NO):
        raise ConfigError(f"ECGBEATS_{name}: expected true or false, got {given[:40]!r}")
    return given.lower() in _YES


def words(name: str) -> tuple[str, ...] | None:
    """Words between commas, blanks or line ends; None where it is not set.

    Raises
    ------
    ConfigError
        It is set to nothing: whether that means none or all would be a guess.
    """
    given = text(name)
    if given is None:
        return None
    found = tuple(given.replace(",", " ").split())
    if not found:
        raise ConfigError(f"ECGBEATS_{name}: expected at least one, got none; unset it instead")
    return found


def _number(name: str, default: float, expected: str, fits: Callable[[float], bool]) -> float:
    given = text(name)
    if given is None:
        return default
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    # Infinity is no whole number, and above any bound.
    if not fits(value):
        raise ConfigError(f"ECGBEATS_{name}: expected {expected}, got {given[:40]!r}")
    return value
