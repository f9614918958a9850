import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path

import pytest

from ecgbeats import parallel
from ecgbeats.errors import ServiceError
from ecgbeats.parallel import parallel_map, parallel_results

pytestmark = pytest.mark.unit


def slower_first(item: int) -> tuple[int, int]:
    time.sleep(0.2 if item == 0 else 0)
    return item * item, os.getpid()


def slow_from_two(item: int) -> int:
    # Long enough for five of them to be worth processes.
    time.sleep(1 if item == 2 else 0)
    return os.getpid()


def fails_on_three(item: int) -> int:
    if item == 3:
        raise ValueError("three")
    return item


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(
    workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    results = parallel_map(slower_first, range(6), job="square", workers=workers)
    assert [value for value, _ in results] == [0, 1, 4, 9, 16, 25]
    assert (os.getpid() in {pid for _, pid in results}) == (workers == 1)
    assert "square: 6/6" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [1, 2])
def test_products_take_one_thread_wherever_they_are_made(workers: int) -> None:
    # As the CLI starts processes: from a main module that they do not import, so that NumPy and
    # its BLAS are loaded by the work itself.
    script = (
        "from ecgbeats.parallel import parallel_map\n"
        "def work():\n"
        "    from tests.support.products import threads_of_products\n"
        f"    print(parallel_map(threads_of_products, range(3), job='x', workers={workers}))\n"
        "work()"
    )
    several = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "2")
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **several},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[1, 1, 1]", done.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_raised_as_it_came(workers: int) -> None:
    with pytest.raises(ValueError, match="three"):
        parallel_map(fails_on_three, range(6), job="fail", workers=workers)


def killed_on_three(item: int) -> int:
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_a_killed_process_is_told_in_words() -> None:
    with pytest.raises(ServiceError, match="squares: one of its processes ended without"):
        parallel_map(killed_on_three, range(6), job="squares", workers=2)


def test_no_items_no_results() -> None:
    assert parallel_map(slower_first, [], job="nothing", workers=2) == []


def test_work_that_is_done_at_once_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "workers_here", lambda: 2)
    assert parallel_map(slow_from_two, range(2), job="begin") == [os.getpid()] * 2


def test_work_that_turns_out_long_goes_on_in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "workers_here", lambda: 2)
    pids = parallel_map(slow_from_two, range(8), job="wait")
    assert pids[:3] == [os.getpid()] * 3
    assert len(pids) == 8 and os.getpid() not in pids[3:]


def leaves_a_file(folder: Path, item: int) -> int:
    (folder / str(item)).touch()
    return item


def test_few_results_wait_however_many_items_there_are(tmp_path: Path) -> None:
    results = parallel_results(partial(leaves_a_file, tmp_path), range(200), job="go", workers=2)
    assert next(results) == 0
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) <= 2 * parallel._AHEAD
    assert list(results) == list(range(1, 200))


def takes_a_while(folder: Path, item: int) -> int:
    time.sleep(0.2)
    return leaves_a_file(folder, item)


def test_a_map_that_is_given_up_drops_what_has_not_begun(tmp_path: Path) -> None:
    results = parallel_results(partial(takes_a_while, tmp_path), range(200), job="go", workers=2)
    assert isinstance(results, Generator)
    next(results)
    results.close()
    assert not multiprocessing.active_children()
    # Of those that were submitted: what was done by then, what ran, and what was on its way.
    assert len(list(tmp_path.iterdir())) < 2 * parallel._AHEAD


def test_what_a_consumer_raises_ends_the_map(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk full"):
        for _ in parallel_results(
            partial(takes_a_while, tmp_path), range(200), job="go", workers=2
        ):
            raise OSError("disk full")
    while multiprocessing.active_children():
        time.sleep(0.05)
    assert len(list(tmp_path.iterdir())) < 2 * parallel._AHEAD
