"""One bento of a tiny model, that all tests of the service share."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from ecgbeats.imaging.spec import PictureSpec
from ecgbeats.inference import Classifier
from ecgbeats.labels import LabelScheme
from pipelines.packaging import BentoAbout, Source

PROJECT = Path(__file__).parents[2]
SCHEME = LabelScheme(source="tiny", classes={"N": "NLRej", "S": "AaJS", "V": "VE"})
ABOUT = BentoAbout(
    name="ecgbeats-tiny",
    version="3-8e6c9d1-3f2a91c",
    labels={"recipe": "tiny", "model_version": "3", "git_commit": "8e6c9d1"},
    scheme=SCHEME,
    metrics={"accuracy": 0.5, "headline": {"classes": ["N"], "macro_f1": 0.5}, "confusion": []},
)


# Of the model for plain pictures beside it.
PICTURES = PictureSpec(representation="picture")
BESIDE = BentoAbout(
    name="ecgbeats-tiny-picture",
    version="1-8e6c9d1-3f2a91c",
    labels={"recipe": "tiny-picture", "model_version": "1", "git_commit": "8e6c9d1"},
    scheme=SCHEME,
)


@dataclass(frozen=True)
class Built:
    home: Path
    model: Path
    golden: Path
    tag: str
    classifier: Classifier
    beside: Source

    @property
    def folder(self) -> Path:
        return self.home / "bentos" / self.tag.replace(":", "/")


def forget_bento() -> None:
    """Have the next import of `bento` read it anew, from whichever folder comes first."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "bento"]:
        del sys.modules[name]
