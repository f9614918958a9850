"""The bento of a registered version: built from what the registry holds, and tried out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ecgbeats.config import read_params
from ecgbeats.files import read_json, sha256_file
from pipelines import packaging
from pipelines.packaging import GOLDEN
from pipelines.provenance import code_of
from pipelines.registry import Registered, fetch_report

# Of the model itself; the commit among a bento's labels is that of the service's code.
PARAMS, METRICS = "params.yaml", "metrics.json"
_LABELS = ("data_hash", "images_hash", "weights_sha256", "spec_id")


@dataclass(frozen=True)
class Bentos:
    """This machine's bentos, made by the code of the checkout at `root`."""

    root: Path

    def has(self, tag: str) -> bool:
        return packaging.has_bento(tag)

    def build(self, version: Registered, folder: Path) -> str:
        """Build the bento of a version, whose model folder is `folder`, and return its tag.

        One that is there already, with the same content, is not built again.
        """
        tags, code = version.tags, code_of(self.root)
        about = packaging.BentoAbout(
            name=version.name,
            version=f"{version.version}-{code.short}-{tags['data_hash'][:7]}",
            labels={
                "recipe": tags["recipe"],
                "model_version": str(version.version),
                "git_commit": code.commit,
                **{key: tags[key] for key in _LABELS},
            },
            scheme=read_params(self.root / PARAMS).scheme_of(tags["recipe"]),
            metrics=_metrics(version),
        )
        return packaging.build_bento(folder, folder / GOLDEN, about, project=self.root)

    def verify(self, tag: str, folder: Path) -> str:
        """Let the bento answer the golden batch in `folder`; say how well it did.

        Raises
        ------
        ServiceError
            It does not start, or answers otherwise than the offline model.
        """
        return str(packaging.verify_bento(tag, folder / GOLDEN))


def _metrics(version: Registered) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="ecgbeats-report-") as scratch:
        content: dict[str, Any] = read_json(fetch_report(version, Path(scratch)) / METRICS)
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
            files |= {
                path.name: sha256_file(path)
                for path in sorted(packaging.model_folder(model["tag"]).glob("*"))
            }
    return Held(about["labels"], files)
