"""A bento as the context of a container image: with its models inside, and our Dockerfile.

`bentoml containerize` makes an image too, of the same base and for an unprivileged user; but its
Dockerfile is BentoML's own, which has no health check and does not let itself be extended.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from ecgbeats.errors import DataError, ServiceError
from ecgbeats.files import folder_written_aside, write_text
from pipelines import dockerfile, packaging

BENTO = "bento.yaml"
# What BentoML made for its own image, and what no image needs.
_IGNORED = ("env/docker", dockerfile.DOCKERFILE, ".dockerignore", "README.md")


def write_context(root: Path, tag: str, out: Path) -> Path:
    """Write the context of the bento's image to the folder `out`, in place of an earlier one.

    Raises
    ------
    ServiceError
        The store does not hold the bento, or one of before bentos had hashes of their packages.
    DataError
        `out` holds something else, which would be lost.
    """
    bento = packaging.bento_folder(tag)
    if not bento.is_dir():
        raise ServiceError(f"{tag}: expected a bento of the store, it is not there")
    if not (bento / "src" / packaging.HASHED).is_file():
        raise ServiceError(f"{tag}: expected {packaging.HASHED} in it; it has to be built anew")
    if out.exists() and not (out / BENTO).is_file() and any(out.iterdir()):
        raise DataError(f"{out}: expected a new folder or an earlier context, found other files")
    about = yaml.safe_load((bento / BENTO).read_text(encoding="utf-8"))
    models = {model["tag"] for service in about["services"] for model in service["models"]}
    with folder_written_aside(out) as aside:
        shutil.copytree(bento, aside, dirs_exist_ok=True)
        for model in sorted(models):
            name, _, version = model.partition(":")
            shutil.copytree(packaging.model_folder(model), aside / "models" / name / version)
            write_text(aside / "models" / name / "latest", version)
        shutil.copyfile(dockerfile.path_of(root), aside / dockerfile.DOCKERFILE)
        write_text(aside / ".dockerignore", "".join(f"{name}\n" for name in _IGNORED))
        # As BentoML leaves them, models are for their owner alone; the image's user is another.
        for path in (aside, *aside.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    return out
