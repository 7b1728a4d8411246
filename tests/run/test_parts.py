"""Parts of a long video, joined, are the very files of one pass: rows, times, padding, warnings."""

import json
from fractions import Fraction
from functools import partial

import pytest

from ray_cluster import damage
from ray_cluster import movie as numbered
from tests_support import tiny
from tubelet.clips.windows import WindowConfig
from tubelet.decode.base import scan_video
from tubelet.decode.part import PartReader
from tubelet.decode.synthetic import read_number
from tubelet.errors import NotSplittable
from tubelet.extraction.pipeline import Batches, record_video
from tubelet.extraction.recording import Recording, Source
from tubelet.machine.prefetch import prefetch
from tubelet.run.parts.cuts import cut
from tubelet.run.parts.part_store import PartStore, check, opening_of

N = 150
KINDS = [
    ("h264", "mp4", {"gop": 12, "b_frames": 2}),
    ("h264", "ts", {"gop": 12, "b_frames": 2}),
    ("h264", "mkv", {"gop": 12, "b_frames": 2}),
    ("mpeg4", "mp4", {"gop": 10}),
    ("mpeg2", "ts", {"gop": 10, "b_frames": 2}),
    ("vp9", "webm", {"gop": 12}),
]


movie = partial(numbered, frames=N)


def in_parts(path, extractors, folder, *, part_s, start_s=None, end_s=None):
    """(recordings, how many parts)."""
    lanes, desk = [e.lane for e in extractors], PartStore(folder, [path])
    parts = desk.plan(path, lanes, start_s, end_s, part_s=part_s)
    for part in reversed(parts):  # any order
        marks = {}
        recordings = record_video(
            Source(path, start_s, end_s),
            batches := Batches(extractors),
            opening=opening_of(part, desk.timeline(), marks),
            ahead=prefetch,
        )
        batches.flush()
        check(part, recordings)
        desk.keep(part, recordings, marks)
        assert desk.has(part)
    joined = [Recording(e.names, dtype=e.options.dtype) for e in extractors]
    desk.join(len(parts), joined)
    return joined, len(parts)


def whole(path, extractors, start_s=None, end_s=None):
    batches = Batches(extractors)
    recordings = record_video(Source(path, start_s, end_s), batches)
    batches.flush()
    return recordings


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert len(a) == len(b) > 0
        assert json.dumps(a.facts()) == json.dumps(b.facts())
        assert {k: v.tolist() for k, v in a.times().items()} == {
            k: v.tolist() for k, v in b.times().items()
        }
        for name, rows in b.arrays.items():
            assert a.arrays[name].array().tobytes() == rows.array().tobytes()


@pytest.mark.parametrize(("codec", "suffix", "options"), KINDS, ids=lambda v: str(v))
def test_parts_are_one_pass(tmp_path, codec, suffix, options):
    path = movie(tmp_path / f"a.{suffix}", codec, **options)
    extractors = [tiny(window=WindowConfig(4, 2, stride=5), taps=("mid",), logits=True)]
    joined, count = in_parts(path, extractors, tmp_path, part_s=1.3)
    assert count == 4
    assert_same(joined, whole(path, extractors))


@pytest.mark.parametrize(
    "window",
    [
        {"tail": "drop"},
        {"tail": "loop", "stride": 3},
        {"tail": "zero", "stride": 2},
        {"tail": "backpad", "stride": 7},
        {"tail": "center", "stride": 4},
        {"tail": "center-zero", "stride": 4},
        {"tail": "center-mean", "stride": 1},
        {"tail": "backpad-open", "stride": 7},
        {"tail": "pad", "stride": 1, "interval": 3},
        {"tail": "pad", "fps": Fraction(10), "stride": 2},
        {"tail": "pad", "fps": Fraction(60), "stride": 16},
        {"tail": "repeat-second", "fps": Fraction(8)},
        {"tail": "pad", "stride": 40},  # gaps between windows
    ],
    ids=str,
)
def test_every_tail(tmp_path, window, movie_path):
    extractors = [tiny(window=WindowConfig(4, **window))]
    joined, count = in_parts(movie_path, extractors, tmp_path, part_s=1.0)
    assert count >= 3
    assert_same(joined, whole(movie_path, extractors))


