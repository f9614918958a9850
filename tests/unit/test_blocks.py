"""Tables that grow record by record: what is in the file, and that little of it is in memory."""

from __future__ import annotations

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
