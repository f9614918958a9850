"""The champion's bento, whole and tried; where it is not, built from what the registry holds."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ecgbeats.errors import DataError
from pipelines import registry
from pipelines.bentos import Bentos
from pipelines.ledger import Tell, silent
from pipelines.promotion import candidate_of


def bento_of(root: Path, recipe: str, tell: Tell = silent) -> str:
    """The bento of the recipe's champion, built where this store lacks it or has it damaged.

    One that has not been tried out on this machine is.

    Its tag says what is packed, so that one which is built here is the one that the promotion
    log names, or is seen not to be.

    Raises
    ------
    DataError
        There is no champion, or this checkout packs other code or packages than its bento has.
    ContractError, ServiceError
        The registry holds another model than was registered; the bento answers otherwise.
    """
    champion = registry.champion(recipe)
    if champion is None or "bento" not in champion.tags:
        raise DataError(f"{recipe}: no bento yet; run `make run RECIPE={recipe}` first")
    tag = champion.tags["bento"]
    with tempfile.TemporaryDirectory(prefix="ecgbeats-elsewhere-") as scratch:
        folder = candidate_of(champion, Path(scratch)).model
        bentos = Bentos(root)
        if not bentos.is_whole(tag, folder):
            tell(f"{tag} is not in this machine's store, whole: building it from the registry")
            built = bentos.build(champion, folder)
            if built != tag:
                raise DataError(
                    f"{recipe}: expected the champion's bento {tag}; this checkout packs {built}. "
                    f"Check out the commit that packed it, or let `make run RECIPE={recipe}` make "
                    "the one of this checkout the champion's"
                )
        if not bentos.was_tried(tag):
            tell(f"{tag}: answers as offline ({bentos.verify(tag, folder)})")
    return tag
