"""A whole set in one file: HDF5, Parquet, safetensors. Each video is read when it is written."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tubelet.errors import StoreError, UsageError
from tubelet.types import Features

TIMES = ("start_s", "end_s", "center_s")
SAFETENSORS_DTYPES = {"float32": "F32", "float16": "F16"}


@dataclass(frozen=True)
class Videos:
    """What is packed. rows: id -> the array to store; features: id -> everything known of it."""

    ids: tuple[str, ...]
    rows: Callable[[str], NDArray[Any]]
    features: Callable[[str], Features]
    prefix: str = ""

    def name(self, identity: str) -> str:
        """The id with the prefix before its last part."""
        folder, slash, last = identity.rpartition("/")
        return f"{folder}{slash}{self.prefix}{last}"


def check_names(videos: Videos, layout: str) -> None:
    """UsageError for a name that is not UTF-8, as names inside of these files must be."""
    for identity in videos.ids:
        try:
            videos.name(identity).encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"id {identity!r} is not UTF-8, as names in {layout} must be; choose a layout of "
                "a file per video, or rename the video"
            ) from error


def hdf5(path: Path, videos: Videos, facts: dict[str, str]) -> None:
    """A dataset [N, D] per id; its row times are the datasets times/<id>/start_s and so on."""
    try:
        import h5py
    except ImportError as error:
        raise UsageError("layout hdf5 needs h5py: pip install h5py") from error
    names = {videos.name(identity) for identity in videos.ids}
    for name in names:
        above = {str(folder) for folder in PurePosixPath(name).parents}
        if name.split("/")[0] == "times" or above & names:
            raise UsageError(
                f"id {name!r}: HDF5 cannot hold it beside `times` or a dataset of that name; "
                "choose another layout, or --prefix"
            )
    with h5py.File(path, "w") as file:
        file.attrs.update(facts)
        for identity in videos.ids:
            name = videos.name(identity)
            file.create_dataset(name, data=videos.rows(identity))
            features = videos.features(identity)
            for key in TIMES:
                file.create_dataset(f"times/{name}/{key}", data=getattr(features, key))


def parquet(path: Path, videos: Videos, facts: dict[str, str]) -> None:
    """A row per window: id, row, start_s, end_s, center_s, feature (a list of fixed length)."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError("layout parquet needs pyarrow: pip install pyarrow") from error
    writer: Any = None
    try:
        for identity in videos.ids:
            values, features = videos.rows(identity), videos.features(identity)
            times = {key: getattr(features, key) for key in TIMES}
            repeat = len(values) // max(len(features.values), 1)
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            columns = {
                "id": pa.array([videos.name(identity)] * len(values), pa.string()),
                "row": pa.array(np.arange(len(values))),
                **{key: pa.array(np.repeat(v, repeat)) for key, v in times.items()},
                "feature": pa.FixedSizeListArray.from_arrays(flat, values.shape[1]),
            }
            table = pa.table(columns).replace_schema_metadata(facts)
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema)
            if table.schema != writer.schema:
                raise StoreError(f"{identity}: {values.shape[1]} columns, unlike the others")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def safetensors(path: Path, videos: Videos, facts: dict[str, str]) -> None:
    """A tensor [N, D] per id, and its times [N, 3] (start, end, centre) as `<id>/times_s`.

    The file is a length, a JSON header with the place of every tensor, and the bytes; written one
    video after the other, so memory does not grow with the set.
    """
    header: dict[str, Any] = {"__metadata__": facts}
    place = 0
    for identity in videos.ids:
        values = videos.rows(identity)
        name = videos.name(identity)
        pieces = [
            (name, SAFETENSORS_DTYPES[str(values.dtype)], values.shape, values.nbytes),
            (f"{name}/times_s", "F64", *_times_shape(videos.features(identity))),
        ]
        for key, dtype, shape, size in pieces:
            offsets = [place, place + size]
            header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
            place += size
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "xb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for identity in videos.ids:
            features = videos.features(identity)
            file.write(np.ascontiguousarray(videos.rows(identity)).tobytes())
            file.write(np.stack([getattr(features, key) for key in TIMES], axis=1).tobytes())


def _times_shape(features: Features) -> tuple[tuple[int, int], int]:
    n = len(features.start_s)
    return (n, 3), n * 3 * 8
