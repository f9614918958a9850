"""A Dask cluster that loses a worker or its connection in the midst of a stage: real processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ecgbeats import cluster
from ecgbeats.files import sha256_tree
from pipelines.cli import main
from tests.pipeline.test_cluster import _in_a_folder_of_its_own, tiny
from tests.support import cluster_work as work
from tests.support.dask_processes import DaskProcesses
from tests.support.fault_report import Tried
from tests.support.projects import RECIPE
from tests.support.tcp_faults import Wire

__all__ = ["_in_a_folder_of_its_own", "tiny"]

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where workers are told what to do at a record, and tell that they came to it."""
    return tmp_path_factory.mktemp("orders")


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory, orders: Path) -> Iterator[DaskProcesses]:
    env = {work.ORDERS: str(orders)}
    with DaskProcesses(tmp_path_factory.mktemp("dask"), env) as started:
        started.add_workers("--nworkers", "2", "--nthreads", "1", "--preload", work.__name__)
        yield started


@pytest.fixture(autouse=True)
def _no_orders(orders: Path) -> Iterator[None]:
    yield
    for file in orders.iterdir():
        file.unlink()


def render(tiny: Path, address: str) -> Result:
    words = ["stage", "render", RECIPE, "--params", str(tiny / "params.yaml"), "--dask", address]
    return CliRunner().invoke(main, [*words, "--raw", str(tiny / "raw"), "--out", "images"])


def test_a_worker_that_is_killed_while_it_draws_costs_no_byte(
    workers: DaskProcesses, tiny: Path, orders: Path, tried: Tried
) -> None:
    (orders / "die").touch()
    with tried("cluster: worker killed"):
        done = render(tiny, workers.address)
        assert done.exit_code == 0, done.output
        # With half of that record's images written.
        assert (orders / "met").exists()
        assert sha256_tree(Path("images")) == sha256_tree(tiny / "images")


@pytest.mark.faults
@pytest.mark.parametrize("how", ["reset", "hang"])
def test_a_connection_that_ends_while_it_draws_is_an_error_in_one_line(
    how: str,
    workers: DaskProcesses,
    tiny: Path,
    orders: Path,
    tried: Tried,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "_TICK_S", 0.3)
    (orders / "wait").touch()
    with tried(f"cluster: connection {how}"), Wire(workers.address) as wire:

        def break_off() -> None:
            until = time.monotonic() + 120
            while not (orders / "met").exists() and time.monotonic() < until:
                time.sleep(0.05)
            getattr(wire, how)()

        breaks = threading.Thread(target=break_off)
        breaks.start()
        done = render(tiny, wire.address)
        breaks.join()
        assert (orders / "met").exists()
        assert done.exit_code == 2, done.output
        said = done.output.splitlines()[-1]
        assert said.startswith(f"ServiceError: dask {wire.address}: the scheduler does not answer")
        assert "Traceback" not in done.output
        # Nothing half-made, under its name or beside it.
        assert not list(Path().iterdir())
        (orders / "go").touch()
        done = render(tiny, workers.address)
        assert done.exit_code == 0, done.output
        assert sha256_tree(Path("images")) == sha256_tree(tiny / "images")
