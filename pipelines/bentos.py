"""The bento of a registered version: built from what the registry holds, and tried out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines import packaging
from pipelines.packaging import GOLDEN
from pipelines.provenance import code_of
from pipelines.registry import Registered

# Of the model itself; the commit among a bento's labels is that of the service's code.
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
