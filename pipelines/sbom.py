"""What a bento is made of: packages, model and data as CycloneDX, and the packages' licences.

uv writes the packages of the lock as CycloneDX 1.5, with hashes of their files and who needs
whom. What the bento really requires decides which of them count; licences come from what is
installed here.
"""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, cast

from uv import find_uv_bin

from ecgbeats.errors import ServiceError
from ecgbeats.files import canonical_json

_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;]+)")
_LICENCE_FILE = re.compile(r"(?i)^(licen[cs]e|copying|notice)")
# Of the names of licences among a package's classifiers.
_CLASSIFIER = "License :: "
_UNKNOWN = "not stated"
_NOT_HERE = "not installed here: for other platforms"


@dataclass(frozen=True)
class Licence:
    """Under what a package may be used.

    Attributes
    ----------
    words : str
        An SPDX expression where `is_expression`, else what the package says.
    texts : tuple of (str, str)
        Name and content of its licence files.
    """

    package: str
    version: str
    words: str
    is_expression: bool
    texts: tuple[tuple[str, str], ...] = ()


def pinned(requirements: str) -> dict[str, str]:
    """Version of each package, by its normalised name, of a requirements file."""
    found = (_PINNED.match(line) for line in requirements.splitlines())
    return {_normal(match[1]): match[2] for match in found if match}


def licences(packages: Mapping[str, str]) -> list[Licence]:
    """The licence of each package, by what the one installed here says."""
    return [_licence(name, version) for name, version in sorted(packages.items())]


def sbom(
    root: Path,
    packages: Mapping[str, str],
    found: Sequence[Licence],
    *,
    bento: str,
    commit: str,
    parts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """A CycloneDX 1.5 document; equal inputs give equal bytes.

    Parameters
    ----------
    root : Path
        The checkout, for its lock.
    packages : mapping of str to str
        Version by name, as `pinned` gives.
    found : sequence of Licence
        Theirs.
    bento : str
        Its tag, `name:version`.
    commit : str
        Of the code.
    parts : sequence of mapping
        Further components: model and data.
    """
    locked = _locked(root)
    by_name = {_normal(each["name"]): each for each in locked["components"]}
    of = {each.package: each for each in found}
    components = []
    for name, version in sorted(packages.items()):
        purl = f"pkg:pypi/{name}@{version}"
        known = by_name.get(name)
        if known is None or known["version"] != version:
            # The lock has gone on since the bento was built.
            known = {"type": "library", "name": name, "version": version}
        components.append({**known, "bom-ref": purl, "purl": purl, **_stated(of[name])})
    refs = {each["bom-ref"]: by for by, each in by_name.items()}
    purls = {_normal(each["name"]): each["bom-ref"] for each in components}
    edges = {
        refs[each["ref"]]: [refs[to] for to in each.get("dependsOn", []) if to in refs]
        for each in locked["dependencies"]
        if each["ref"] in refs
    }
    name, _, version = bento.partition(":")
    root_ref = f"bento:{bento}"
    needed = {to for ends in edges.values() for to in ends}
    direct = [purl for by, purl in purls.items() if by not in needed]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "tools": locked["metadata"].get("tools", []),
            "component": {
                "type": "application",
                "bom-ref": root_ref,
                "name": name,
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "properties": [{"name": "ecgbeats:git_commit", "value": commit}],
            },
        },
        "components": [*components, *parts],
        "dependencies": [
            {"ref": root_ref, "dependsOn": [*direct, *(part["bom-ref"] for part in parts)]},
            *(
                {"ref": purl, "dependsOn": [purls[to] for to in edges.get(by, []) if to in purls]}
                for by, purl in purls.items()
            ),
        ],
    }
    # The same for the same content, as the rest of it is.
    serial = uuid.uuid5(uuid.NAMESPACE_URL, canonical_json(document))
    return {**document, "serialNumber": f"urn:uuid:{serial}"}


def licence_table(found: Sequence[Licence]) -> str:
    """Markdown: package, version, licence."""
    rows = [f"| {each.package} | {each.version} | {_cell(each.words)} |" for each in found]
    return "\n".join(["| package | version | licence |", "| --- | --- | --- |", *rows]) + "\n"


def licence_texts(found: Sequence[Licence]) -> str:
    """All licence files, one after the other."""
    parts = [
        f"{'=' * 78}\n{each.package} {each.version}: {name}\n{'=' * 78}\n\n{text.strip()}\n\n"
        for each in found
        for name, text in each.texts
    ]
    return "".join(parts)


def _licence(name: str, version: str) -> Licence:
    try:
        package = distribution(name)
    except PackageNotFoundError:
        return Licence(name, version, _NOT_HERE, False)
    if package.version != version:
        return Licence(name, version, f"not known: {package.version} is installed here", False)
    texts = tuple(sorted(_texts(package)))
    # What it is; its declared type has no `get` before Python 3.12.
    about = cast(Message, package.metadata)
    if expression := about.get("License-Expression"):
        return Licence(name, version, str(expression), True, texts)
    named = [
        str(line).rpartition(" :: ")[2]
        for line in about.get_all("Classifier") or ()
        if str(line).startswith(_CLASSIFIER)
    ]
    # Some put the whole text there.
    lines = str(about.get("License") or "").strip().splitlines()
    words = ", ".join(named) or (lines[0] if lines else _UNKNOWN)
    return Licence(name, version, words, False, texts)


def _texts(package: Distribution) -> Iterator[tuple[str, str]]:
    for path in package.files or ():
        inside = any(part.endswith(".dist-info") for part in path.parts)
        if inside and _LICENCE_FILE.match(path.name):
            file = Path(str(path.locate()))
            if file.is_file():
                yield path.name, file.read_text(encoding="utf-8", errors="replace")


def _stated(licence: Licence) -> dict[str, Any]:
    if licence.is_expression:
        return {"licenses": [{"expression": licence.words}]}
    return {"licenses": [{"license": {"name": licence.words}}]}


def _locked(root: Path) -> dict[str, Any]:
    """uv's own document on the service's packages in the lock."""
    group = ["--frozen", "--quiet", "--only-group", "service"]
    done = subprocess.run(
        [find_uv_bin(), "export", *group, "--format", "cyclonedx1.5"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ServiceError(f"uv export: ended with {done.returncode}; {done.stderr[-500:]}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _normal(name: str) -> str:
    """As PEP 503 compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
