"""MLflow, Prefect and DVC's remote slow, refusing, failing or dying half-way: real servers."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecgbeats.errors import ServiceError
from pipelines import ledger, promotion
from tests.pipeline.conftest import prefect_api
from tests.support.fault_report import Tried
from tests.support.projects import without_their_settings
from tests.support.promoting import NAME, Registry, obedient_gate, write_evidence
from tests.support.servers import mlflow_server
from tests.support.tcp_faults import FaultyProxy, Mode

__all__ = ["prefect_api"]

pytestmark = [pytest.mark.pipeline, pytest.mark.faults, pytest.mark.timeout(1800)]

ALL: tuple[Mode, ...] = ("refuse", "reset", "500", "503", "half", "slow", "hang")
# A client's patience with a server that hangs.
_PATIENCE_S = 2


@pytest.fixture(scope="module", autouse=True)
def impatient() -> Iterator[None]:
    """Clients that give up soon: how long they try is their own setting, and not ours to test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        patch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        patch.setenv("MLFLOW_TRACKING_URI", "set by each test")
        patch.setenv("PREFECT_CLIENT_MAX_RETRIES", "1")
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "127.0.0.1")
        for name, stand_in in obedient_gate().items():
            patch.setattr(promotion, name, stand_in)
        yield


@pytest.fixture(scope="module")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("server")
    with mlflow_server(f"sqlite:///{root / 'mlflow.db'}", str(root / "artifacts"), root) as url:
        yield url


@pytest.fixture(scope="module")
def registry(mlflow_url: str, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Version 1 is champion, version 2 challenger; on the server."""
    root = tmp_path_factory.mktemp("registry")
    made = Registry(root, write_evidence(root / "evidence"))
    os.environ["MLFLOW_TRACKING_URI"] = mlflow_url
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        made.take_in("c1")
        made.take_in("c2")
    return made


@contextmanager
def through(url: str) -> Iterator[None]:
    before = os.environ["MLFLOW_TRACKING_URI"]
    os.environ["MLFLOW_TRACKING_URI"] = url
    try:
        yield
    finally:
        os.environ["MLFLOW_TRACKING_URI"] = before


def promote_through_faults(
    registry: Registry, url: str, mode: Mode, chance: random.Random, tried: Tried
) -> bool:
    """A promotion that meets `mode` at some request: nothing has changed, or all of it has.

    Returns whether it was met at all, for a promotion may be done before that request.
    """
    champion = ledger.settle(NAME).holder("champion")
    other = 3 - (champion or 0)
    with FaultyProxy(url) as proxy, tried(f"service: MLflow {mode}") as fault:
        before = registry.state()
        after = chance.randrange(40)
        proxy.fail(mode, after)
        done = False
        with through(proxy.url):
            try:
                registry.promote(version=other)
                done = True
            except ServiceError as error:
                assert error.exit_code == 2 and "MLflow" in str(error)
        print(f"{mode} after {after} requests: {'done' if done else 'ServiceError'}")
        fault.met = bool(proxy.met)
        assert done or fault.met
        now = registry.state()
        decided = len(now["log"]) > len(before["log"])
        if not decided:
            assert not done and {**now, "bentos": 0} == {**before, "bentos": 0}
        # What the next command finds: whole, old or new; and then what was asked for.
        log = ledger.settle(NAME)
        assert log.holder("champion") == (other if decided else champion)
        registry.promote(version=other)
        log = ledger.settle(NAME)
        assert log.holder("champion") == other and not ledger.differences(NAME, log)
        assert len(log.entries) == len(before["log"]) + 1
    return fault.met


@pytest.mark.parametrize("mode", ALL)
def test_mlflow_that_fails_at_any_request_loses_no_champion(
    mode: Mode,
    registry: Registry,
    mlflow_url: str,
    seed: int,
    often: int,
    tried: Tried,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(registry.root)
    if mode == "hang":
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(_PATIENCE_S))
    chance = random.Random(f"{seed} {mode} often")
    met = [promote_through_faults(registry, mlflow_url, mode, chance, tried) for _ in range(often)]
    assert any(met), "no request met the fault"


def empty_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flow without work: three tasks that the server is told of."""
    from pipelines import retrain

    stages = [SimpleNamespace(address=f"stage{k}@tiny", name=f"stage{k}") for k in range(3)]
    dag = SimpleNamespace(plan=lambda recipe: stages, unchanged=lambda stage: True)
    monkeypatch.setattr(retrain, "_open", lambda root, recipe: (None, dag))
    monkeypatch.setattr(retrain, "report_folder", lambda *_: Path("gate"))
    for step in ("_judge", "_register", "_package", "_release", "enforce", "Project"):
        monkeypatch.setattr(retrain, step, lambda *_: None)


@pytest.mark.parametrize("mode", ALL)
def test_prefects_server_that_fails_is_an_error_in_words(
    mode: Mode,
    prefect_api: str,
    tmp_path: Path,
    seed: int,
    tried: Tried,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from prefect.settings import (
        PREFECT_API_REQUEST_TIMEOUT,
        PREFECT_API_URL,
        PREFECT_CLIENT_MAX_RETRIES,
        temporary_settings,
    )

    from pipelines.retrain import retrain

    empty_flow(monkeypatch)
    monkeypatch.chdir(tmp_path)
    chance = random.Random(f"{seed} {mode}")
    for after in (0, chance.randrange(2, 12)):
        with FaultyProxy(prefect_api) as proxy, tried(f"service: Prefect {mode}") as fault:
            proxy.fail(mode, after)
            settings: dict[Any, Any] = {
                PREFECT_API_URL: proxy.url,
                PREFECT_CLIENT_MAX_RETRIES: 1,
            }
            if mode == "hang":
                settings[PREFECT_API_REQUEST_TIMEOUT] = float(_PATIENCE_S)
            with temporary_settings(settings):
                run = retrain(tmp_path, "tiny")
                print(f"{mode} after {after} requests: {run.error}")
                assert run.error is None or isinstance(run.error, ServiceError)
                fault.met = bool(proxy.met)
                assert run.error is None or fault.met
                proxy.fail("whole")
                again = retrain(tmp_path, "tiny")
            assert again.error is None


@dataclass(frozen=True)
class Remote:
    """Four files under DVC, pushed through a proxy to a server that speaks S3."""

    root: Path
    env: dict[str, str]
    proxy: FaultyProxy

    def dvc(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["dvc", *words],
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=300,
        )

    @property
    def cache(self) -> Path:
        return self.root / ".dvc/cache/files/md5"

    def wrong_in_cache(self) -> list[str]:
        """Files of the cache whose content is not what their name says."""
        found = []
        for path in (path for path in self.cache.rglob("*") if path.is_file()):
            name = (path.parent.name + path.name).removesuffix(".dir")
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            # What is on its way has another name.
            if len(name) == 32 and digest != name:
                found.append(name)
        return found


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    import boto3
    from moto.server import ThreadedMotoServer

    keys = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "something"}
    env = without_their_settings(os.environ) | keys
    env |= {"DVC_NO_ANALYTICS": "1", "AWS_MAX_ATTEMPTS": "1", "NO_PROXY": "127.0.0.1"}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    root = tmp_path_factory.mktemp("remote") / "project"
    (root / "data").mkdir(parents=True)
    for k in range(4):
        (root / "data" / f"r{k}.dat").write_bytes(random.Random(k).randbytes(200_000))
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        lower = {key.lower(): value for key, value in keys.items()}
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **lower)
        client.create_bucket(Bucket="faults")
        with FaultyProxy(url) as proxy:
            made = Remote(root, env, proxy)
            for words in (
                ("init", "-q", "--no-scm"),
                ("remote", "add", "--default", "storage", "s3://faults/dvc"),
                ("remote", "modify", "storage", "endpointurl", proxy.url),
                ("remote", "modify", "storage", "read_timeout", str(_PATIENCE_S)),
                ("add", "-q", "data"),
                ("push",),
            ):
                done = made.dvc(*words)
                assert done.returncode == 0, done.stderr
            yield made
    finally:
        server.stop()


