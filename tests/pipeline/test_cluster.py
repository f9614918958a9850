"""Maps and jobs on a Dask cluster of real processes: the same results, nothing lost, no hanging."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

import dask
import distributed
import psutil
import pytest
import yaml
from click.testing import CliRunner

from ecgbeats import cluster
from ecgbeats.cluster import on_cluster
from ecgbeats.config import ModelParams, TrainParams
from ecgbeats.crossval import Crossval, run_part
from ecgbeats.errors import ConfigError, ContractError, ServiceError
from ecgbeats.files import sha256_tree
from ecgbeats.folds import make_folds
from ecgbeats.imaging.store import BeatImages
from ecgbeats.parallel import parallel_map, slots
from ecgbeats.processes import Processes, each_in_a_process
from pipelines.cli import main
from tests.support import cluster_work as work
from tests.support.dask_processes import HERE, DaskProcesses
from tests.support.products import threads_of_products
from tests.support.projects import RECIPE, tiny_params

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    with DaskProcesses(tmp_path_factory.mktemp("dask")) as started:
        started.add_workers("--nworkers", "2", "--nthreads", "1")
        yield started


@pytest.fixture
def no_workers(tmp_path: Path) -> Iterator[DaskProcesses]:
    (tmp_path / "dask").mkdir()
    with DaskProcesses(tmp_path / "dask") as started:
        yield started


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    with dask.config.set({"distributed.comm.timeouts.connect": "3s"}):
        yield
    assert not list(Path().glob(".ecgbeats-dask.*"))


def stage(*words: str) -> str:
    """Run a stage's command; what it said."""
    done = CliRunner().invoke(main, ["stage", *words])
    assert done.exit_code == 0, done.output
    assert cluster.current() is None
    return done.output


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records and images of the tiny project, made on this machine."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "params.yaml").write_text(yaml.safe_dump(tiny_params()))
    params = ("--params", str(folder / "params.yaml"))
    stage("fetch", "small", *params, "--out", str(folder / "raw"))
    raw = ("--raw", str(folder / "raw"))
    stage("render", RECIPE, *params, *raw, "--out", str(folder / "images"))
    return folder


def test_stages_on_a_cluster_give_the_same_files_as_here(
    two_workers: DaskProcesses, tiny: Path
) -> None:
    params = ("--params", str(tiny / "params.yaml"), "--dask", two_workers.address)
    # Relative paths: workers go where the command was given.
    said = stage("fetch", "small", *params, "--out", "raw")
    stage("render", RECIPE, *params, "--raw", "raw", "--out", "images")
    assert "sample: 12/12" in said
    assert sha256_tree(Path("raw")) == sha256_tree(tiny / "raw")
    assert sha256_tree(Path("images")) == sha256_tree(tiny / "images")
    raw = ("--raw", str(tiny / "raw"))
    for words, name in ((params[:2], "here"), (params, "there")):
        stage("validate", RECIPE, *words, *raw, "--out", name, "--docs", f"docs-{name}")
    # Beside the Data Docs, which have the time in them.
    assert sha256_tree(Path("here")) == sha256_tree(Path("there"))


