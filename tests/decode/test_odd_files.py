"""Kinds of files that people have and that a reader easily takes for others.

Each is made here, with a known truth; reading and planning must agree on every one.
"""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from av.filter import Graph

from tubelet import open_video
from tubelet.decode.base import scan_video
from tubelet.decode.encode import Encoding, encode
from tubelet.decode.synthetic import read_number
from tubelet.errors import UnsupportedVideo

from .samples import BY_NAME, N, pictures, remux, with_audio


def read(path):
    """(numbers, times, events, info) of a file."""
    with open_video(path) as video:
        frames = [(read_number(frame.rgb()), frame.time_s) for frame in video.frames()]
        return [n for n, _ in frames], [t for _, t in frames], video.events, video.info


def agree(path):
    """Plan and reading tell the same frames at the same times, and nothing is damaged."""
    numbers, times, events, _ = read(path)
    plan = scan_video(path)
    assert not events.damaged, events.messages
    assert plan.frames == len(numbers)
    if plan.exact:
        assert plan.times_s == pytest.approx(times, abs=1e-9)
    return numbers, times


def placeholder(k):
    """An MPEG-4 picture that is not coded: P, increment k of 25 in 5 bits, vop_coded 0."""
    bits = "01" + "0" + "1" + f"{k % 25:05b}" + "1" + "0" + "01111"
    return b"\x00\x00\x01\xb6" + int(bits, 2).to_bytes(2, "big")


def rewrite(source, target, contents, *, container="avi"):
    """A copy whose packets are `contents`, one per frame interval."""
    loose = {"fflags": "-autobsf"}  # packets stay as they are
    with (
        av.open(str(source)) as old,
        av.open(str(target), "w", format=container, options=loose) as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0])
        for k, (data, is_key) in enumerate(contents):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = k
            packet.is_keyframe = is_key
            new.mux(packet)


def packets(path):
    with av.open(str(path)) as container:
        return [(bytes(p), p.is_keyframe) for p in container.demux(video=0) if p.size]


@pytest.mark.parametrize("part", [0.5, 0.7, 0.9])
def test_a_truncated_file_with_sound_is_damaged(part, tmp_path):
    """The index lists every frame; a sound track that lies beyond the end must not hide that."""
    plain, path = tmp_path / "plain.mp4", tmp_path / "cut.mp4"
    with_audio(plain)
    remux(plain, path, options={"movflags": "faststart"})
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: int(places[0] + part * (places[-1] - places[0]))])
    numbers, _, events, _ = read(path)
    plan = scan_video(path)
    # The last frames may refer to one that is cut off.
    assert 0 < len(numbers) < N
    assert numbers[:-3] == list(range(len(numbers) - 3))
    assert events.damaged
    assert events.missing_frames >= N - len(numbers) - 1
    assert not plan.exact


def test_mpeg4_pictures_packed_in_avi(tmp_path):
    """DivX and XviD put a B-frame into the packet of the frame after it, and a placeholder where
    it is shown: as many frames as packets."""
    plain, path = tmp_path / "plain.avi", tmp_path / "packed.avi"
    encode(pictures(), plain, encoding=Encoding(codec="mpeg4", b_frames=1, gop=12))
    loose = packets(plain)
    mark = b"\x00\x00\x01\xb2DivX503b1393p"
    contents, k = [(mark + loose[0][0], True)], 1
    while k < len(loose):
        data, is_key = loose[k]
        following = loose[k + 1][0] if k + 1 < len(loose) else b""
        if following and following[4] >> 6 == 2:  # a B-picture
            contents += [(data + following, is_key), (placeholder(k), False)]
            k += 2
        else:
            contents.append((data, is_key))
            k += 1
    assert sum(len(data) < 9 for data, _ in contents) > 5
    rewrite(plain, path, contents)
    numbers, times = agree(path)
    assert numbers == list(range(N))
    assert scan_video(path).exact
    assert times == pytest.approx([i / 25 for i in range(N)])


def test_pictures_that_are_not_coded_show_nothing_and_take_their_time(tmp_path):
    plain, path = tmp_path / "plain.avi", tmp_path / "nvop.avi"
    encode(pictures(), plain, encoding=Encoding(codec="mpeg4", b_frames=0))
    contents, expected = [], []
    for k, packet in enumerate(packets(plain)):
        if k % 4 == 3:
            contents += [(placeholder(len(contents)), False)] * 2
        expected.append(len(contents))
        contents.append(packet)
    rewrite(plain, path, contents)
    numbers, times = agree(path)
    assert numbers == list(range(N))
    assert times == pytest.approx([k / 25 for k in expected])


def test_an_avi_that_begins_between_key_frames(tmp_path):
    plain, path = tmp_path / "plain.avi", tmp_path / "cut.avi"
    encode(pictures(), plain, encoding=Encoding(b_frames=0, gop=10))
    rewrite(plain, path, packets(plain)[5:])
    numbers, times, _, _ = read(path)
    assert [round(t * 25) + 5 for n, t in zip(numbers, times, strict=True) if n >= 10] == [
        n for n in numbers if n >= 10
    ]


