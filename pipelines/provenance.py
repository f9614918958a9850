"""Which code ran, and in which environment."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# What the result of a run depends on most.
_PACKAGES = ("ecgbeats", "tensorflow", "keras", "onnxruntime", "numpy", "scipy", "wfdb", "pillow")

# Files that a run itself writes do not make the code another one.
_WRITTEN_BY_RUNS = ("dvc.lock", "reports")


@dataclass(frozen=True)
class Code:
    """The commit that was checked out, and whether the tree differed from it."""

    commit: str
    dirty: bool

    @property
    def short(self) -> str:
        return self.commit[:7] + ("-dirty" if self.dirty else "")


def code_of(root: Path) -> Code:
    """The state of the checkout at `root`; commit "unknown" where git or a commit lacks."""
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return Code("unknown", dirty=False)
    ours = [f":(exclude){path}" for path in _WRITTEN_BY_RUNS]
    return Code(commit, dirty=bool(_git(root, "status", "--porcelain", "--", ".", *ours)))


def environment() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