def test_a_fold_on_a_cluster_gives_the_same_network_as_here(
    two_workers: DaskProcesses, tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from ecgbeats.config import read_params

    params = read_params(tiny / "params.yaml")
    protocol = params.protocol_of(RECIPE)
    images = BeatImages.open(tiny / "images")

    def plan(folder: Path) -> Crossval:
        return Crossval(
            images=images.folder,
            folds=make_folds(images.beats, protocol.labels, protocol, folds=2),
            classes=protocol.labels.names,
            headline=("N", "V"),
            model=ModelParams(name="compact", options={"filters": [4, 8], "dense": 8}),
            train=TrainParams(seed=9, epochs=1, batch=32, learning_rate=0.01, patience=1),
            seeds=(1,),
            folder=folder.absolute(),
        )

    here, there = plan(Path("here")), plan(Path("there"))
    (part, *_) = here.parts()
    with Processes[str](2, threads=1) as processes:
        processes.start(part.name, part.name, partial(run_part, here), part)
        processes.next()
    with on_cluster(two_workers.address):
        assert slots() == 2
        job = partial(run_part, there)
        list(each_in_a_process(job, [part], jobs=1, name=lambda part: part.name))
    for name in ("model/model.onnx", "model/model.keras", "predictions.parquet"):
        one, other = here.folder / part.name / name, there.folder / part.name / name
        assert one.read_bytes() == other.read_bytes()
    # From here and from there, in the same words.
    said = capfd.readouterr().err
    assert said.count(f"{part.name}: train: select, epoch 1/1") == 2


def test_products_take_one_thread_on_workers(two_workers: DaskProcesses) -> None:
    with on_cluster(two_workers.address):
        assert parallel_map(threads_of_products, range(3), job="multiply") == [1, 1, 1]
        # In a process of their own they are told before they start.
        jobs = each_in_a_process(work.says_threads, [1, 2], jobs=2)
        assert dict(jobs) == {1: 1, 2: 1}


def test_a_worker_that_is_killed_loses_nothing(two_workers: DaskProcesses, tmp_path: Path) -> None:
    with on_cluster(two_workers.address):
        done = parallel_map(partial(work.killed_at_three, tmp_path), range(8), job="square")
    assert (tmp_path / "killed").exists()
    assert done == [n * n for n in range(8)]
    assert (tmp_path / "3.txt").read_text() == "9"


def test_work_that_kills_each_worker_is_given_up(two_workers: DaskProcesses) -> None:
    with (
        on_cluster(two_workers.address),
        pytest.raises(ServiceError, match=r"7: every worker that had it died.*memory"),
    ):
        parallel_map(work.always_killed, [7], job="kill")


def test_an_error_on_a_worker_comes_as_it_is(two_workers: DaskProcesses) -> None:
    with on_cluster(two_workers.address), pytest.raises(KeyError, match="item 2"):
        parallel_map(work.refuses, [2], job="refuse")


def test_a_worker_of_other_code_is_refused(two_workers: DaskProcesses) -> None:
    with (
        patch.object(cluster, "code_version", lambda: "another"),
        on_cluster(two_workers.address),
        pytest.raises(ContractError, match=r"worker tcp.*expected ecgbeats another, got [0-9a-f]"),
    ):
        parallel_map(work.refuses, [1], job="refuse")


def test_a_worker_that_does_not_share_the_folder_is_refused(
    two_workers: DaskProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_SEEN_S", 0.5)
    job = partial(work.square_into, tmp_path)
    # As on a machine that has such a folder, and it is another one.
    with on_cluster(two_workers.address) as asked:
        asked.connect()
        for file in Path().glob(".ecgbeats-dask.*/*"):
            file.unlink()
        with pytest.raises(ServiceError, match=r"does not see .*here.*file system"):
            parallel_map(job, [1], job="square")
    # As where what it writes stays with it.
    with on_cluster(two_workers.address) as asked:
        seen = asked.witness
        monkeypatch.setattr(asked, "witness", lambda _: seen("elsewhere"))
        with pytest.raises(ServiceError, match=r"elsewhere writes to .*is not seen here"):
            parallel_map(job, [2], job="square")


def test_a_killed_client_ends_the_jobs_that_it_started(
    two_workers: DaskProcesses, tmp_path: Path
) -> None:
    script = (
        "import sys; from functools import partial; from pathlib import Path\n"
        "from ecgbeats.cluster import on_cluster\n"
        "from ecgbeats.processes import each_in_a_process\n"
        "from tests.support.cluster_work import long_job\n"
        "with on_cluster(sys.argv[1]):\n"
        "    list(each_in_a_process(partial(long_job, Path(sys.argv[2])), [1], jobs=1))\n"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", script, two_workers.address, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    until = time.monotonic() + 60
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < until and client.poll() is None
        time.sleep(0.05)
    job = psutil.Process(int((tmp_path / "pid").read_text()))
    client.kill()
    client.wait()
    job.wait(30)
    # What a killed client left is put away by the next.
    assert list(Path().glob(".ecgbeats-dask.*"))
    with on_cluster(two_workers.address) as asked:
        asked.connect()


def test_an_address_at_which_nothing_answers_is_an_error_in_time() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{deaf.getsockname()[1]}"
        words = rf"dask {address}: no scheduler answers"
        # Refusing, then accepting and silent.
        for _ in range(2):
            with on_cluster(address), pytest.raises(ServiceError, match=words):
                parallel_map(work.refuses, [1], job="refuse")
            deaf.listen()
    # And by the environment, as stages are told that a flow starts.
    Path("params.yaml").write_text(yaml.safe_dump(tiny_params()))
    command = ["stage", "fetch", "small", "--out", "raw"]
    done = CliRunner().invoke(main, command, env={"DASK_SCHEDULER_ADDRESS": address})
    assert (done.exit_code, Path("raw").exists()) == (2, False)
    assert f"ServiceError: dask {address}: no scheduler answers" in done.output


@pytest.mark.parametrize(
    ("address", "why"),
    [("foo://bar", "unknown address scheme 'foo'"), ("tcp://bar:port", "'port'"), ("bar", "port")],
)
def test_what_is_no_address_is_refused_before_there_is_a_client(
    address: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "Client", None)
    words = f"dask {address}: expected a scheduler's address.*{why}"
    with on_cluster(address) as asked, pytest.raises(ConfigError, match=words):
        asked.connect()


def test_a_cluster_without_workers_is_an_error_in_time(
    no_workers: DaskProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_TICK_S", 0.3)
    words = rf"{no_workers.address}: the scheduler has had no worker for 1 s"
    with (
        on_cluster(no_workers.address, without_workers_s=1),
        pytest.raises(ServiceError, match=words),
    ):
        parallel_map(work.refuses, [1], job="refuse")
    # A worker whose threads would share limits and working directory.
    no_workers.add_workers("--nthreads", "2", "--no-nanny")
    with on_cluster(no_workers.address), pytest.raises(ServiceError, match=r"one thread.*got 2"):
        parallel_map(work.refuses, [1], job="refuse")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_a_scheduler_that_goes_half_way_is_an_error_in_time(
    no_workers: DaskProcesses, how: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_TICK_S", 0.3)
    end = threading.Timer(1.0, no_workers.scheduler.send_signal, [how])
    words = rf"dask {no_workers.address}: the scheduler does not answer any more"
    with on_cluster(no_workers.address) as asked, pytest.raises(ServiceError, match=words):
        asked.connect()
        end.start()
        parallel_map(work.refuses, [1], job="refuse")
