"""What a version's model folder has to be, file by file: SHA-256 among its tags.

They stand in MLflow's database, the files in its artifact store: who may write the one alone
cannot exchange network, card and golden batch together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ecgbeats.files import sha256_file
from ecgbeats.inference import CARD, ONNX
from pipelines.stored import GOLDEN

_FILES = {"card_sha256": CARD, "onnx_sha256": ONNX, "golden_sha256": GOLDEN}


def tags_of(model: Path, golden: Path) -> dict[str, str]:
    """The tags of a version whose files these are."""
    paths = {CARD: model / CARD, ONNX: model / ONNX, GOLDEN: golden}
    return {tag: sha256_file(paths[name]) for tag, name in _FILES.items()}


def untagged(tags: Mapping[str, str]) -> list[str]:
    """Files that can be held against nothing: registered before there were such tags."""
    return [name for tag, name in _FILES.items() if tag not in tags]


def differences(tags: Mapping[str, str], folder: Path) -> list[str]:
    """In which files the model in `folder` is not what was registered, in words."""
    found = {
        name: sha256_file(folder / name) if (folder / name).is_file() else "no file"
        for tag, name in _FILES.items()
        if tag in tags
    }
    return [
        f"{name}: expected SHA-256 {tags[tag]}, got {found[name]}"
        for tag, name in _FILES.items()
        if tag in tags and found[name] != tags[tag]
    ]
