"""The whole loop on servers of a team, by settings alone: PostgreSQL, S3, an MLflow before both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import requests

from ecgbeats.errors import ServiceError
from pipelines import ledger, promotion
from pipelines.lineage import lineage
from pipelines.promotion_log import next_entry
from tests.support.projects import RECIPE, Project, free_port, healthy, tiny_params
from tests.support.promoting import NAME, Registry, obedient_gate, registered, write_evidence
from tests.support.servers import (
    BUCKET,
    CREDENTIALS,
    mlflow_server,
    postgres,
    postgres_programs,
    s3_client,
    s3_server,
)

PROGRAMS = postgres_programs()
WITHOUT = "no PostgreSQL here (Debian: apt-get install postgresql)"
pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        # In CI a test that is skipped is one that nobody misses.
        PROGRAMS is None and not os.environ.get("CI"),
        reason=WITHOUT,
    ),
]


@dataclass(frozen=True)
class Servers:
    """Where they are."""

    store: str
    s3: str
    mlflow: str


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    assert PROGRAMS is not None, WITHOUT
    with postgres(PROGRAMS) as url:
        yield url


@pytest.fixture(scope="module")
def servers(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        with s3_server() as s3:
            # As docs/servers.md says it.
            keys = {**CREDENTIALS, "MLFLOW_S3_ENDPOINT_URL": s3}
            with mlflow_server(store, f"s3://{BUCKET}/mlflow", folder, keys) as mlflow:
                yield Servers(store, s3, mlflow)


@pytest.fixture(scope="module")
def here(servers: Servers, prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A machine on which the recipe has run; what it made is pushed and committed."""
    made = Project.create(tmp_path_factory.mktemp("here") / "project", tiny_params())
    ours = {"MLFLOW_TRACKING_URI": servers.mlflow, "NO_PROXY": "127.0.0.1"}
    project = replace(made, env={**made.env, **ours}).with_prefect(prefect_api)
    for words in (
        ("add", "--default", "storage", f"s3://{BUCKET}/dvc"),
        ("modify", "storage", "endpointurl", servers.s3),
    ):
        project.call("dvc", "remote", *words, check=True)
    project.commit("The team's remote")
    ran = project.call("ecgbeats", "run", RECIPE)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert f"{NAME} version 1 (champion)" in ran.stdout
    pushed = project.call("dvc", "push", **CREDENTIALS)
    assert pushed.returncode == 0, pushed.stderr
    project.commit("A champion")
    return project


