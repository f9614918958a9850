"""The model that the repository carries, so that a fresh clone has something real to serve.

A folder of files that belong together: the network, its description, its golden batch, what was
measured, where it came from, a card for people, and the hash of each. In a folder within are those
of the model that answers plain pictures beside it. `ecgbeats carry` replaces them by champions;
nothing is trained for it.
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
from pipelines.model_folder import card_of
from pipelines.packaging import CARRIED, BentoAbout, Source
from pipelines.promotion_log import overrides_in
from pipelines.registry import Registered
from pipelines.stored import GOLDEN

METRICS, ORIGIN, WORDS, SUMS = "metrics.json", "origin.json", "MODEL_CARD.md", "SHA256SUMS"
# Of the model for plain pictures.
BESIDE = "picture"
# A clone should stay light.
LARGEST_MB = 3.0


def folder_of(root: Path) -> Path:
    """Where the carried model lies in the checkout at `root`."""
    return root / "bento" / CARRIED


def carry(root: Path, champion: Registered) -> Path:
    """Replace the carried model by `champion`; all of it or nothing.

    With the approved champion of `<recipe>-picture` beside it, where there is one, else with what
    was carried of that recipe. Such a one itself goes beside the model that is carried.

    Raises
    ------
    ContractError
        One was made of synthetic recordings, or their files are too large to be carried.
    """
    target = folder_of(root)
    recipe = champion.tags["recipe"]
    main: Registered | None = champion
    pictures = registry.champion(f"{recipe}{bentos.PICTURES}")
    if pictures is not None and not pictures.approved:
        pictures = None
    if recipe == f"{_recipe_in(target)}{bentos.PICTURES}":
        main, pictures = None, champion
    with folder_written_aside(target) as aside:
        if main is not None:
            _put(aside, main)
        else:
            shutil.copytree(
                target, aside, dirs_exist_ok=True, ignore=shutil.ignore_patterns(BESIDE, SUMS)
            )
        beside = target / BESIDE
        if pictures is not None:
            _put(aside / BESIDE, pictures)
        elif _recipe_in(beside) == f"{recipe}{bentos.PICTURES}":
            shutil.copytree(beside, aside / BESIDE)
        files = sorted(path for path in aside.rglob("*") if path.is_file())
        sums = [f"{sha256_file(path)}  {path.relative_to(aside).as_posix()}\n" for path in files]
        write_text(aside / SUMS, "".join(sums))
        size = sum(path.stat().st_size for path in files) / 1e6
        if size > LARGEST_MB:
            raise ContractError(
                f"{champion.name}: expected at most {LARGEST_MB:g} MB to carry, got {size:.1f}"
            )
    return target


def _put(folder: Path, champion: Registered) -> None:
    """Lay out in `folder` all that is carried of `champion`."""
    if champion.tags["synthetic"] == "true":
        raise ContractError(
            f"{champion.name} version {champion.version}: expected a model of real recordings, "
            "this one is of synthetic ones"
        )
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ecgbeats-carry-") as scratch:
        model = registry.fetch_model(champion, Path(scratch) / "model")
        report = registry.fetch_report(champion, Path(scratch) / "report")
        for source in (model / CARD, model / ONNX, model / GOLDEN, report / METRICS):
            shutil.copyfile(source, folder / source.name)
        # For `ecgbeats monitor`; one that was registered before there was any has none.
        reference = registry.fetch_reference(champion, Path(scratch) / "reference")
        if reference is not None:
            shutil.copyfile(reference, folder / reference.name)
    origin = {
        "name": champion.name,
        "version": champion.version,
        "recipe": champion.tags["recipe"],
        "git_commit": champion.tags["git_commit"],
        **{key: champion.tags[key] for key in bentos.LABELS},
    }
    write_json(folder / ORIGIN, origin)
    card, metrics = card_of(folder), read_json(folder / METRICS)
    overruled = overrides_in(champion.tags)
    write_text(folder / WORDS, model_card(card, metrics, champion.name, overruled=overruled))


def _recipe_in(folder: Path) -> str | None:
    """The recipe of the model that is carried in `folder`."""
    path = folder / ORIGIN
    return str(read_json(path)["recipe"]) if path.is_file() else None


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
    names = _checked(folder)
    beside = None
    if f"{BESIDE}/{ONNX}" in names:
        within = folder / BESIDE
        beside = Source(within, within / GOLDEN, _about(root, within))
    return bentos.build_by_content(folder, folder / GOLDEN, _about(root, folder), root, beside)


def _about(root: Path, folder: Path) -> BentoAbout:
    origin = read_json(folder / ORIGIN)
    return bentos.about_model(
        root,
        str(origin["name"]),
        CARRIED,
        f"{CARRIED} ({origin['version']})",
        origin,
        read_json(folder / METRICS),
    )


def _checked(folder: Path) -> set[str]:
    """The files that SHA256SUMS names, which are what it says."""
    names = set()
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        expected, name = line.split(maxsplit=1)
        path = folder / name
        found = sha256_file(path) if path.is_file() else "no file"
        if found != expected:
            raise ContractError(f"{path}: expected SHA-256 {expected}, found {found}")
        names.add(name)
    return names
