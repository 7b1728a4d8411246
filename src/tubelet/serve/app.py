"""The routes. Everything that reads a file or computes runs in a thread of its own."""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import IO, Annotated, Any
from urllib.parse import unquote

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from tubelet.errors import StoreError, TubeletError, UsageError, VideoError
from tubelet.serve.catalog import CatalogEntry, Missing
from tubelet.serve.comparison import compare, map_of, to_csv
from tubelet.serve.guard import Guard
from tubelet.serve.library import NotYet, out_name
from tubelet.serve.ranges import file_response
from tubelet.serve.site import Site, SiteSettings
from tubelet.serve.uploads import Refused, Uploads

PAGE = 100
BODY_BYTES = 8 << 20
"""Of a request that is not an upload."""
TICK_S = 0.15
KEYS = ("name", "duration", "rows")


class Json(JSONResponse):
    """In ASCII: a name that is not UTF-8 (surrogates) has an escape there, and no bytes."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class Selection(BaseModel):
    """Rows to export: [key, row] pairs."""

    rows: list[tuple[str, int]] = Field(max_length=100_000)
    features: bool = False


def create_app(out: str | Path, settings: SiteSettings | None = None) -> FastAPI:
    """The web application of one output folder. UsageError where `out` is none.

    Without a token it must be bound to loopback: see `guard.Policy` and `cli/serve.py`.
    """
    settings = settings or SiteSettings()
    site = Site(Path(out), settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(site.close)

    app = FastAPI(
        title="tubelet",
        lifespan=lifespan,
        default_response_class=Json,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.site = site
    app.add_middleware(Guard, policy=settings.policy)
    _add_errors(app)
    _add_videos(app, site)
    _add_media(app, site)
    _add_questions(app, site)
    _add_uploads(app, site)
    static = Path(str(resources.files("tubelet.serve") / "static"))
    app.mount("/static", StaticFiles(directory=static))

    @app.api_route("/", methods=["GET", "HEAD"])
    def page() -> Response:
        return FileResponse(static / "index.html")

    return app


def _add_errors(app: FastAPI) -> None:
    """Every refusal is JSON with a sentence."""

    def answer(status: int) -> Any:
        def handle(request: Request, error: Exception) -> Response:
            return Json({"error": str(error)}, status_code=status)

        return handle

    def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return Json({"error": error.detail}, status_code=error.status_code)

    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return Json({"error": str(error)}, status_code=error.status)

    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        found = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        return Json({"error": "; ".join(found)}, status_code=422)

    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(NotYet, answer(503))
    app.add_exception_handler(UsageError, answer(400))
    app.add_exception_handler(VideoError, answer(409))
    app.add_exception_handler(StoreError, answer(409))
    app.add_exception_handler(TubeletError, answer(500))
    app.add_exception_handler(Missing, answer(404))


def _add_videos(app: FastAPI, site: Site) -> None:
    @app.get("/api/state")
    def state() -> dict[str, Any]:
        entries = site.library.entries()
        counts: dict[str, int] = {}
        for entry in entries:
            counts[entry.state] = counts.get(entry.state, 0) + 1
        uploads = site.uploads
        return {
            "name": out_name(site.out),
            "recipe": site.recipe,
            "counts": counts,
            "videos": len(entries),
            "rows": sum(entry.rows for entry in entries),
            "indexing": site.catalog.indexing,
            "total": site.catalog.total,
            "problem": site.catalog.problem,
            "version": sum(catalog.version for catalog in site.library.catalogs),
            "uploads": None if uploads is None else asdict(uploads.limits),
        }

    @app.get("/api/videos")
    def videos(
        q: Annotated[str, Query(max_length=400)] = "",
        state: Annotated[str, Query(max_length=20)] = "",
        sort: str = "name",
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = PAGE,
    ) -> dict[str, Any]:
        words = q.casefold().split()
        chosen = [
            entry
            for entry in site.library.entries()
            if all(word in entry.name.casefold() for word in words)
            and (not state or entry.state == state or (state == "uploaded" and entry.uploaded))
        ]
        if sort not in KEYS:
            raise UsageError(f"sort is {sort!r}; it must be one of {', '.join(KEYS)}")
        chosen.sort(key=lambda entry: (entry.name.casefold(), entry.id))
        if sort != "name":
            name = "duration_s" if sort == "duration" else "rows"
            chosen.sort(key=lambda entry: -(getattr(entry, name) or 0))
        page = chosen[offset : offset + limit]
        return {"total": len(chosen), "offset": offset, "items": [_listed(e) for e in page]}

    @app.get("/api/videos/{key}")
    def video(key: str) -> dict[str, Any]:
        folder_index, entry = site.library.find(key)
        catalog = site.library.catalogs[folder_index]
        found: dict[str, Any] = _listed(entry)
        if entry.state == "failed":
            found["failure"] = site.shown(entry, catalog.failure(entry) or {})
            return found
        if entry.state == "unreadable":
            return found
        record = catalog.record(entry)
        hidden = {"start_s", "end_s", "center_s", "padded", "first_last_frame", "made_with"}
        hidden |= {"files"}  # its keys are names, and pydantic takes no keys that are not UTF-8
        found["record"] = site.shown(entry, {k: v for k, v in record.items() if k not in hidden})
        found["media"] = site.media(key, record)
        found["timeline"] = site.library.timeline(site.library.features(folder_index, entry))
        return found


def _listed(entry: CatalogEntry) -> dict[str, Any]:
    names = ("key", "name", "state", "rows", "duration_s", "warnings", "problem", "uploaded")
    return {name: getattr(entry, name) for name in names}


def _add_media(app: FastAPI, site: Site) -> None:
    @app.api_route("/media/{key}", methods=["GET", "HEAD"])
    def media(key: str, request: Request) -> Response:
        file, kind = site.sources.open(site.record(key))
        return _part(request, file, kind)

    @app.api_route("/media/{key}/preview", methods=["GET", "HEAD"])
    def preview_file(key: str, request: Request) -> Response:
        site.library.find(key)
        preview = site.previews.get(key)
        if preview is None or preview.state != "ready":
            raise HTTPException(404, "there is no preview of this video")
        return _part(request, open(site.previews.path(key), "rb"), "video/mp4")

    @app.get("/api/videos/{key}/media")
    def how_to_play(key: str) -> dict[str, Any]:
        try:
            return site.media(key, site.record(key))
        except (VideoError, StoreError) as error:
            return {"state": "none", "reason": str(error), "preview": None}

    @app.post("/api/videos/{key}/preview")
    def make_preview(key: str) -> dict[str, Any]:
        record = site.record(key)
        item = site.sources.find(record)
        return site.previews.start(key, item).record()

    @app.get("/api/videos/{key}/preview")
    def preview_state(key: str) -> dict[str, Any]:
        site.library.find(key)
        preview = site.previews.get(key)
        if preview is None:
            raise HTTPException(404, "no preview was asked for")
        return preview.record()


def _part(request: Request, file: Any, kind: str) -> Response:
    return file_response(
        file,
        media_type=kind,
        range_header=request.headers.get("range"),
        if_range=request.headers.get("if-range"),
        head=request.method == "HEAD",
    )


def _add_questions(app: FastAPI, site: Site) -> None:
    @app.get("/api/search")
    def search(
        key: str,
        row: int | None = None,
        start: float | None = None,
        end: float | None = None,
        top: Annotated[int, Query(ge=1, le=200)] = 24,
    ) -> dict[str, Any]:
        span = (start, end) if start is not None and end is not None else None
        query = site.library.query(key, row=row, span=span)
        return {
            "query": site.library.describe(query),
            **site.library.nearest(query, top=top),
        }

    @app.get("/api/mean")
    def mean(key: str, start: int, stop: int) -> Response:
        found = site.library.mean(key, start, stop)
        out = io.BytesIO()
        np.save(out, found, allow_pickle=False)
        headers = {"content-disposition": 'attachment; filename="mean.npy"'}
        return Response(out.getvalue(), media_type="application/octet-stream", headers=headers)

    @app.get("/api/compare")
    def compare_two(a: str, b: str) -> dict[str, Any]:
        return compare(site.library, a, b)

    @app.get("/api/map")
    def whole_map() -> dict[str, Any]:
        return map_of(site.library)

    @app.post("/api/export")
    async def export(request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > BODY_BYTES:
                raise HTTPException(413, f"more than {BODY_BYTES} bytes")
        try:
            selection = Selection.model_validate_json(body)
        except ValueError as error:
            raise HTTPException(422, f"not a selection: {error}") from error
        file = await asyncio.to_thread(_exported, site, selection)
        answer = _part(request, file, "text/csv; charset=utf-8")
        answer.headers["content-disposition"] = 'attachment; filename="tubelet-selection.csv"'
        return answer


def _exported(site: Site, selection: Selection) -> IO[bytes]:
    """The CSV as an open file: with features it may be larger than memory."""
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile())
        for line in to_csv(site.library, selection.rows, features=selection.features):
            file.write(line.encode("utf-8", "surrogateescape"))
        file.flush()
        stack.pop_all()  # whoever sends it closes it
        return file


def _add_uploads(app: FastAPI, site: Site) -> None:
    def uploads() -> Uploads:
        if site.uploads is None:
            raise HTTPException(404, "uploads are switched off")
        return site.uploads

    @app.get("/api/uploads")
    def all_uploads() -> list[dict[str, Any]]:
        return [] if site.uploads is None else [u.record() for u in site.uploads.all()]

    @app.post("/api/uploads", status_code=201)
    async def upload(request: Request) -> dict[str, Any]:
        length = request.headers.get("content-length", "")
        size = int(length[:18]) if length.isdecimal() else None
        name = unquote(request.headers.get("x-name", ""))
        return (await uploads().receive(name, size, request.stream())).record()

    @app.delete("/api/uploads/{key}")
    def stop(key: str) -> dict[str, Any]:
        found = uploads().find(key)
        uploads().stop(found)
        return found.record()

    @app.get("/api/uploads/events")
    async def events() -> Response:
        """All uploads, whenever one of them changes, until none is under way. One line for all:
        a browser has six connections to a server."""
        known = uploads()

        async def tell() -> AsyncIterator[bytes]:
            seen: list[int] = []
            while not site.stopping:
                now = known.all()
                over = all(upload.over for upload in now)
                versions = [upload.version for upload in now]
                if versions != seen:
                    seen = versions
                    told = json.dumps([upload.record() for upload in now])
                    yield f"data: {told}\n\n".encode()
                if over:
                    return
                await asyncio.sleep(TICK_S)

        return StreamingResponse(tell(), media_type="text/event-stream")
