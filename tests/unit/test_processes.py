"""Jobs in processes of their own: results and errors come back, nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ecgbeats.errors import DataError, ServiceError
from ecgbeats.processes import Processes, each_in_a_process

pytestmark = pytest.mark.unit


def square(item: int) -> tuple[int, int, str | None]:
    return item * item, os.getpid(), os.environ.get("TF_NUM_INTRAOP_THREADS")


def fail_or_wait(item: int) -> int:
    if item == 0:
        raise DataError("record 0: expected beats")
    time.sleep(60)
    return item


def kill_itself(item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_itself_while_it_answers(item: int) -> bytes:
    def send_half(connection: Connection, content: bytes) -> None:
        os.write(connection.fileno(), bytes(content)[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    Connection._send = send_half  # type: ignore[attr-defined]
    return bytes(100)


class Odd(Exception):
    """It cannot be made again from what it is pickled to."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def raise_odd(item: int) -> None:
    raise Odd("not", "picklable")


def test_each_job_has_a_process_and_its_share_of_threads() -> None:
    found = dict(each_in_a_process(square, [1, 2, 3], jobs=2))
    assert {item: answer[0] for item, answer in found.items()} == {1: 1, 2: 4, 3: 9}
    processes = {answer[1] for answer in found.values()}
    assert len(processes) == 3 and os.getpid() not in processes
    assert all(int(answer[2] or 0) >= 1 for answer in found.values())


def test_one_job_at_a_time_runs_here() -> None:
    assert [answer[1] for _, answer in each_in_a_process(square, [1, 2], jobs=1)] == [
        os.getpid()
    ] * 2


def test_an_error_comes_as_it_was_and_ends_the_others() -> None:
    began = time.monotonic()
    with pytest.raises(DataError, match="record 0: expected beats"):
        list(each_in_a_process(fail_or_wait, [0, 1], jobs=2))
    assert time.monotonic() - began < 50


@pytest.mark.parametrize("job", [kill_itself, kill_itself_while_it_answers])
def test_a_killed_job_is_an_error_not_a_hang(job: Callable[[int], object]) -> None:
    with pytest.raises(ServiceError, match=r"fold 1: .*code -9"), Processes[int](2) as processes:
        processes.start(1, "fold 1", job, 1)
        processes.next()


def test_an_error_that_cannot_be_sent_is_told_in_words() -> None:
    with pytest.raises(ServiceError, match="Odd: not picklable"), Processes[int](2) as processes:
        processes.start(1, "fold 1", raise_odd, 1)
        processes.next()


def speak(item: int) -> None:
    print(f"epoch {item}", file=sys.stderr)
    os.write(2, b"I0000 00:00:1.0   1 port.cc:1] hello\nfatal: C++ says\n")


def test_what_jobs_say_comes_with_their_names(capfd: pytest.CaptureFixture[str]) -> None:
    list(each_in_a_process(speak, [1, 2], jobs=2, name=lambda item: f"fold-{item}"))
    lines = sorted(capfd.readouterr().err.splitlines())
    assert lines == [
        "fold-1: epoch 1",
        "fold-1: fatal: C++ says",
        "fold-2: epoch 2",
        "fold-2: fatal: C++ says",
    ]


def test_a_job_dies_with_its_parent(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys, time\n"
        "from ecgbeats.processes import Processes\n"
        "def wait(path):\n"
        "    open(path + '.aside', 'w').write(str(os.getpid()))\n"
        "    os.rename(path + '.aside', path)\n"
        "    time.sleep(300)\n"
        "if __name__ == '__main__':\n"
        "    with Processes(2) as processes:\n"
        "        processes.start(1, 'one', wait, sys.argv[1])\n"
        "        processes.next()\n"
    )
    parent = subprocess.Popen([sys.executable, program, tmp_path / "pid"])
    try:
        assert in_time(lambda: (tmp_path / "pid").exists()), "the job never began"
        child = int((tmp_path / "pid").read_text())
        # Without this the test would pass with a job that ends by itself.
        assert alive(child)
    finally:
        parent.kill()
        parent.wait()
    assert in_time(lambda: not alive(child)), "the job outlives its parent"


def alive(process: int) -> bool:
    state = Path(f"/proc/{process}/stat")
    try:
        # A zombie has ended; whoever adopted it has not looked yet.
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def in_time(condition: Callable[[], bool]) -> bool:
    """Whether `condition` holds within a minute."""
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
