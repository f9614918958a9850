"""Save models and build a bento of them, in the store that BENTOML_HOME names.

Run by `pipelines.packaging` in an interpreter of its own, with its order as JSON on
standard input: BentoML imports the service to build it, and both keep what they have
imported and which store they use for as long as the process lives.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import bentoml


def build(order: dict[str, Any]) -> None:
    for tag, files in order["models"].items():
        with bentoml.models.create(tag, labels=order["labels"]) as model:
            for file in files:
                shutil.copyfile(file, model.path_of(Path(file).name))
    bentoml.bentos.build(
        "bento.service:BeatClassifier",
        name=order["name"],
        version=order["version"],
        labels=order["labels"],
        description=order["description"],
        build_ctx=order["context"],
        # Of the image that `bentoml containerize` makes.
        docker={"base_image": order["base_image"]},
        python={"requirements_txt": "requirements.txt", "lock_packages": False},
    )


if __name__ == "__main__":
    build(json.load(sys.stdin))
