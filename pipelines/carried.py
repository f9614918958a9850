"""The model that the repository carries, so that a fresh clone has something real to serve.

A folder of files that belong together: the network, its description, its golden batch, what was
measured, where it came from, a card for people, and the hash of each. `ecgbeats carry` replaces
it by a champion; nothing is trained for it.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ecgbeats.errors import ContractError, DataError
from ecgbeats.files import folder_written_aside, read_json, sha256_file, write_json, write_text
from ecgbeats.inference import CARD, ONNX
from ecgbeats.model_card import model_card
from pipelines import bentos, registry
from pipelines.packaging import CARRIED, GOLDEN
from pipelines.promotion_log import overrides_in
from pipelines.registry import Registered

METRICS, ORIGIN, WORDS, SUMS = "metrics.json", "origin.json", "MODEL_CARD.md", "SHA256SUMS"
# A clone should stay light.
LARGEST_MB = 3.0


def folder_of(root: Path) -> Path:
    """Where the carried model lies in the checkout at `root`."""
    return root / "bento" / CARRIED


def carry(root: Path, champion: Registered) -> Path:
    """Replace the carried model by `champion`; all of it or nothing.

    Raises
    ------
    ContractError
        It was made of synthetic recordings, or its files are too large to be carried.
    """
    if champion.tags["synthetic"] == "true":
        raise ContractError(
            f"{champion.name} version {champion.version}: expected a model of real recordings, "
            "this one is of synthetic ones"
        )
    target = folder_of(root)
    with tempfile.TemporaryDirectory(prefix="ecgbeats-carry-") as scratch:
        model = registry.fetch_model(champion, Path(scratch) / "model")
        report = registry.fetch_report(champion, Path(scratch) / "report")
        with folder_written_aside(target) as aside:
            for source in (model / CARD, model / ONNX, model / GOLDEN, report / METRICS):
                shutil.copyfile(source, aside / source.name)
            # For `ecgbeats monitor`; one that was registered before there was any has none.
            reference = registry.fetch_reference(champion, Path(scratch) / "reference")
            if reference is not None:
                shutil.copyfile(reference, aside / reference.name)
            origin = {
                "name": champion.name,
                "version": champion.version,
                "recipe": champion.tags["recipe"],
                "git_commit": champion.tags["git_commit"],
                **{key: champion.tags[key] for key in bentos.LABELS},
            }
            write_json(aside / ORIGIN, origin)
            card, metrics = read_json(aside / CARD), read_json(aside / METRICS)
            overruled = overrides_in(champion.tags)
            words = model_card(card, metrics, champion.name, overruled=overruled)
            write_text(aside / WORDS, words)
            names = sorted(path.name for path in aside.iterdir())
            sums = [f"{sha256_file(aside / name)}  {name}\n" for name in names]
            write_text(aside / SUMS, "".join(sums))
            size = sum(path.stat().st_size for path in aside.iterdir()) / 1e6
            if size > LARGEST_MB:
                raise ContractError(
                    f"{champion.name}: expected at most {LARGEST_MB:g} MB to carry, got {size:.1f}"
                )
    return target


def build(root: Path) -> str:
    """The bento of the carried model, built if the store does not have it; its tag.

    Raises
    ------
    DataError
        The repository carries none.
    ContractError
        A file is not what SHA256SUMS says.
    """
    folder = folder_of(root)
    if not (folder / SUMS).is_file():
        raise DataError(f"{folder}: the repository carries no model; `ecgbeats carry RECIPE`")
    _check(folder)
    origin = read_json(folder / ORIGIN)
    about = bentos.about_model(
        root,
        str(origin["name"]),
        CARRIED,
        f"{CARRIED} ({origin['version']})",
        origin,
        read_json(folder / METRICS),
    )
    return bentos.build_by_content(folder, folder / GOLDEN, about, root)


def _check(folder: Path) -> None:
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        expected, name = line.split(maxsplit=1)
        path = folder / name
        found = sha256_file(path) if path.is_file() else "no file"
        if found != expected:
            raise ContractError(f"{path}: expected SHA-256 {expected}, found {found}")
