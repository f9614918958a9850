"""A dataset and records that were added to it, as one dataset folder.

Nothing of the base changes: its records keep their names, patients and bytes. Added records are
called `<added>__<record>`, and their patients `<added>/<patient>`, unless the patient map of the
addition says whose they are: `<base>/<patient>`. Records that the base holds already, under
whatever name, are left out: they teach nothing new, and may be tested on.
"""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

from ecgbeats.additions.fingerprints import find_twins, fingerprints_of
from ecgbeats.additions.naming import prefix_of
from ecgbeats.additions.origins import Origins, both, read_origins, write_origins
from ecgbeats.additions.picture_union import unite_pictures
from ecgbeats.datasets import (
    ImageManifest,
    Manifest,
    RecordEntry,
    read_description,
    write_manifest,
)
from ecgbeats.errors import ContractError, DataError
from ecgbeats.files import folder_written_aside
from ecgbeats.progress import say
from ecgbeats.sources.wfdb_folder import RecordFiles, files_of, prefixed_header


def unite(name: str, base: Path, added: Path, out: Path) -> Manifest | ImageManifest:
    """Write the union of two dataset folders to the folder `out`.

    Parameters
    ----------
    name : str
        Of the union, for its manifest.
    base : Path
        A dataset folder; may be a union itself.
    added : Path
        A dataset folder, called as the addition is.

    Raises
    ------
    DataError
        One holds recordings and the other pictures; everything added is left out; a patient is
        said to be the base's and is not.
    ContractError
        A record of the base has a name that the addition's would have.
    """
    theirs, ours = read_description(base), read_description(added)
    if isinstance(theirs, ImageManifest) and isinstance(ours, ImageManifest):
        return unite_pictures(name, base, theirs, added, ours, out)
    if isinstance(theirs, ImageManifest) or isinstance(ours, ImageManifest):
        raise DataError(f"{added}: expected recordings or pictures as {base} holds, got the other")
    return _unite_recordings(name, base, theirs, added, ours, out)


def _unite_recordings(
    name: str, base: Path, theirs: Manifest, added: Path, ours: Manifest, out: Path
) -> Manifest:
    origins = read_origins(base)
    prefix = prefix_of(added.name)
    taken = [record for record in theirs.record_names if record.startswith(prefix)]
    if taken or added.name in origins.added:
        raise ContractError(
            f"{base}: expected no record called {prefix}..., found {', '.join(taken) or 'some'}"
        )
    left_out = _known_records(base, theirs, added, ours)
    kept = [entry for entry in ours.records if entry.record not in left_out]
    if not kept:
        raise DataError(
            f"{added}: expected a record that {base.name} does not hold; all are left out: "
            + ", ".join(f"{record} is {of}" for record, of in left_out.items())
        )
    patients = _patients(added.name, kept, origins, set(theirs.patient_of.values()))
    with folder_written_aside(out) as aside:
        for record in theirs.record_names:
            files = files_of(base, record, theirs.annotator)
            for file in files.all:
                shutil.copyfile(base / file, aside / file)
        for entry in kept:
            files = files_of(added, entry.record, ours.annotator)
            _copy(added, entry.record, files, aside, prefix, theirs.annotator)
        manifest = Manifest(
            name=name,
            source="union",
            version=f"{theirs.version}+{added.name}:{ours.version}",
            licence=both(theirs.licence, ours.licence),
            citation=both(theirs.citation, ours.citation),
            synthetic=theirs.synthetic or ours.synthetic,
            annotator=theirs.annotator,
            records=(
                *theirs.records,
                *(
                    RecordEntry(record=prefix + entry.record, patient=patients[entry.record])
                    for entry in kept
                ),
            ),
        )
        write_manifest(aside, manifest)
        joined = Origins(
            root=origins.root,
            added=(*origins.added, added.name),
            left_out={**origins.left_out, **{prefix + k: v for k, v in left_out.items()}},
        )
        write_origins(aside, joined)
    for record, of in left_out.items():
        say(f"unite {name}: {record} of {added.name} left out: it is {of}")
    say(f"unite {name}: {len(theirs.records)} records, and {len(kept)} of {added.name}")
    return manifest


def _known_records(base: Path, theirs: Manifest, added: Path, ours: Manifest) -> dict[str, str]:
    found = find_twins(fingerprints_of(added, ours), fingerprints_of(base, theirs), among_us=False)
    same = found["twin_of"].fillna(found["copy_of"])
    known = found.assign(same=same)[same.notna()]
    names = known["name"].str.removeprefix(f"{added.name}/")
    return dict(zip(names, known["same"], strict=True))


def _patients(
    added: str, kept: list[RecordEntry], origins: Origins, known: set[str]
) -> dict[str, str]:
    """Patient of each record in the union; `<dataset>/<patient>` names another dataset's."""
    patients, strangers = {}, []
    for entry in kept:
        dataset, slash, patient = entry.patient.partition("/")
        if not slash:
            patients[entry.record] = f"{added}/{entry.patient}"
            continue
        named = patient if dataset == origins.root else entry.patient
        if dataset in (origins.root, *origins.added) and named not in known:
            strangers.append(entry.patient)
        patients[entry.record] = named
    if strangers:
        raise DataError(
            f"{added}: expected patients that are there, the patient map names "
            + ", ".join(sorted(set(strangers)))
        )
    return patients


def _copy(
    source: Path, record: str, files: RecordFiles, target: Path, prefix: str, annotator: str
) -> None:
    for file in files.headers:
        content = (source / file).read_bytes()
        (target / f"{prefix}{file}").write_bytes(prefixed_header(content, prefix.encode()))
    for file in files.signals:
        shutil.copyfile(source / file, target / f"{prefix}{PurePosixPath(file).name}")
    shutil.copyfile(source / files.annotations, target / f"{prefix}{record}.{annotator}")
