"""Whether a bento that lies in the store is to be believed: whole by its hashes, and tried here.

That a bento has its final name says that its build was not cut short, and no more. Its trial
comes later and may have failed or been killed; a file of it may have been changed since.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from ecgbeats.files import read_json, sha256_file, sha256_tree, write_text
from ecgbeats.inference import CARD, ONNX

BUNDLE, GOLDEN = "bundle.json", "golden.npz"
# Label by which a bento is known to hold just this code, model and requirements.
CONTENT = "content_sha256"
_ABOUT = "bento.yaml"
# What is in a bento's src/ beside what was packed: of BentoML, and of Python once it has run.
_ADDED = ("bentofile.yaml", "__pycache__")
# Folder of the store, beside BentoML's own.
_TRIED = "tried"


def is_whole(bento: Path, model: Path | None = None) -> bool:
    """Whether the folder `bento` of a store holds, byte for byte, what was packed.

    By the hash among its labels, and those of its models that it covers.

    Parameters
    ----------
    model : Path, optional
        Model folder, with its golden batch, that it has to be the bento of.
    """
    try:
        entries = read_json(bento / "src" / "bento" / BUNDLE)["models"]
        return (
            src_as_built(bento)
            and all(_is_there(entry, bento.parents[2] / "models") for entry in entries)
            and (model is None or _is_of(bento, entries[0], model))
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
        # Cut off, or not there.
        return False


def src_as_built(bento: Path) -> bool:
    """Whether code, requirements and golden batch of a bento are, byte for byte, what was packed.

    By the hash among its labels.
    """
    about = yaml.safe_load((bento / _ABOUT).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="ecgbeats-src-") as scratch:
        packed = Path(scratch) / "src"
        shutil.copytree(bento / "src", packed, ignore=shutil.ignore_patterns(*_ADDED))
        return sha256_tree(packed) == str(about["labels"].get(CONTENT))


def mark_tried(bento: Path) -> None:
    """Remember that `bento`, as it was built, answered as the offline model does."""
    # Where the store may not be written, it is tried again each time.
    with suppress(OSError):
        write_text(_mark_of(bento), sha256_file(bento / _ABOUT))


def was_tried(bento: Path) -> bool:
    """Whether `mark_tried` was said of it since it was built, whose time is in what is hashed."""
    mark, about = _mark_of(bento), bento / _ABOUT
    return mark.is_file() and about.is_file() and mark.read_text("utf-8") == sha256_file(about)


def _mark_of(bento: Path) -> Path:
    return bento.parents[2] / _TRIED / bento.parent.name / bento.name


def _is_there(entry: dict[str, Any], models: Path) -> bool:
    """Whether the model that an entry of the bundle names is in the store, and is that one."""
    folder = models.joinpath(*entry["model"].split(":"))
    hashes = {CARD: entry["card_sha256"], ONNX: entry["card"]["network"]["onnx_sha256"]}
    return all(sha256_file(folder / name) == digest for name, digest in hashes.items())


def _is_of(bento: Path, entry: dict[str, Any], model: Path) -> bool:
    # The card names the network by its hash.
    return bool(
        entry["card_sha256"] == sha256_file(model / CARD)
        and sha256_file(bento / "src" / GOLDEN) == sha256_file(model / GOLDEN)
    )