PAUSES = [Fraction(k, 25) for k in range(3 * N) if k % 7 not in (2, 3, 5)][:N]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("pauses.mkv", "h264"), ("pauses.webm", "vp9"), ("pauses.ts", "h264"), ("pauses.mp4", "h264")],
)
def test_a_clock_with_pauses_is_no_damage(name, codec, tmp_path):
    """Screen recorders and mpdecimate leave out frames that repeat."""
    path = tmp_path / name
    encode(pictures(), path, encoding=Encoding(codec=codec, b_frames=0), times_s=PAUSES)
    numbers, times = agree(path)
    assert numbers == list(range(N))
    assert times == pytest.approx([float(t) for t in PAUSES], abs=1e-3)


def test_vp9_frames_that_are_only_referred_to(tmp_path):
    """In packets of their own, as some muxers write them: they are no frames, and none is lost."""
    plain, path = tmp_path / "plain.webm", tmp_path / "hidden.webm"
    encode(pictures(), plain, encoding=Encoding(codec="vp9", gop=N))
    (key, _), *others = packets(plain)
    assert key[0] == 0x82  # a key frame that is shown
    hidden = bytes([0x80]) + key[1:]
    show_it = bytes([0x88])  # show_existing_frame, of the first reference
    contents = [(hidden, True), (show_it, False), *others]
    rewrite(plain, path, contents, container="webm")
    assert len(packets(path)) == N + 1
    numbers, _ = agree(path)
    assert numbers == list(range(N))
    assert scan_video(path).exact


@pytest.mark.parametrize("name", ["av1.mp4", "vp9.webm", "mpeg4.avi"])
def test_ordinary_packets_show_one_frame_each(name, tmp_path):
    sample = BY_NAME[name]
    sample.write(tmp_path / name)
    assert scan_video(tmp_path / name).frames == N


def test_a_stream_that_turns_up_late_in_a_plan(tmp_path):
    plain, sound, path = (tmp_path / name for name in ("v.ts", "av.ts", "joined.ts"))
    encode(pictures(), plain, encoding=Encoding(b_frames=0))
    with_audio(sound)
    parts = [plain, plain, sound, plain]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_video(path) as video:
        assert scan_video(path).frames == sum(1 for _ in video.frames())


def test_unusual_colour_tags_are_ignored_with_a_note(tmp_path):
    plain, path = tmp_path / "plain.mp4", tmp_path / "log.mp4"
    encode(pictures(3), plain, encoding=Encoding(b_frames=0, matrix="bt709", full_range=False))
    with av.open(str(plain)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        edit = BitStreamFilterContext(
            "h264_metadata=transfer_characteristics=9", old.streams.video[0], stream
        )
        for packet in old.demux(video=0):
            for part in edit.filter(packet if packet.size else None):
                part.stream = stream
                new.mux(part)
    with open_video(plain) as before, open_video(path) as video:
        assert any("transfer 9" in note for note in video.info.notes)
        for a, b in zip(before.frames(), video.frames(), strict=True):
            assert np.array_equal(a.rgb(), b.rgb())


@pytest.mark.parametrize(("rotation", "turn"), [(90, "clock"), (270, "cclock")])
def test_10_bit_video_is_turned_before_it_is_converted(rotation, turn, tmp_path):
    """As FFmpeg's command line does: bit for bit."""
    path = tmp_path / "turned.mp4"
    encoding = Encoding(codec="hevc", pixel_format="yuv420p10le", rotation=rotation)
    encode(pictures(4), path, encoding=encoding)
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        graph = Graph()
        source = graph.add_buffer(template=container.streams.video[0])
        steps = [("transpose", turn), ("scale", "flags=bicubic"), ("format", "rgb24")]
        chain = [source, *(graph.add(*step) for step in steps), graph.add("buffersink")]
        graph.link_nodes(*chain)
        graph.configure()
        with open_video(path) as video:
            for ours, frame in zip(video.frames(), frames, strict=True):
                graph.push(frame)
                assert np.array_equal(ours.rgb(), graph.pull().to_ndarray())


def test_pts_in_the_order_of_decoding(tmp_path):
    """FLV writers and others repeat the DTS as PTS; frames are then as far apart as they were."""
    plain, path = tmp_path / "plain.mp4", tmp_path / "dts.flv"
    encode(pictures(), plain, encoding=Encoding(b_frames=2))
    with av.open(str(plain)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.dts += int(Fraction(2, 25) / packet.time_base)
                packet.pts, packet.stream = packet.dts, stream
                new.mux(packet)
    numbers, times, _, _ = read(path)
    assert numbers == list(range(N))
    steps = np.diff(times[3:-2])  # the decoder's last frames have no DTS
    assert steps.min() > 0.039
    assert steps.max() < 0.041
    assert not scan_video(path).exact


def test_an_empty_display_matrix_asks_for_nothing(tmp_path):
    path = tmp_path / "zero.mp4"
    encode(pictures(3), path, encoding=Encoding(rotation=90))
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = bytes(36)
    path.write_bytes(bytes(data))
    with open_video(path) as video:
        assert video.info.rotation == 0
        assert not [note for note in video.info.notes if "rotation" in note]


def test_what_is_encrypted_is_refused_by_the_plan_too(tmp_path):
    path = tmp_path / "secret.mp4"
    options = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    encode(pictures(), path, encoding=Encoding(container_options=options))
    for look in (scan_video, read):
        with pytest.raises(UnsupportedVideo, match="encrypted"):
            look(path)
