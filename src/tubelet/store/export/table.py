"""A table as one Parquet file: named columns of numbers, texts or lists. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tubelet.errors import UsageError
from tubelet.machine.atomic import atomic_file


def write_table(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Atomic. Raises UsageError without pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError("a Parquet file needs pyarrow: pip install 'tubelet[parquet]'") from error
    with atomic_file(path) as file:
        pq.write_table(pa.table({name: pa.array(list(v)) for name, v in columns.items()}), file)
