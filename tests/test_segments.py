"""Segments of a video: the rows of a pass over the whole; only the segments are decoded."""

import json
from pathlib import Path

import numpy as np
import pytest

import tubelet
from tests_support import go, tiny, tree
from tubelet.clips.windows import WindowConfig
from tubelet.decode.encode import Encoding, encode
from tubelet.decode.part import PartReader
from tubelet.decode.pyav import PyAVReader
from tubelet.decode.segment import SegmentReader, open_segment
from tubelet.errors import UsageError, VideoError
from tubelet.extraction import lanes

N, RATE = 1500, 25


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A minute of moving noise, with B-frames and a key frame every half second."""
    rng = np.random.default_rng(0)
    still = rng.integers(0, 256, (48, 64 + N, 3), np.uint8)
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    pictures = (np.ascontiguousarray(still[:, i : i + 64]) for i in range(N))
    return str(encode(pictures, path, encoding=Encoding("libx264", gop=12, b_frames=2)))


@pytest.fixture(scope="module")
def spans():
    return [(round(2.93 * k + 0.7, 2), round(2.93 * k + 2.2, 2)) for k in range(20)]


@pytest.fixture
def whole(monkeypatch):
    """Extraction as it was: every segment from the first frame on."""

    def run(extractor, path, span):
        with monkeypatch.context() as patch:
            patch.setattr(lanes, "open_segment", lambda p, *_, color: PyAVReader(p, color=color))
            return extractor(path, start_s=span[0], end_s=span[1])

    return run


@pytest.mark.parametrize(
    "window", [WindowConfig(4, stride=2), WindowConfig(8, 2, fps=10, tail="backpad")], ids=str
)
def test_rows_are_those_of_the_whole_pass(film, spans, whole, window):
    extractor = tiny(window=window)
    jumbled = [spans[k] for k in (7, 0, 19, 8, 3)]
    found = tubelet.extract_segments([(film, *span) for span in jumbled], extractor)
    for span, features in zip(jumbled, found, strict=True):
        wanted = whole(extractor, film, span)
        assert features.values.tobytes() == wanted.values.tobytes()
        for name in ("start_s", "end_s", "center_s"):
            np.testing.assert_array_equal(getattr(features, name), getattr(wanted, name))
        assert features.provenance == wanted.provenance


def test_only_the_segments_are_decoded(film, spans, monkeypatch):
    """20 segments of 1.5 s of 1,500 frames: from the start each they were 15,030 pictures and
    more. Each begins at the last but one key frame before it, so up to 24 frames come first."""
    decoded = 0
    own = PartReader._decoded

    def counted(self, *arguments, **named):
        nonlocal decoded
        for picture in own(self, *arguments, **named):
            decoded += 1
            yield picture

    monkeypatch.setattr(PartReader, "_decoded", counted)
    tubelet.extract_segments([(film, *span) for span in spans], tiny())
    assert 750 <= decoded <= 20 * (38 + 24 + 4)


def test_a_list_of_segments_is_read_so_too(film, spans, tmp_path):
    lines = [{"path": film, "start": a, "end": b} for a, b in spans[3:6]]
    (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, lines)))
    failed, heard = go([tmp_path / "l.jsonl"], tmp_path / "out")
    assert failed == 0
    made = {k: v for k, v in tree(tmp_path / "out").items() if k.endswith(".npy")}
    for identity, span in zip(heard.kinds(), spans[3:6], strict=True):
        values = np.load(tmp_path / "out" / f"{identity}.npy")
        np.testing.assert_array_equal(values, tiny()(film, start_s=span[0], end_s=span[1]).values)
    assert len(made) == 3


def test_what_cannot_be_cut_comes_from_a_whole_pass(film, tmp_path):
    """Damage within the segment: the frames and the warnings are those of the whole pass."""
    data = bytearray(Path(film).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    with open_segment(str(path), 25.0, 35.0) as cut, PyAVReader(str(path)) as plain:
        wanted = [f for f in plain.frames() if 25 <= f.time_s < 35]
        found = [f for f in cut.frames() if 25 <= f.time_s < 35]
        assert [(f.index, f.time_s) for f in found] == [(f.index, f.time_s) for f in wanted]
        assert all((a.rgb() == b.rgb()).all() for a, b in zip(found, wanted, strict=True))
        assert plain.events.damaged
        assert cut.events.messages == plain.events.messages
    early = open_segment(film, 0.1, 1.0)
    assert not isinstance(early, SegmentReader), "as short from the start"
    early.close()


def test_segments_that_are_none(film):
    with pytest.raises(UsageError, match=r"segment 1 is .*need \(path, start_s, end_s\)"):
        tubelet.extract_segments([(film, 1.0, 2.0), (film, 1.0)], tiny())
    with pytest.raises(UsageError, match="need 0 <= start_s < end_s"):
        tubelet.extract_segments([(film, 5.0, 2.0)], tiny())
    with pytest.raises(VideoError, match="lies outside the video"):
        tubelet.extract_segments([(film, 70.0, 72.0)], tiny())
