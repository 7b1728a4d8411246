"""One Parquet file per video: a line per row with its times, a fixed-size list per tap.

Lists are flat; the shape of a row with more axes is in the metadata key `tubelet`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tubelet.store.formats.rows import PIECE_BYTES, Rows

SUFFIX = ".parquet"
TOGETHER = True
KEY = b"tubelet"


def write(
    file: IO[bytes], arrays: Mapping[str, Rows], times: Mapping[str, NDArray[np.float64]]
) -> None:
    """A row group per piece."""
    widths = {name: int(np.prod(rows.shape[1:])) for name, rows in arrays.items()}
    shapes = {name: list(rows.shape[1:]) for name, rows in arrays.items()}
    fields = [pa.field(name, pa.float64()) for name in times]
    fields += [
        pa.field(name, pa.list_(pa.from_numpy_dtype(rows.dtype), widths[name]))
        for name, rows in arrays.items()
    ]
    schema = pa.schema(fields, metadata={KEY: json.dumps(shapes).encode()})
    row_bytes = sum(widths[name] * rows.dtype.itemsize for name, rows in arrays.items())
    step = max(1, PIECE_BYTES // max(1, row_bytes))
    first = next(iter(arrays.values()))
    with pq.ParquetWriter(file, schema, use_dictionary=False) as writer:
        for start, stop in first.spans(step):
            columns: list[Any] = [pa.array(v[start:stop], pa.float64()) for v in times.values()]
            for name, rows in arrays.items():
                flat = pa.array(rows.read(start, stop).reshape(-1))
                columns.append(pa.FixedSizeListArray.from_arrays(flat, widths[name]))
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def read(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays by name, with their shapes."""
    table = pq.read_table(path)
    shapes = json.loads(table.schema.metadata[KEY])
    arrays: dict[str, NDArray[Any]] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name in shapes:
            dtype = column.type.value_type.to_pandas_dtype()
            flat = np.asarray(column.flatten(), dtype)
            arrays[name] = flat.reshape(len(column), *shapes[name])
        else:
            arrays[name] = np.asarray(column)
    return arrays