@pytest.fixture(scope="module")
def movie_path(tmp_path_factory):
    return movie(tmp_path_factory.mktemp("movie") / "a.mp4", gop=12, b_frames=2)


@pytest.mark.parametrize(("start_s", "end_s"), [(1.0, None), (None, 5.1), (0.5, 5.0), (2.0, 99)])
def test_ranges_and_two_models(tmp_path, movie_path, start_s, end_s):
    extractors = [
        tiny(window=WindowConfig(4, stride=8, length=8)),
        tiny(window=WindowConfig(8, stride=8), name="other", keep="time"),
    ]
    joined, count = in_parts(
        movie_path, extractors, tmp_path, part_s=1.0, start_s=start_s, end_s=end_s
    )
    assert count >= 3
    assert_same(joined, whole(movie_path, extractors, start_s, end_s))


def test_a_part_decodes_no_more_than_it_needs(movie_path):
    with PartReader(movie_path, scan_video(movie_path), first=90, stop=100) as reader:
        frames = list(reader.frames())
    assert len(frames) == N
    assert [f.index for f in frames] == list(range(N))
    read = [f for f in frames if not getattr(f, "unread", False)]
    assert [read_number(f.rgb()) for f in read] == list(range(90, 100))
    assert sorted(reader.marks) == list(range(90, 116))


def test_short_videos_and_counted_timelines_are_not_cut(movie_path):
    found = scan_video(movie_path)
    lane = tiny().lane
    assert cut(found, [lane], None, None, part_s=4.0) == []
    assert cut(found, [lane], 1.0, 2.0, part_s=0.9) == []
    uniform = tiny(window=WindowConfig(4, tail="uniform", rows=10)).lane
    assert cut(found, [uniform], None, None, part_s=0.5) == []


def test_files_that_only_a_whole_pass_reads_rightly_are_not_cut(tmp_path):
    """One key frame; no timestamps; a damaged packet table: no entries, no parts."""
    assert (
        scan_video(
            movie(tmp_path / "one.mkv", "mpeg4", gop=600, options={"sc_threshold": "1000000000"})
        ).entries
        is None
    )
    assert scan_video(movie(tmp_path / "a.avi", "mpeg4", gop=10)).entries is None
    path = tmp_path / "cut.ts"
    movie(path, "mpeg2", gop=10)
    data = bytearray(path.read_bytes())
    del data[len(data) // 2 : len(data) // 2 + 188 * 40]
    path.write_bytes(data)
    assert scan_video(str(path)).entries is None


def test_damage_that_packets_do_not_show_is_refused_by_the_part(tmp_path):
    path = tmp_path / "a.mp4"
    movie(path, gop=12)
    found = scan_video(str(path))
    damage(path)
    assert found.entries is not None
    with pytest.raises(NotSplittable, match="cannot be decoded by themselves"):
        list(PartReader(str(path), found, first=60, stop=100).frames())


def test_neighbours_that_saw_other_pictures_are_not_joined(tmp_path, movie_path):
    extractors, desk = [tiny()], PartStore(tmp_path, ["x"])
    parts = desk.plan(movie_path, [extractors[0].lane], None, None, part_s=3.0)
    assert len(parts) == 2
    for part in parts:
        marks = {}
        batches = Batches(extractors)
        opening = opening_of(part, desk.timeline(), marks)
        recordings = record_video(Source(movie_path), batches, opening=opening)
        desk.keep(part, recordings, {k: v + part.index for k, v in marks.items()})
    with pytest.raises(NotSplittable, match="has other pixels"):
        desk.join(2, [Recording(extractors[0].names, dtype="float32")])
