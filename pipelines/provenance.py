"""Which code ran, and in which environment."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ecgbeats.files import sha256_file
from pipelines.promotion_log import NAME_LENGTH

# What the result of a run depends on most.
_PACKAGES = ("ecgbeats", "tensorflow", "keras", "onnxruntime", "numpy", "scipy", "wfdb", "pillow")

# Files that a run itself writes do not make the code another one.
_WRITTEN_BY_RUNS = ("dvc.lock", "reports")


@dataclass(frozen=True)
class Code:
    """The commit that was checked out, and how the tree differed from it.

    Attributes
    ----------
    commit : str
    changes : str
        Hash of what was not committed; empty when the tree was clean.
    """

    commit: str
    changes: str

    @property
    def dirty(self) -> bool:
        return bool(self.changes)


def code_of(root: Path) -> Code:
    """The state of the checkout at `root`; commit "unknown" where git or a commit lacks."""
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return Code("unknown", "")
    ours = [f":(exclude){path}" for path in _WRITTEN_BY_RUNS]
    if not _git(root, "status", "--porcelain", "--", ".", *ours):
        return Code(commit, "")
    digest = hashlib.sha256(_git(root, "diff", "HEAD", "--", ".", *ours).encode())
    added = _git(root, "ls-files", "--others", "--exclude-standard", "--", ".", *ours)
    for name in added.splitlines():
        digest.update(f"{name}\0{sha256_file(root / name)}\n".encode())
    return Code(commit, digest.hexdigest())


def user_of(root: Path) -> str:
    """Who is at work here: the name that git knows, else the account's, else its number."""
    name = _git(root, "config", "user.name")
    if not name:
        try:
            name = getpass.getuser()
        except (KeyError, OSError):
            # In a container under a number that has no account.
            name = f"uid {os.getuid()}"
    # It came from no option that could be given anew, and a long training may hang on it.
    return name[:NAME_LENGTH]


def has_commit(root: Path, commit: str) -> bool:
    """Whether git has that commit here."""
    return _git(root, "cat-file", "-t", commit) == "commit"


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
