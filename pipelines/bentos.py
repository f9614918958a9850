"""The bento of a registered version: built from what the registry holds, and tried out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ecgbeats.config import read_params
from ecgbeats.files import read_json, sha256_file
from pipelines import packaging, registry
from pipelines.packaging import GOLDEN_BESIDE
from pipelines.provenance import code_of
from pipelines.registry import Registered
from pipelines.stored import GOLDEN, is_whole, was_tried

PARAMS, METRICS = "params.yaml", "metrics.json"
# Ends the name of the recipe whose model answers plain pictures beside another's.
PICTURES = "-picture"
# Hash of what is packed, whatever the commit.
_PACKED = "packed_sha256"
# Of the model itself; the commit among a bento's labels is that of the service's code.
LABELS = ("data_hash", "images_hash", "weights_sha256", "spec_id")


@dataclass(frozen=True)
class Bentos:
    """This machine's bentos, made by the code of the checkout at `root`."""

    root: Path

    def is_whole(self, tag: str, folder: Path) -> bool:
        """Whether the bento is here, byte for byte as packed, and of the model in `folder`."""
        return is_whole(packaging.bento_folder(tag), folder)

    def was_tried(self, tag: str) -> bool:
        """Whether the bento, as it was built, has passed `verify` on this machine."""
        return was_tried(packaging.bento_folder(tag))

    def build(self, version: Registered, folder: Path) -> str:
        """Build the bento of a version, whose model folder is `folder`, and return its tag.

        One of that tag that is here whole is not built again.

        The champion of the recipe `<recipe>-picture`, if there is one, goes beside it.
        """
        about, golden = self._about(version), folder / GOLDEN
        with tempfile.TemporaryDirectory(prefix="ecgbeats-beside-") as scratch:
            beside = self._beside(version.tags["recipe"], Path(scratch))
            if beside is not None:
                number = beside.about.labels["model_version"]
                about = replace(about, version=f"{about.version}-p{number}")
            return build_by_content(folder, golden, about, self.root, beside)

    def _beside(self, recipe: str, scratch: Path) -> packaging.Source | None:
        champion = registry.champion(f"{recipe}{PICTURES}")
        if champion is None or not champion.approved:
            return None
        folder = registry.fetch_model(champion, scratch)
        return packaging.Source(folder, folder / GOLDEN, self._about(champion))

    def _about(self, version: Registered) -> packaging.BentoAbout:
        number = str(version.version)
        return about_model(self.root, version.name, number, number, version.tags, _metrics(version))

    def verify(self, tag: str, folder: Path) -> str:
        """Let the bento answer the golden batch in `folder`; say how well it did.

        Raises
        ------
        ServiceError
            It does not start, or answers otherwise than the offline model.
        """
        beside = packaging.bento_folder(tag) / "src" / GOLDEN_BESIDE
        return str(
            packaging.verify_bento(
                tag, folder / GOLDEN, beside=beside if beside.is_file() else None
            )
        )


def about_model(
    root: Path,
    name: str,
    version: str,
    model_version: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, Any],
) -> packaging.BentoAbout:
    """What a bento says of its model, by the tags that its version has in the registry."""
    params = read_params(root / PARAMS)
    known = tags["recipe"] in params.recipes
    return packaging.BentoAbout(
        name=name,
        version=version,
        labels={
            "recipe": tags["recipe"],
            "model_version": model_version,
            "git_commit": code_of(root).commit,
            **{key: tags[key] for key in LABELS},
        },
        scheme=params.scheme_of(tags["recipe"]) if known else None,
        metrics=metrics,
    )


def build_by_content(
    folder: Path,
    golden: Path,
    about: packaging.BentoAbout,
    root: Path,
    beside: packaging.Source | None = None,
) -> str:
    """Build a bento whose tag, beyond the version in `about`, says what is packed; return it.

    On another commit that changes nothing of it, the tag is the same, and a bento that is there
    already is not built again. Which commit it was built on, its label says.
    """
    packed = packaging.packed_sha256(folder, golden, about, project=root, beside=beside)
    about = replace(
        about,
        version=f"{about.version}-{packed[:12]}",
        labels={**about.labels, _PACKED: packed},
    )
    if is_whole(packaging.bento_folder(about.tag)):
        here = held(about.tag)
        if here is not None and here.labels.get(_PACKED) == packed:
            return about.tag
    return packaging.build_bento(folder, golden, about, project=root, beside=beside)


def _metrics(version: Registered) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="ecgbeats-report-") as scratch:
        content: dict[str, Any] = read_json(registry.fetch_report(version, Path(scratch)) / METRICS)
        return content


@dataclass(frozen=True)
class Held:
    """A bento in this machine's store.

    Attributes
    ----------
    labels : mapping of str to str
    files : mapping of str to str
        SHA-256 of each file of its model, by name.
    """

    labels: Mapping[str, str]
    files: Mapping[str, str]


def held(tag: str) -> Held | None:
    """The bento of that tag as it lies in the store; None if it does not."""
    if not packaging.has_bento(tag):
        return None
    folder = packaging.bento_folder(tag)
    about = yaml.safe_load((folder / "bento.yaml").read_text(encoding="utf-8"))
    files: dict[str, str] = {}
    for service in about["services"]:
        for model in service["models"]:
            if model["tag"].partition(":")[0] != tag.partition(":")[0]:
                continue  # the model for plain pictures, beside the one that the bento is of
            files |= {
                path.name: sha256_file(path)
                for path in sorted(packaging.model_folder(model["tag"]).glob("*"))
            }
    return Held(about["labels"], files)
