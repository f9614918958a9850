"""The Dockerfile of a bento's image, and the base that it names."""

from __future__ import annotations

from pathlib import Path

from ecgbeats.errors import ContractError

# Folder in bento/ of what an image and a cluster are made by.
DEPLOY, DOCKERFILE = "deploy", "Dockerfile"


def path_of(root: Path) -> Path:
    """Where the checkout at `root` keeps it."""
    return root / "bento" / DEPLOY / DOCKERFILE


def base_image(root: Path) -> str:
    """The base of the image that is run, which the Dockerfile names last.

    Raises
    ------
    ContractError
        It names none.
    """
    path = path_of(root)
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    named = [words[1] for words in lines if len(words) > 1 and words[0] == "FROM"]
    if not named:
        raise ContractError(f"{path}: expected FROM and an image, found none")
    return named[-1]
