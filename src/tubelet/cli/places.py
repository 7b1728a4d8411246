"""Arguments that are a folder or a file on a disk, or a URL of an object store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tubelet.run.out import Place, place_of
from tubelet.store.remote.objects import object_scheme


class OutPlace(click.ParamType):
    """OUT to write: a `Path`, or an `ObjectFolder`."""

    name = "path"

    def convert(self, value: Any, param: Any, ctx: Any) -> Place:
        return place_of(value)


class Readable(click.ParamType):
    """What is only read: on a store, a copy on this disk that is removed when the verb ends.

    kind: what the verb takes.
    """

    name = "path"

    def __init__(self, kind: type[str] | type[Path] = Path) -> None:
        self._kind = kind

    def convert(self, value: Any, param: Any, ctx: click.Context | None) -> str | Path:
        if not (isinstance(value, str) and object_scheme(value) and ctx is not None):
            return self._kind(value)
        from tubelet.store.remote.fetch_folder import local_copy

        return self._kind(ctx.with_resource(local_copy(value)))


class OnDisk(click.Path):
    """What has to be on a disk."""

    def __init__(self, **choices: Any) -> None:
        super().__init__(path_type=Path, **choices)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, str) and object_scheme(value):
            self.fail(
                f"{value}: this verb needs a folder on a disk; copy it from or to the store with "
                "its own tools (aws s3 sync, gcloud storage rsync, hdfs dfs -get)",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)
