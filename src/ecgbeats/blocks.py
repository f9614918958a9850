"""Tables that grow record by record and are never whole in memory: Parquet, a block at a time."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

# A block's rows, at least: below, Parquet's own overhead counts. MIT-BIH is one block.
_ROWS = 1 << 17


class BlockWriter:
    """Writes a Parquet file of small tables that come one after the other.

    What `DataFrame.to_parquet` would write of all of them, but for the number of row groups.

    Parameters
    ----------
    file : Path or writable file
    example : DataFrame
        A row or more with the columns and types of every table, none of them null.
    """

    def __init__(self, file: Path | IO[bytes], example: pd.DataFrame) -> None:
        self._schema = pa.Table.from_pandas(example, preserve_index=False).schema
        self._writer = pq.ParquetWriter(file, self._schema)
        self._waiting: list[pa.Table] = []
        self._in_waiting = 0
        self.rows = 0

    def __enter__(self) -> BlockWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._give_up()
            return
        try:
            self._flush()
        except BaseException:
            self._give_up()
            raise
        self._writer.close()

    def _give_up(self) -> None:
        # On a full disk the footer fails as well: what went wrong first is what is told.
        with suppress(OSError, pa.ArrowException):
            self._writer.close()

    def append(self, table: pd.DataFrame) -> None:
        """Add the rows of `table`."""
        arrow = pa.Table.from_pandas(table, schema=self._schema, preserve_index=False)
        # Of a column that is all null here, pandas would note that its type is not known.
        self._waiting.append(arrow.replace_schema_metadata(self._schema.metadata))
        self._in_waiting += len(table)
        self.rows += len(table)
        if self._in_waiting >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._in_waiting:
            # In one piece, as pandas writes it: pages end where pieces do.
            block = pa.concat_tables(self._waiting).combine_chunks()
            self._writer.write_table(block, row_group_size=len(block))
        self._waiting, self._in_waiting = [], 0


class Blocks:
    """A table that `BlockWriter` wrote, gone through block by block.

    Parameters
    ----------
    file : readable file
        Closed with this, so that a temporary one is gone then.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = pq.ParquetFile(file)
        weakref.finalize(self, file.close)

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def __iter__(self) -> Iterator[pd.DataFrame]:
        """The blocks in order; of a table without rows, one without rows."""
        if not len(self):
            yield self._file.schema_arrow.empty_table().to_pandas()
        for i in range(self._file.num_row_groups):
            yield self._file.read_row_group(i).to_pandas()
