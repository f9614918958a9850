"""Tables that grow record by record: what is in the file, and that little of it is in memory."""

from __future__ import annotations

import errno
import io
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgbeats import blocks
from ecgbeats.blocks import Blocks, BlockWriter

pytestmark = pytest.mark.unit


def part(record: str, beats: int) -> pd.DataFrame:
    # Of the first record no window has a hash.
    hashes = [None if record == "a" else f"{record}{i}" for i in range(beats)]
    return pd.DataFrame(
        {
            "record": record,
            "sample": np.arange(beats),
            "time_s": np.arange(beats) / 360,
            "window_sha": pd.Series(np.asarray(hashes, object), dtype=object),
        }
    )


PARTS = [part("a", 3), part("b", 0), part("c", 5), part("d", 4)]
WHOLE = pd.concat([each for each in PARTS if len(each)], ignore_index=True)


def written(path: Path) -> Path:
    with BlockWriter(path, part("x", 1)) as writer:
        for each in PARTS:
            writer.append(each)
    assert writer.rows == len(WHOLE)
    return path


def test_of_one_block_the_file_is_what_pandas_writes(tmp_path: Path) -> None:
    WHOLE.to_parquet(tmp_path / "pandas", index=False)
    assert written(tmp_path / "ours").read_bytes() == (tmp_path / "pandas").read_bytes()


def test_blocks_are_the_rows_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_ROWS", 7)
    WHOLE.to_parquet(tmp_path / "pandas", index=False)
    whole = pd.read_parquet(tmp_path / "pandas")
    path = written(tmp_path / "ours")
    pd.testing.assert_frame_equal(pd.read_parquet(path), whole)
    with path.open("rb") as file:
        found = Blocks(file)
        assert len(found) == len(WHOLE)
        assert [len(each) for each in found] == [8, 4]
        pd.testing.assert_frame_equal(pd.concat(found, ignore_index=True), whole)


def test_a_table_without_rows_has_its_columns_and_its_file_is_closed_with_it() -> None:
    file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by what it is tested for)
    with BlockWriter(file, part("x", 1)):
        pass
    found = Blocks(file)
    (only,) = found
    assert len(found) == len(only) == 0
    assert list(only.columns) == list(WHOLE.columns)
    assert only["time_s"].dtype == float
    del found
    assert file.closed


class FullDisk(io.BytesIO):
    """Room for so many bytes; the error says what was there when each write failed."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.failed = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if self.tell() + memoryview(data).nbytes > self.room:
            self.failed += 1
            raise OSError(errno.ENOSPC, f"full, time {self.failed}")
        return super().write(data)


def test_on_a_full_disk_the_first_error_is_told() -> None:
    file = FullDisk(room=100)
    with (
        pytest.raises(OSError, match="full, time 1"),
        BlockWriter(file, part("x", 1)) as writer,
    ):
        writer.append(part("a", 1000))
    assert file.failed


def test_what_went_wrong_inside_is_told_though_the_footer_fails() -> None:
    file = FullDisk(room=10)
    with pytest.raises(ValueError, match="a record"), BlockWriter(file, part("x", 1)):
        raise ValueError("a record cannot be read")
    assert file.failed


def test_a_footer_that_alone_fails_is_told() -> None:
    file = FullDisk(room=10)
    with pytest.raises(OSError, match="full, time 1"), BlockWriter(file, part("x", 1)):
        pass
