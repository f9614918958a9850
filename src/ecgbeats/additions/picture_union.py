"""A dataset of pictures and pictures that were added to it, as one dataset folder.

As `ecgbeats.additions.union` does it for recordings: nothing of the base changes, and whoever is
in the base already is left out. Here that is every added picture that shows a beat of the base
(its correlation with one of the base is that of twins, `ecgbeats.sources.image_folder`), and all
that show the same beat as such a one: what the base holds may be tested on.
"""

from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ecgbeats.additions.naming import prefix_of
from ecgbeats.additions.origins import Origins, both, read_origins, write_origins
from ecgbeats.datasets import (
    ARCHIVE,
    PICTURES,
    ImageManifest,
    read_pictures,
    write_manifest,
)
from ecgbeats.errors import ContractError, DataError
from ecgbeats.files import folder_written_aside, write_text
from ecgbeats.imaging.png import read_picture
from ecgbeats.progress import say
from ecgbeats.sources.image_folder import EPOCH, plane_of, twins_between


def unite_pictures(
    name: str, base: Path, theirs: ImageManifest, added: Path, ours: ImageManifest, out: Path
) -> ImageManifest:
    """Write the union of two datasets of pictures to the folder `out`.

    Added pictures are called `<added>__<path>`; their groups, which stand for patients,
    `<added>/<group>`. They are of the part `<added>__train`, whatever they were published as: the
    base's test side stays as it was.

    Raises
    ------
    DataError
        Every added picture is left out.
    ContractError
        The base holds this addition.
    """
    origins = read_origins(base)
    prefix = prefix_of(added.name)
    if added.name in origins.added:
        raise ContractError(f"{base}: expected no pictures of {added.name}, found some")
    table, new = read_pictures(base), _kept(read_pictures(added))
    left_out = _known(base, _kept(table), added, new, theirs.twin_correlation)
    joined = new[~new["path"].isin(list(left_out))]
    if joined.empty:
        raise DataError(
            f"{added}: expected a picture of a beat that {base.name} does not show; all "
            f"{len(new)} are left out"
        )
    rows = joined.assign(
        path=prefix + joined["path"],
        part=f"{prefix}train",
        twin=joined["twin"].map(lambda twin: prefix + twin if twin else twin),
        group=added.name + "/" + joined["group"],
    ).astype({"width": int, "height": int})
    with folder_written_aside(out) as aside:
        shutil.copyfile(base / ARCHIVE, aside / ARCHIVE)
        with (
            zipfile.ZipFile(added / ARCHIVE) as source,
            zipfile.ZipFile(aside / ARCHIVE, "a") as target,
        ):
            for path in joined["path"]:
                target.writestr(zipfile.ZipInfo(prefix + path, EPOCH), source.read(path))
        text = (base / PICTURES).read_text(encoding="utf-8")
        more = rows.to_csv(index=False, header=False, lineterminator="\n", float_format="%.4f")
        write_text(aside / PICTURES, text + more)
        manifest = theirs.model_copy(
            update={
                "name": name,
                "source": "union",
                "version": f"{theirs.version}+{added.name}:{ours.version}",
                "licence": both(theirs.licence, ours.licence),
                "citation": both(theirs.citation, ours.citation),
                "synthetic": theirs.synthetic or ours.synthetic,
                "pictures": _sum(theirs.pictures, Counter(joined["folder"])),
                "groups": theirs.groups + joined["group"].nunique(),
                "remarks": tuple(dict.fromkeys([*theirs.remarks, *ours.remarks])),
            }
        )
        write_manifest(aside, manifest)
        of_base = {prefix + path: f"{base.name}/{twin}" for path, twin in left_out.items()}
        write_origins(
            aside,
            Origins(
                root=origins.root,
                added=(*origins.added, added.name),
                left_out={**origins.left_out, **of_base},
            ),
        )
    say(
        f"unite {name}: {sum(theirs.pictures.values())} pictures, and {len(joined)} of "
        f"{added.name}; {len(left_out)} left out: the base shows their beats"
    )
    return manifest


def _kept(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["status"] == "kept"].reset_index(drop=True)


def _known(
    base: Path, theirs: pd.DataFrame, added: Path, ours: pd.DataFrame, least: float
) -> dict[str, str]:
    """Added pictures whose beat the base shows, and the base's picture of it."""
    found = twins_between(_planes(added, ours), _planes(base, theirs), least)
    twin_of: dict[int, tuple[float, int]] = {}
    for i, j, correlation in found:
        twin_of[i] = max(twin_of.get(i, (0.0, j)), (correlation, j))
    # Whoever shares a group shows the same beat.
    of_group = {ours["group"][i]: theirs["path"][j] for i, (_, j) in twin_of.items()}
    return {
        path: theirs["path"][twin_of[i][1]] if i in twin_of else of_group[group]
        for i, (path, group) in enumerate(zip(ours["path"], ours["group"], strict=True))
        if group in of_group
    }


def _planes(folder: Path, table: pd.DataFrame) -> np.ndarray:
    with zipfile.ZipFile(folder / ARCHIVE) as archive:
        return np.stack([plane_of(read_picture(archive.read(path))[0]) for path in table["path"]])


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted((Counter(one) + Counter(other)).items()))
