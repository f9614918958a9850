"""The champion's bento on a machine that did not make it: built from what the registry holds."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ecgbeats.errors import DataError
from pipelines import packaging, registry
from pipelines.bentos import Bentos
from pipelines.ledger import Tell, silent
from pipelines.promotion import candidate_of


def bento_of(root: Path, recipe: str, tell: Tell = silent) -> str:
    """The bento of the recipe's champion, built and tried out where this store lacks it.

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
    if packaging.has_bento(tag):
        return tag
    tell(f"{tag} is not in this machine's store: building it from the registry")
    with tempfile.TemporaryDirectory(prefix="ecgbeats-elsewhere-") as scratch:
        folder = candidate_of(champion, Path(scratch)).model
        bentos = Bentos(root)
        built = bentos.build(champion, folder)
        if built != tag:
            raise DataError(
                f"{recipe}: expected the champion's bento {tag}; this checkout packs {built}. "
                f"Check out the commit that packed it, or let `make run RECIPE={recipe}` make "
                "the one of this checkout the champion's"
            )
        tell(f"{tag}: answers as offline ({bentos.verify(tag, folder)})")
    return tag