@pytest.fixture(scope="module")
def there(here: Project, servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Another machine: a clone, with settings of its own and nothing else."""
    root = tmp_path_factory.mktemp("there") / "project"
    here.call("git", "clone", "--quiet", str(here.root), str(root), check=True)
    paths = {"PYTHONPATH": f"{root / 'src'}:{root}"}
    project = replace(here, root=root, env={**here.env, **paths})
    pulled = project.call("dvc", "pull", **CREDENTIALS)
    assert pulled.returncode == 0, pulled.stderr
    return project


def test_what_a_run_makes_is_in_postgresql_and_s3(here: Project, servers: Servers) -> None:
    assert not list(here.root.glob("mlflow.db")) and not list(here.root.glob("mlruns"))
    listed = s3_client(servers.s3).list_objects_v2(Bucket=BUCKET)["Contents"]
    kept = {each["Key"] for each in listed}
    assert any(key.endswith("/artifacts/classifier/model.onnx") for key in kept)
    assert any(key.startswith("dvc/files/md5/") for key in kept)
    import psycopg2

    with psycopg2.connect(servers.store) as database, database.cursor() as cursor:
        cursor.execute("select name, version from model_versions")
        assert cursor.fetchall() == [(NAME, 1)]
        cursor.execute("select key from params where key like 'entry.%'")
        assert cursor.fetchall() == [("entry.000001",)]


def test_another_machine_sees_the_champion_and_all_that_it_is_made_of(
    there: Project, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = json.loads(there.call("ecgbeats", "status", RECIPE, "--json", check=True).stdout)
    assert (told["champion"]["version"], told["apart"]) == (1, [])
    assert told["champion"]["bento_here"] is False
    monkeypatch.setenv("MLFLOW_TRACKING_URI", servers.mlflow)
    monkeypatch.setenv("BENTOML_HOME", str(there.root / ".bentoml"))
    links = {link.what: link.state for link in lineage(there.root, f"{NAME}@champion")}
    assert links.pop("bento") == "not here"
    # Files of the stages came by `dvc pull`, those of the model from the MLflow server.
    assert set(links.values()) == {"verified"} and {"raw data", "weights", "version"} <= set(links)


def test_another_machine_serves_the_champion(there: Project) -> None:
    port = free_port()
    process = subprocess.Popen(
        ["ecgbeats", "serve", RECIPE, "--port", str(port)],
        cwd=there.root,
        env={**there.env, "ECGBEATS_WORKERS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=(there.root / "served").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 300
        while not healthy(f"http://127.0.0.1:{port}/readyz"):
            said = (there.root / "served").read_text()
            assert process.poll() is None and time.monotonic() < end, said
            time.sleep(0.5)
        with requests.Session() as session:
            session.trust_env = False
            about = session.get(f"http://127.0.0.1:{port}/model", timeout=30).json()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
    told = json.loads(there.call("ecgbeats", "status", RECIPE, "--json", check=True).stdout)
    # Built here by the registry, it is the one that was built there: its tag is a hash.
    assert f"{told['champion']['bento']}: answers as offline" in (there.root / "served").read_text()
    assert told["champion"]["bento_here"] is True
    assert (about["name"], about["recipe"]) == (NAME, RECIPE)


@pytest.fixture
def machines(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Registry, Registry]:
    """Two that share a database, with a champion and two versions that may follow it.

    Without a server between, which might put them in a line.
    """
    import psycopg2

    database = psycopg2.connect(store)
    database.autocommit = True
    with database.cursor() as cursor:
        cursor.execute("create database another")
    database.close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{store.rpartition('/')[0]}/another")
    monkeypatch.chdir(tmp_path)
    for name, stand_in in obedient_gate().items():
        monkeypatch.setattr(promotion, name, stand_in)
    files = write_evidence(tmp_path / "evidence")
    ada, bob = Registry(tmp_path / "ada", files), Registry(tmp_path / "bob", files)
    ada.take_in("c1")
    assert [registered(files, content).version for content in ("c2", "c3")] == [2, 3]
    return ada, bob


def at_once(*deeds: Callable[[], object]) -> list[Exception | None]:
    """What each of them, done in a thread of its own, was refused with."""
    with ThreadPoolExecutor(len(deeds)) as pool:
        done = [pool.submit(deed) for deed in deeds]
    return [each.exception() for each in done]  # type: ignore[misc]


def test_of_two_machines_that_promote_at_once_postgresql_lets_one(
    machines: tuple[Registry, Registry],
) -> None:
    start = threading.Barrier(2, timeout=120)

    def together(words: str) -> None:
        if words.startswith("deciding"):
            start.wait()

    ada, bob = machines
    before = ledger.read(NAME).entries
    refused = at_once(
        lambda: ada.promote(version=2, by="Ada", tell=together),
        lambda: bob.promote(version=3, by="Bob", tell=together),
    )
    (late,) = [error for error in refused if error is not None]
    assert isinstance(late, ServiceError) and "the registry has changed meanwhile" in str(late)
    log = ledger.settle(NAME)
    assert log.entries[:-1] == before and log.last is not None
    winner = 3 if refused[0] else 2
    assert log.holder("champion") == log.last.version == winner

    def enter(log: ledger.Ledger, by: str) -> None:
        entry = next_entry(log.entries, "package", winner, by=by, reason="", bento=by)
        start.wait()
        ledger.append(log, entry)

    for _ in range(10):
        log = ledger.settle(NAME)
        refused = at_once(partial(enter, log, "Ada"), partial(enter, log, "Bob"))
        assert sorted(type(each).__name__ for each in refused) == ["NoneType", "ServiceError"]
        last = ledger.settle(NAME).last
        assert last is not None and last.by == ("Bob" if refused[0] else "Ada")
