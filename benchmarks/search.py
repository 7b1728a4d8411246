"""How fast `tubelet search` answers, and what its index finds, on a million rows.

    python benchmarks/search.py make FOLDER --width 1024 --decay 0.5
    python benchmarks/search.py measure FOLDER --write benchmarks/search.json
    python benchmarks/search.py table

`make` writes an output folder of made-up rows: 400 themes, 2,000 videos near them, 500 rows each
(--videos and --rows ask for others) that drift (neighbours are alike). The k-th number varies as
k^-decay: 0.5 is mild (256 of 1,024 axes hold four fifths of the variance), 0 is the worst case,
where every axis matters as much.
Queries are rows with added noise, so none is in the set; `recall_elsewhere` leaves the query's own
video out, where hundreds of rows of the same theme are nearly as alike as one another.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import time
from pathlib import Path

import numpy as np

from tubelet.rows.collection import load_collection
from tubelet.rows.search import Searcher
from tubelet.rows.search.index import searcher_for
from tubelet.store.folder import open_folder
from tubelet.types import Features

QUERIES = 50
HERE = Path(__file__).parent


def make(out: Path, *, videos: int, rows: int, width: int, decay: float) -> None:
    rng = np.random.default_rng(0)
    scale = (np.arange(1, width + 1) ** -decay).astype(np.float32)
    scale /= np.linalg.norm(scale)
    themes = rng.standard_normal((400, width), np.float32) * scale
    recipe = {"model": "made up", "decay": decay, "width": width}
    folder = open_folder(out, recipe=recipe, run={}, fmt="npy", overwrite=False)
    each = rows // videos
    start = np.arange(each) * 2.0
    for v in range(videos):
        values = rng.standard_normal((each, width), np.float32) * scale
        for i in range(1, each):
            values[i] = 0.9 * values[i - 1] + 0.436 * values[i]  # keeps the variance
        offset = 0.5 * rng.standard_normal(width, np.float32) * scale
        values = 0.7 * values + themes[v % 400] + offset + 0.7 * scale
        facts = {"source": "none", "duration_s": 2.0 * each, "warnings": []}
        times = {"start_s": start, "end_s": start + 2, "center_s": start + 1}
        folder.write(f"v{v:04d}", Features(values, **times, provenance=facts))


def measure(out: Path) -> dict:
    collection = load_collection(out)
    began = time.perf_counter()
    searcher_for(collection, mode="index")
    built = time.perf_counter() - began
    rng = np.random.default_rng(1)
    chosen = np.sort(rng.choice(len(collection), QUERIES, replace=False))
    noise = rng.standard_normal((QUERIES, collection.width), np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    queries = np.asarray(collection.vectors[chosen]) + 0.3 * noise
    own = [collection.span(collection.video_of(int(row))) for row in chosen]
    elsewhere = [range(rows.start, rows.stop) for rows in own]
    matrix = collection.cache_folder / f"{collection.key}.f32"
    del collection
    evict(matrix)
    collection = load_collection(out)
    began = time.perf_counter()
    fast = searcher_for(collection, mode="index")
    opened = time.perf_counter() - began
    cold_ms = timed(fast, queries)
    index_ms = timed(fast, queries)
    exact = Searcher(collection)
    exact_ms = timed(exact, queries)
    return {
        "rows": len(collection),
        "width": collection.width,
        "decay": collection.recipe["decay"],
        "matrix_gb": round(collection.vectors.nbytes / 1e9, 2),
        "exact_ms": exact_ms,
        "index": fast.engine,
        "build_s": round(built, 1),
        "open_again_s": round(opened, 2),
        "index_cold_ms": cold_ms,
        "index_ms": index_ms,
        "recall": recall(exact, fast, queries, [range(0)] * QUERIES),
        "recall_elsewhere": recall(exact, fast, queries, elsewhere),
    }


def evict(file: Path) -> None:
    """Have a file on disk only, where the system can be asked for that; nobody may have it open."""
    gc.collect()
    if hasattr(os, "posix_fadvise"):
        with open(file, "rb") as handle:
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def recall(exact: Searcher, fast: Searcher, queries: np.ndarray, exclude: list[range]) -> float:
    """Of the 10 best moments, how many the index finds."""
    same = total = 0
    for query, rows in zip(queries, exclude, strict=True):
        a, b = ({(h.id, h.row) for h in s.nearest(query, exclude=rows).hits} for s in (exact, fast))
        same, total = same + len(a & b), total + len(a)
    return round(same / total, 4)


def timed(searcher: Searcher, queries: np.ndarray) -> list[float]:
    """[median, 95th percentile] milliseconds of `nearest`; the first reading is not timed."""
    searcher.nearest(queries[0])
    took = [1000 * searcher.nearest(q).took_s for q in queries]
    return [round(float(np.quantile(took, p)), 1) for p in (0.5, 0.95)]


def table(path: Path) -> None:
    facts = json.loads(path.read_text())
    heads = ["rows x width", "fall as", "matrix", "exact", "index", "built in", "opened in"]
    heads += ["from disk", "in memory", "recall@10", "in other videos"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for r in facts["results"]:
        cells = [
            f"{r['rows']:,} x {r['width']}",
            f"k^-{r['decay']:g}",
            f"{r['matrix_gb']} GB",
            "{} / {} ms".format(*r["exact_ms"]),
            r["index"],
            f"{r['build_s']} s",
            f"{r['open_again_s']} s",
            "{} / {} ms".format(*r["index_cold_ms"]),
            "{} / {} ms".format(*r["index_ms"]),
            f"{r['recall']:.3f}",
            f"{r['recall_elsewhere']:.3f}",
        ]
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["make", "measure", "table"])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--decay", type=float, default=0.5)
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    if args.what == "make":
        make(args.folder, videos=args.videos, rows=args.rows, width=args.width, decay=args.decay)
        load_collection(args.folder)
    elif args.what == "table":
        table(HERE / "search.json")
    else:
        result = measure(args.folder)
        print(json.dumps(result, indent=1))
        if args.write:
            facts = json.loads(args.write.read_text()) if args.write.exists() else {"results": []}
            facts |= {"machine": platform.processor() or platform.machine()}
            facts["results"].append(result)
            args.write.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
