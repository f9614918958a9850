"""The bento of a tiny model, built once for all tests of the service."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from pipelines.packaging import Source, build_bento
from tests.support.bentos import ABOUT, BESIDE, PICTURES, PROJECT, Built, forget_bento
from tests.support.tiny_model import write_tiny_golden, write_tiny_model


@pytest.fixture(scope="package")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """A bento of a tiny model, in a store of its own."""
    root = tmp_path_factory.mktemp("bento")
    classifier = write_tiny_model(root / "model")
    write_tiny_golden(root / "golden.npz", classifier)
    beside = Source(root / "pictures", root / "golden-pictures.npz", BESIDE)
    write_tiny_golden(beside.golden, write_tiny_model(beside.folder, PICTURES, seed=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENTOML_HOME", str(root / "home"))
        patch.setenv("ECGBEATS_WORKERS", "1")
        # By which all that is started from here is known.
        patch.setenv("STARTED_BY_TESTS_OF", str(root))
        tag = build_bento(
            root / "model", root / "golden.npz", ABOUT, project=PROJECT, beside=beside
        )
        yield Built(root / "home", root / "model", root / "golden.npz", tag, classifier, beside)


@pytest.fixture(scope="package")
def service(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The service, imported from the bento, in this process."""
    import bentoml

    # With its models inside, as in a container: no store of this process has a part in it.
    folder = tmp_path_factory.mktemp("unpacked") / "bento"
    shutil.copytree(built.folder, folder)
    shutil.copytree(built.home / "models", folder / "models")
    forget_bento()
    yield bentoml.load(str(folder))
    forget_bento()


@pytest.fixture(scope="package")
def client(service: Any) -> Iterator[TestClient]:
    with TestClient(service.to_asgi()) as running:
        yield running
