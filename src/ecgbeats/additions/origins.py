"""Beside the manifest of a union: what came from where."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ecgbeats.files import read_json, write_text

ORIGINS = "origins.json"


class Origins(BaseModel):
    """What a union is made of.

    Attributes
    ----------
    root : str
        The dataset that is in no union.
    added : tuple of str
        Additions in the order in which they were joined.
    left_out : dict of str to str
        Added records or pictures that one of the base is, and which.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: str
    added: tuple[str, ...] = ()
    left_out: dict[str, str] = {}


def read_origins(folder: Path) -> Origins:
    """Of a union; a dataset that is none is a root without additions."""
    path = Path(folder) / ORIGINS
    if not path.is_file():
        return Origins(root=Path(folder).name)
    return Origins.model_validate(read_json(path))


def write_origins(folder: Path, origins: Origins) -> None:
    write_text(Path(folder) / ORIGINS, origins.model_dump_json(indent=2) + "\n")


def both(one: str, other: str) -> str:
    """Two licences or citations as one text."""
    return one if other in one.split("; ") else f"{one}; {other}"
