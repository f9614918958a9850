"""Which data were added, in which version: `data/added/<name>/` and, in git, its .dvc file.

The .dvc file is the listing: DVC keeps what stands there under `meta`, so that data, version and
history cannot come apart.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from ecgbeats.errors import ConfigError, DataError
from ecgbeats.files import write_text

FOLDER = "data/added"
PAGES = "reports/data"
_META = "ecgbeats"


@dataclass(frozen=True)
class Version:
    """One version of an added dataset.

    Attributes
    ----------
    number : int
    md5 : str
        DVC's hash of the folder.
    added : str
        Date, UTC.
    by : str
    """

    number: int
    md5: str
    added: str
    by: str


@dataclass(frozen=True)
class Entry:
    """An added dataset as its .dvc file has it.

    Attributes
    ----------
    name : str
    kind : {"recordings", "pictures"}
    source : str
        Hash of what it was made from, options included.
    records, patients : int
        Of pictures: pictures, and groups of twins.
    beats : dict of str to int
        By class.
    quarantined : int
    licence, citation : str
    labels_trusted : str or None
        Why expectations about labels did not stop it.
    history : list of Version
        The last is the present one.
    """

    name: str
    kind: Literal["recordings", "pictures"]
    source: str
    records: int
    patients: int
    beats: dict[str, int]
    quarantined: int
    licence: str
    citation: str
    labels_trusted: str | None = None
    history: list[Version] = field(default_factory=list)

    @property
    def version(self) -> Version:
        return self.history[-1]


def folder_of(root: Path, name: str) -> Path:
    return root / FOLDER / name


def pointer_of(root: Path, name: str) -> Path:
    return root / FOLDER / f"{name}.dvc"


def page_of(root: Path, name: str) -> Path:
    return root / PAGES / name / "index.html"


def names(root: Path) -> list[str]:
    """What was added, by name."""
    found = (path.stem for path in (root / FOLDER).glob("*.dvc"))
    # Hidden is what a process that was killed has left.
    return sorted(name for name in found if not name.startswith("."))


def find(root: Path, name: str, *, unfinished: bool = False) -> Entry | None:
    """The entry of that name, or None.

    Parameters
    ----------
    unfinished : bool
        Take what an addition left that was killed between DVC and the listing: of a first one
        nothing is listed yet, of a later one the version before.

    Raises
    ------
    DataError
        Its .dvc file was not written by this project.
    """
    path = pointer_of(root, name)
    if not path.is_file():
        return None
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
        tracked, _ = (str(stored["outs"][0][key]) for key in ("md5", "path"))
        if unfinished and _META not in (stored.get("meta") or {}):
            return None
        values: dict[str, Any] = stored["meta"][_META]
        history = [Version(**each) for each in values.pop("history")]
        # What lies here is what DVC says, whatever the listing remembers.
        if not unfinished and history[-1].md5 != tracked.removesuffix(".dir"):
            raise ValueError("its last version is not the one that DVC tracks")
        return Entry(name=name, history=history, **values)
    except (LookupError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise DataError(
            f"{path}: expected what DVC and `ecgbeats data add` write: {error!r}; "
            f"add {name} again; if that does not help, take the file from git, or remove it"
        ) from error


def get(root: Path, name: str) -> Entry:
    """The entry of that name.

    Raises
    ------
    ConfigError
        There is none.
    """
    found = find(root, name)
    if found is None:
        known = ", ".join(names(root)) or "none; `ecgbeats data add NAME PATH` adds one"
        raise ConfigError(f"data: expected one of what was added ({known}); got {name!r}")
    return found


def write(root: Path, entry: Entry) -> None:
    """Write the entry into its .dvc file, which DVC has written before."""
    path = pointer_of(root, entry.name)
    stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    values = asdict(entry)
    del values["name"]
    stored["desc"] = f"{entry.records} {entry.kind}, version {entry.version.number}"
    stored["meta"] = {**stored.get("meta", {}), _META: values}
    write_text(path, yaml.safe_dump(stored, sort_keys=False, allow_unicode=True))
