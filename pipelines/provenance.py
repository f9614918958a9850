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
    # As bytes, for files and their names may be in any encoding.
    digest = hashlib.sha256(_bytes_of_git(root, "diff", "HEAD", "--", ".", *ours).strip())
    others = ("ls-files", "-z", "--others", "--exclude-standard", "--", ".", *ours)
    for name in filter(None, _bytes_of_git(root, *others).split(b"\0")):
        digest.update(name + b"\0" + _content_of(root / os.fsdecode(name)) + b"\n")
    return Code(commit, digest.hexdigest())


def _content_of(path: Path) -> bytes:
    """What git would keep of `path`, as a hash; of what it would not, or cannot be read, nothing.

    It may be anything that lies about in a checkout, and a training may hang on it.
    """
    try:
        if path.is_symlink():
            return b"link to " + os.fsencode(path.readlink())
        return sha256_file(path).encode() if path.is_file() else b""
    except OSError:
        return b""


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
    return _bytes_of_git(root, *arguments).decode(errors="replace").strip()


def _bytes_of_git(root: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return b""
    return done.stdout
