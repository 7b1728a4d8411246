"""Damaged files: the readable part is used, and what is wrong with it is counted."""

from itertools import pairwise

import av
import pytest

from tubelet import open_video
from tubelet.decode.base import scan_video
from tubelet.decode.encode import Encoding, encode
from tubelet.decode.synthetic import read_number
from tubelet.errors import VideoError

from .samples import pictures, remux, with_audio

N = 60
KINDS = {
    "h264.mp4": Encoding(container_options={"movflags": "faststart"}, b_frames=2),
    "h264_intra.mp4": Encoding(container_options={"movflags": "faststart"}, gop=1),
    "hevc_fragments.mp4": Encoding(
        codec="hevc", container_options={"movflags": "frag_keyframe+empty_moov"}
    ),
    "h264.mkv": Encoding(b_frames=2),
    "h264.ts": Encoding(b_frames=2),
    "mpeg4.avi": Encoding(codec="mpeg4", b_frames=0),
    "mpeg2.ts": Encoding(codec="mpeg2"),
    "mjpeg.avi": Encoding(codec="mjpeg", pixel_format="yuvj420p"),
    "vp9.webm": Encoding(codec="vp9"),
    "av1.mp4": Encoding(codec="av1", container_options={"movflags": "faststart"}),
}


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return lambda name: (
        path
        if (path := folder / name).exists()
        else encode(pictures(N), path, encoding=KINDS[name])
    )


def payloads(path):
    """(position, size) of every packet of the video."""
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size]


def read(path):
    """(numbers, times, events) of a file."""
    with open_video(path) as video:
        frames = [(read_number(f.rgb()), f.time_s) for f in video.frames()]
        return [n for n, _ in frames], [t for _, t in frames], video.events


def unexplained(numbers, times, events):
    """Frames that show another number than their time says, beyond those counted."""
    wrong = sum(n != round(t * 25) for n, t in zip(numbers, times, strict=True))
    return max(0, wrong - events.corrupt_frames - events.bad_timestamps - events.missing_frames)


@pytest.mark.parametrize("part", [0.35, 0.6, 0.85, 0.99])
@pytest.mark.parametrize("name", KINDS)
def test_a_truncated_tail(name, part, whole, tmp_path):
    data = whole(name).read_bytes()
    path = tmp_path / name
    (start, _), (end, _) = payloads(whole(name))[0], payloads(whole(name))[-1]
    path.write_bytes(data[: int(start + part * (end - start))])
    numbers, times, events = read(path)
    assert 0 < len(numbers) <= N
    assert numbers[: len(numbers) - 4] == list(range(len(numbers) - 4))
    assert unexplained(numbers, times, events) == 0
    if len(numbers) < N and not name.endswith(".ts"):  # a TS does not say how long it is
        assert events.damaged or events.messages


@pytest.mark.parametrize("name", KINDS)
def test_packets_damaged_in_the_middle(name, whole, tmp_path):
    data = bytearray(whole(name).read_bytes())
    for position, size in payloads(whole(name))[25:27]:
        spoil = (4, 188) if name.endswith(".ts") else (min(8, size - 1), size)
        for i in range(position + spoil[0], position + spoil[1]):
            data[i] = i * 37 + 11 & 255
    path = tmp_path / name
    path.write_bytes(bytes(data))
    numbers, times, events = read(path)
    assert numbers[:20] == list(range(20))
    assert numbers[-20:] == list(range(N - 20, N))
    assert times[-20:] == pytest.approx([n / 25 for n in range(N - 20, N)], abs=1e-3)
    assert events.damaged or events.messages
    assert unexplained(numbers, times, events) == 0


def test_every_other_packet_refused_still_gives_the_rest(whole, tmp_path):
    data = bytearray(whole("mjpeg.avi").read_bytes())
    for position, size in payloads(whole("mjpeg.avi"))[1::2]:
        data[position : position + size] = bytes(size)
    path = tmp_path / "half.avi"
    path.write_bytes(bytes(data))
    numbers, times, events = read(path)
    assert numbers == list(range(0, N, 2))
    assert times == pytest.approx([n / 25 for n in numbers])
    assert events.corrupt_packets == N // 2
    assert events.damaged


def test_a_stream_that_starts_between_key_frames(whole, tmp_path):
    """Cut out of a broadcast: what refers to frames before the cut is lost, and counted."""
    path = tmp_path / "cut.ts"
    remux(whole("h264.ts"), path, skip=lambda i: i < 5)
    timeline = scan_video(path)
    assert not timeline.exact
    assert "key frame" in timeline.reason
    numbers, _, events = read(path)
    assert numbers[-48:] == list(range(12, N))
    assert events.damaged


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "vp9.webm", "mpeg4.avi"])
def test_nothing_left_to_decode(name, whole, tmp_path):
    """A whole container around noise: no frame, so an error that says what was refused."""
    data = bytearray(whole(name).read_bytes())
    for position, size in payloads(whole(name)):
        data[position : position + size] = bytes([0xFF]) * size
    path = tmp_path / name
    path.write_bytes(bytes(data))
    with pytest.raises(VideoError, match=name):
        open_video(path)


def test_the_size_changes_in_mid_stream(tmp_path):
    """Two H.264 streams glued together, as broadcasts do: scaled to the first size, counted."""
    parts = []
    for k, (width, height) in enumerate([(64, 48), (96, 64), (64, 48)]):
        part = tmp_path / f"part{k}.h264"
        frames = pictures(10, width=width, height=height, first=10 * k)
        encode(frames, part, encoding=Encoding(b_frames=0, container="h264"))
        parts.append(part.read_bytes())
    path = tmp_path / "glued.h264"
    path.write_bytes(b"".join(parts))
    with open_video(path) as video:
        shown = [(read_number(f.rgb()), f.rgb().shape, f.time_s) for f in video.frames()]
        assert [n for n, _, _ in shown] == list(range(30))
        assert {shape for _, shape, _ in shown} == {(48, 64, 3)}
        times = [t for _, _, t in shown]
        assert times == sorted(set(times))
        assert video.events.size_changes == 2
        assert "96x64" in video.events.messages[0]


def test_a_raw_stream_has_no_timestamps(tmp_path):
    path = tmp_path / "raw.h264"
    encode(pictures(30), path, encoding=Encoding(b_frames=0, container="h264"))
    numbers, times, events = read(path)
    assert numbers == list(range(30))
    assert times == pytest.approx([i / 25 for i in range(30)])
    assert events.bad_timestamps in (0, 30)


def test_another_stream_turns_up_later(whole, tmp_path):
    """A transport stream may announce new streams at any time; the clock may start again too."""
    sound = tmp_path / "sound.ts"
    with_audio(sound)
    path = tmp_path / "later.ts"
    path.write_bytes(whole("h264.ts").read_bytes() + sound.read_bytes())
    numbers, times, _ = read(path)
    assert numbers[:N] == list(range(N))
    assert times[:N] == pytest.approx([n / 25 for n in range(N)], abs=1e-4)
    assert all(a < b for a, b in pairwise(times))


def test_a_block_lost_within_matroska(whole, tmp_path):
    """The demuxer skips to the next cluster without a word; the hole in the clock is counted."""
    data = bytearray(whole("vp9.webm").read_bytes())
    position, _ = payloads(whole("vp9.webm"))[30]
    data[position - 8 : position] = b"\xff" * 8
    path = tmp_path / "hole.webm"
    path.write_bytes(bytes(data))
    numbers, times, events = read(path)
    assert len(numbers) < N
    assert [round(t * 25) for t in times] == numbers
    assert events.missing_frames == N - len(numbers)
    assert events.damaged
