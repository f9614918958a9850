"""What the other datasets of this checkout hold, which new data are held against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ecgbeats.additions.fingerprints import NOBODY, Fingerprints, fingerprints_of
from ecgbeats.config import Params
from ecgbeats.datasets import MANIFEST, Manifest, read_description
from ecgbeats.errors import ConfigError
from pipelines import added


def known_records(
    root: Path, params: Params, name: str, against: Sequence[str] = ()
) -> Fingerprints:
    """Fingerprints of all records that are here, or of the datasets `against`.

    Raises
    ------
    ConfigError
        `against` names a dataset that is not here.
    """
    here = _datasets(root, params, name)
    present = {each: folder for each, folder in here.items() if (folder / MANIFEST).is_file()}
    absent = sorted(set(against) - set(present))
    if absent:
        raise ConfigError(
            f"against: expected datasets that are here ({', '.join(present) or 'none'}), "
            f"got {', '.join(absent)}"
        )
    known = NOBODY
    for each, folder in present.items():
        manifest = read_description(folder)
        if isinstance(manifest, Manifest) and (not against or each in against):
            known = known.joined(fingerprints_of(folder, manifest, name=each))
    return known


def patients_elsewhere(root: Path, params: Params, name: str) -> dict[str, frozenset[str] | None]:
    """Patients of each dataset that a patient map may name; None for one that is not here."""
    found: dict[str, frozenset[str] | None] = {}
    for each, folder in _datasets(root, params, name).items():
        found[each] = None
        if (folder / MANIFEST).is_file():
            manifest = read_description(folder)
            own = manifest.patient_of.values() if isinstance(manifest, Manifest) else ()
            # Of an addition, some may be another dataset's.
            found[each] = frozenset(patient for patient in own if "/" not in patient)
    return found


def _datasets(root: Path, params: Params, name: str) -> dict[str, Path]:
    """Folders of all datasets but `name`, whether they are here or not."""
    here = {each: root / "data/raw" / each for each in params.datasets}
    return here | {each: added.folder_of(root, each) for each in added.names(root) if each != name}
