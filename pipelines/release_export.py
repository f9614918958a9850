"""A release as files to hand over: the bento, its release folder, and their checksums."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from pathlib import Path

from ecgbeats.errors import ContractError, DataError, ServiceError
from ecgbeats.files import folder_written_aside
from ecgbeats.outputs import check_replaceable
from ecgbeats.progress import say
from ecgbeats.signing import SIGNATURE, SUMS, check_seal, seal
from pipelines import elsewhere, registry
from pipelines.bentos import Bentos
from pipelines.registry import Registered
from pipelines.release import folder_of


def export(
    root: Path, recipe: str, champion: Registered | None, out: Path, key: Path | None = None
) -> list[Path]:
    """Write `<bento>.bento`, `<release>.tar.gz` and SHA256SUMS to `out`; all or nothing.

    Parameters
    ----------
    key : Path, optional
        Private key (Ed25519, PEM) to sign the checksums with: they cover the bento, which the
        signature in the release folder does not.

    Raises
    ------
    DataError
        There is no champion, its release was not made, or its bento is not here and this checkout
        packs another.
    ContractError
        The release folder is not as it was sealed; the registry holds another model than was
        registered.
    ConfigError
        `key` is no such key, or `out` holds something else than an earlier export.
    ServiceError
        The bento does not answer as offline, or cannot be exported.
    """
    check_replaceable(out, _may_be_ours, _is_export)
    if champion is None:
        raise DataError(f"{recipe}: no champion yet; run `make run RECIPE={recipe}` first")
    folder = folder_of(root, champion)
    if not folder.is_dir():
        raise DataError(f"{folder}: expected its release; run `ecgbeats release {recipe}` first")
    check_seal(folder)
    bento = elsewhere.bento_of(root, recipe, say)
    if bento != champion.tags["bento"]:
        raise DataError(f"{recipe}: another version became the champion meanwhile; run it again")
    with tempfile.TemporaryDirectory(prefix="ecgbeats-export-") as scratch:
        Bentos(root).verify(bento, registry.fetch_model(champion, Path(scratch) / "model"))
    with folder_written_aside(out) as aside:
        target = aside / f"{bento.replace(':', '-')}.bento"
        done = subprocess.run(
            ["bentoml", "export", bento, str(target)], capture_output=True, text=True
        )
        if done.returncode or not target.is_file():
            raise ServiceError(f"bentoml export {bento}: {(done.stderr or done.stdout)[-500:]}")
        with tarfile.open(aside / f"{folder.name}.tar.gz", "w:gz") as archive:
            archive.add(folder, arcname=folder.name)
        seal(aside, key)
    return sorted(out.iterdir())


def _may_be_ours(name: str) -> bool:
    return name in (SUMS, SIGNATURE) or name.endswith((".bento", ".tar.gz"))


def _is_export(folder: Path) -> bool:
    """Whether all that lies there was sealed together."""
    try:
        check_seal(folder)
    except (ContractError, DataError):
        return False
    return True