def is_of_data(request: str) -> bool:
    """Whether it gets a file of the data, not the list of them."""
    return re.fullmatch(r"GET /faults/dvc/files/md5/../\w{30}", request) is not None


def anything(request: str) -> bool:
    return True


# At the first request; at the list of files; in the midst of files, when one has come.
@pytest.mark.parametrize(
    ("mode", "after", "where"),
    [
        ("refuse", 0, anything),
        ("503", 1, anything),
        ("reset", 1, is_of_data),
        ("half", 1, is_of_data),
        ("hang", 1, is_of_data),
        ("slow", 0, anything),
    ],
    ids=["refuse", "503", "reset", "half", "hang", "slow"],
)
def test_a_remote_that_fails_leaves_no_half_file_and_is_asked_again(
    mode: Mode, after: int, where: Callable[[str], bool], remote: Remote, tried: Tried
) -> None:
    data = remote.root / "data"
    right = {path.name: path.read_bytes() for path in data.iterdir()}
    with tried(f"service: DVC's remote {mode}"):
        shutil.rmtree(data)
        shutil.rmtree(remote.cache)
        remote.proxy.fail(mode, after, where)
        pulled = remote.dvc("pull")
        proxy = remote.proxy
        print(f"{mode}: {pulled.returncode} {proxy.requests} {proxy.met} {pulled.stderr}")
        assert proxy.met and "Traceback" not in pulled.stderr
        assert (pulled.returncode == 0) == (mode == "slow"), pulled.stderr
        if where is is_of_data:
            assert any(request.endswith(".dir") for request in proxy.requests)
            assert all(is_of_data(request) for request in proxy.met)
        assert remote.wrong_in_cache() == []
        here = data.rglob("*") if data.exists() else []
        assert not [path for path in here if path.read_bytes() != right.get(path.name)]
        remote.proxy.fail("whole")
        again = remote.dvc("pull")
        assert again.returncode == 0, again.stderr
        assert {path.name: path.read_bytes() for path in data.iterdir()} == right
