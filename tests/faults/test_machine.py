"""A machine without room, that lets nothing be written, or whose clock jumps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ecgbeats.errors import EcgbeatsError, StorageError
from pipelines.alone import alone
from tests.faults.test_runs import Small
from tests.support.fault_report import Tried

pytestmark = pytest.mark.pipeline

CLOCK = Path(__file__).parents[1] / "support" / "clock.c"


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own in the new folder `folder`."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "faults", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs a user who may mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def ended(small: Small) -> tuple[int, str]:
    with small.start() as process:
        said, _ = process.communicate(timeout=300)
    return process.returncode, said


def test_dvc_without_room_is_mended_by_the_next_run(tmp_path: Path, tried: Tried) -> None:
    with small_disk(tmp_path / "disk", "size=4m") as disk:
        small = Small(disk / "small")
        root = small.root
        status, said = ended(small)
        assert status == 0, said
        before = (root / "dvc.lock").read_text()
        with tried("no room: DVC"):
            # All that is left of the disk goes while the stage runs.
            fill = "import pathlib\nf = open('fill', 'wb', 0)\n"
            fill += "try:\n    while f.write(b'0' * 512): pass\nexcept OSError: pass\n"
            fill += "pathlib.Path('made.txt').write_text('')\n"
            (root / "slow.py").write_text(fill)
            status, said = ended(small)
            assert status != 0 and "No space left on device" in said, said
            (root / "fill").unlink()
            small.write_slow("more")
            status, said = ended(small)
            assert status == 0, said
            assert (root / "copied.txt").read_text() == "more"
            assert len((root / "dvc.lock").read_text()) >= len(before) // 2


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path, tried: Tried) -> None:
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with tried("read-only folder"):
            said = r"disk/.*Read-only file system"
            with pytest.raises(StorageError, match=said) as caught, alone(disk):
                pass
            assert isinstance(caught.value, EcgbeatsError) and caught.value.exit_code == 2


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes a process's clock jump."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    made = tmp_path_factory.mktemp("clock") / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, CLOCK, "-ldl"], check=True)
    return made


@pytest.mark.faults
def test_a_run_does_not_mind_a_clock_that_jumps(tmp_path: Path, clock: Path, tried: Tried) -> None:
    small = Small((tmp_path / "small").resolve())
    jumping = {"LD_PRELOAD": str(clock), "FAULT_CLOCK": "0,86400,-86400", "FAULT_CLOCK_MS": "40"}
    program = "import time; t = [time.time() for _ in range(9) if not time.sleep(0.02)]"
    program += "; print(max(t) - min(t) > 86000)"
    told = subprocess.run(
        [sys.executable, "-c", program], env=small.env | jumping, capture_output=True, text=True
    )
    assert told.stdout.strip() == "True"
    with tried("clock that jumps"):
        quiet = small.env
        small.env = quiet | jumping
        status, said = ended(small)
        assert status == 0, said
        assert (small.root / "copied.txt").read_text() == "made"
        # Afterwards, with the right time again, nothing is left to do and a change is seen.
        small.env = quiet
        status, said = ended(small)
        assert status == 0 and "Running stage" not in said, said
        small.write_slow("more")
        status, said = ended(small)
        assert status == 0 and (small.root / "copied.txt").read_text() == "more", said
