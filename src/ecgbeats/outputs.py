"""Whether a folder that somebody named may be replaced by an output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ecgbeats.errors import ConfigError


def check_replaceable(
    out: Path, may_hold: Callable[[str], bool], is_ours: Callable[[Path], bool]
) -> None:
    """Make sure that nothing of anybody's is lost if `out` is replaced.

    Parameters
    ----------
    may_hold : callable
        Whether a file of that name may lie in an earlier output.
    is_ours : callable
        Whether the folder, which holds nothing else, is an earlier output indeed.

    Raises
    ------
    ConfigError
        `out` is a file, or holds something else than an earlier output.
    """
    out = Path(out)
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError(f"{out}: expected a folder to write to, it is a file")
    have = sorted(path.name for path in out.iterdir())
    strangers = [name for name in have if not may_hold(name)]
    if have and (strangers or not is_ours(out)):
        raise ConfigError(
            f"{out}: expected a new or empty folder, or an earlier output of this command; "
            f"found {', '.join((strangers or have)[:5])}"
        )
