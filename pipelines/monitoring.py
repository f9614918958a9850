"""Where the reference of a model is: with its version in the registry, or carried beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ecgbeats.config import Params, read_params
from ecgbeats.errors import ConfigError, DataError
from ecgbeats.files import read_json
from ecgbeats.monitoring.reference import REFERENCE, Reference, read_reference
from ecgbeats.monitoring.settings import MonitorParams
from pipelines import carried, registry


@dataclass(frozen=True)
class Found:
    """A reference, and in words where it was found."""

    reference: Reference
    where: str


def find_reference(root: Path, recipe: str, model: str | None = None) -> Found:
    """The reference of `model`, by default of RECIPE's champion; else of the carried model.

    Parameters
    ----------
    model : str, optional
        NAME@ALIAS or NAME/VERSION of the registry, or a reference.json.

    Raises
    ------
    ConfigError
        There is no such model, or no champion and nothing of the recipe is carried.
    DataError
        Its version was registered without a reference.
    """
    if model is not None and Path(model).is_file():
        return Found(read_reference(Path(model)), model)
    version = registry.champion(recipe) if model is None else registry.find(model)
    if version is None:
        folder = carried.folder_of(root)
        of = read_json(folder / carried.ORIGIN) if (folder / carried.ORIGIN).is_file() else {}
        if of.get("recipe") != recipe or not (folder / REFERENCE).is_file():
            raise ConfigError(
                f"{recipe}: expected a champion, or a carried model of it with its {REFERENCE}; "
                f"found neither. Run `make run RECIPE={recipe}` first, or give --model"
            )
        return Found(read_reference(folder / REFERENCE), "the carried model")
    words = f"{version.name} version {version.version}"
    with tempfile.TemporaryDirectory(prefix="ecgbeats-monitor-") as scratch:
        path = registry.fetch_reference(version, Path(scratch))
        if path is None:
            raise DataError(
                f"{words}: it was registered without a reference. `make run RECIPE={recipe}` "
                "adds it where the model's files are still here"
            )
        return Found(read_reference(path), words)


def settings_of(
    params: Params, recipe: str, *, windows: int | None = None, window_beats: int | None = None
) -> MonitorParams:
    """The recipe's section `monitor`, with what was asked for on the command line.

    Raises
    ------
    ConfigError
        More windows must have drifted than are looked at.
    """
    section = params.recipe(recipe).monitor
    asked = {"windows": windows, "window_beats": window_beats}
    given = {name: value for name, value in asked.items() if value is not None}
    try:
        return MonitorParams.model_validate({**section.model_dump(), **given})
    except ValueError as error:
        raise ConfigError(f"{recipe}: monitor: {given}: {error}") from error


def watch(
    root: Path,
    recipe: str,
    logs: Sequence[Path],
    *,
    model: str | None = None,
    windows: int | None = None,
    window_beats: int | None = None,
    hours: float | None = None,
    out: Path | None = None,
    docs: bool = False,
) -> Watched:
    """Compare the logs of RECIPE's service with the reference of its model; write the page."""
    from ecgbeats.monitoring.run import monitor

    settings = settings_of(
        read_params(root / "params.yaml"), recipe, windows=windows, window_beats=window_beats
    )
    found = find_reference(root, recipe, model)
    out = out or root / "reports" / recipe / "monitoring"
    done = monitor(recipe, logs, found.reference, settings, out, hours=hours, docs=docs)
    return Watched(done.retrain, done.verdict, found.where, found.reference.weights, out)


@dataclass(frozen=True)
class Watched:
    """What `watch` found, against what, and where it wrote it."""

    retrain: bool
    verdict: dict[str, object]
    where: str
    weights: str
    out: Path
