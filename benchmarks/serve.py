"""How fast the page of `tubelet serve` is answered, and the memory of its process.

    python benchmarks/search.py make FOLDER --rows 50000 --videos 1000
    python benchmarks/serve.py FOLDER --write benchmarks/serve.json

The routes are asked in the process itself: without the network, with JSON. The cache of rows in
FOLDER is removed first. Each figure is [median, largest] milliseconds of 20 questions, or one time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from tubelet.bench.rounds import peak_mb
from tubelet.serve.app import Settings, create_app
from tubelet.store.ids import HIDDEN

ASKED = 20


def measure(out: Path) -> dict[str, Any]:
    shutil.rmtree(out / HIDDEN, ignore_errors=True)
    app = create_app(out, Settings(build=None))
    with TestClient(app, base_url="http://127.0.0.1:8765") as client:

        def ask(path: str, **params: Any) -> Any:
            answer = client.get(path, params=params)
            answer.raise_for_status()
            return answer.json()

        listed = took(lambda: ask("/api/state"))
        while ask("/api/state")["indexing"]:
            time.sleep(0.01)
        state = ask("/api/state")
        keys = [video["key"] for video in ask("/api/videos", limit=500)["items"]]
        first_search = took(lambda: ask("/api/search", key=keys[0], row=0))
        first_map = took(lambda: ask("/api/map"))
        lists = [took(lambda: ask("/api/videos")) for _ in range(ASKED)]
        searches = [took(lambda k=key: ask("/api/search", key=k, row=7)) for key in keys[:ASKED]]
    return {
        "videos": state["videos"],
        "rows": state["rows"],
        "first_answer_ms": listed,
        "list_ms": spread(lists),
        "first_search_ms": first_search,
        "search_ms": spread(searches),
        "first_map_ms": first_map,
        "most_memory_mb": round(peak_mb()),
        "load": [round(load, 1) for load in os.getloadavg()],
        "machine": platform.processor() or platform.machine(),
        "date": date.today().isoformat(),
    }


def took(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return round(1000 * (time.perf_counter() - began), 1)


def spread(times: list[float]) -> list[float]:
    return [round(float(np.median(times)), 1), max(times)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    text = json.dumps(measure(args.folder), indent=1)
    print(text)
    if args.write:
        args.write.write_text(text + "\n")


if __name__ == "__main__":
    main()
