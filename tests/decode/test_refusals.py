"""What is refused, with which words; and files that try to reach beyond themselves."""

import os
import socket
import struct
import threading

import av
import pytest

from tubelet import open_video
from tubelet.decode.base import scan_video
from tubelet.decode.container import check_size
from tubelet.decode.encode import Encoding, encode
from tubelet.decode.synthetic import number_picture, read_number
from tubelet.errors import (
    EmptyVideo,
    NotAVideo,
    TubeletError,
    UnknownName,
    UnsupportedVideo,
    UsageError,
    VideoError,
)

from .samples import BY_NAME, N, cover_art, pictures, with_audio


def header_only(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = 64, 48
        container.start_encoding()


def unknown_codec(path):
    encode(pictures(), path, encoding=Encoding(codec="mpeg4"))
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"ZZZZ"))


def encrypted(path):
    keys = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "0123456789abcdef0123456789abcdef",
        "encryption_kid": "fedcba9876543210fedcba9876543210",
    }
    encode(pictures(), path, encoding=Encoding(container_options=keys))


def very_wide(path):
    frames = (number_picture(i, width=20_000, height=16) for i in range(2))
    encode(frames, path, encoding=Encoding(codec="ffv1"))


def cut_header(path):
    encode(pictures(), path)
    path.write_bytes(path.read_bytes()[:-700])


REFUSED = {
    "empty.mp4": (lambda p: p.touch(), EmptyVideo, "0 bytes"),
    "text.mp4": (lambda p: p.write_text("Dear all,\n" * 99), NotAVideo, "not a video"),
    "noise.mkv": (lambda p: p.write_bytes(os.urandom(5000)), NotAVideo, "not a video"),
    "audio.m4a": (lambda p: with_audio(p, frames=0), NotAVideo, "only audio"),
    "cover.mkv": (lambda p: cover_art(p, frames=0), NotAVideo, "only cover art"),
    "header_only.mkv": (header_only, EmptyVideo, "before the first packet"),
    "header_only.mp4": (header_only, NotAVideo, "no video stream"),
    "cut.mp4": (cut_header, NotAVideo, "cut off"),
    "unknown.avi": (unknown_codec, UnsupportedVideo, "no decoder"),
    "encrypted.mp4": (encrypted, UnsupportedVideo, "encrypted"),
    "wide.mkv": (very_wide, UnsupportedVideo, "20000x16"),
    "folder.mp4": (lambda p: p.mkdir(), (UsageError, EmptyVideo), "folder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_one_line_with_path_and_reason(name, tmp_path):
    write, error, words = REFUSED[name]
    path = tmp_path / name
    write(path)
    for opening in (open_video, lambda p: open_video(p, "pyav")):
        with pytest.raises(error, match=words) as caught:
            opening(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_no_such_file(tmp_path):
    for opening in (open_video, scan_video):
        with pytest.raises(VideoError, match=r"absent\.mp4: no such file"):
            opening(tmp_path / "absent.mp4")
        (tmp_path / "link.mp4").unlink(missing_ok=True)
        (tmp_path / "link.mp4").symlink_to("absent.mp4")
        with pytest.raises(VideoError, match="a link to what is not there"):
            opening(tmp_path / "link.mp4")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="not a regular file"):
        open_video(tmp_path / "pipe.mp4")


def test_sizes_are_limited_before_allocation():
    check_size(16_384, 8_192, "x")
    for size in [(16_385, 16), (16, 16_385), (16_384, 8_193)]:
        with pytest.raises(UnsupportedVideo, match="scale it down"):
            check_size(*size, "x")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"backend": "pyva"}, UnknownName, "did you mean 'pyav'"),
        ({"color": "rec709"}, UnknownName, "legacy601"),
        ({"threads": 0}, UsageError, "1 or more"),
        ({"fps": 25}, UsageError, "own timestamps"),
    ],
)
def test_wrong_arguments(arguments, error, words, made):
    with pytest.raises(error, match=words):
        open_video(made(BY_NAME["h264.mp4"]), **arguments)


NAMES = ["with space.mp4", "ü 视频 🎬.mp4", "100%d.mp4", "concat:a.mp4", "a?b#c|d.mp4", "-i.mp4"]
NAMES += ["n" * 250 + ".mp4", "no_extension", "wrong.txt"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_only_a_name(name, made, tmp_path, monkeypatch):
    data = made(BY_NAME["h264.mp4"]).read_bytes()
    (tmp_path / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, name):
        with open_video(path) as video:
            assert sum(1 for _ in video.frames()) == N


HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:1.2,\n{}\n#EXT-X-ENDLIST\n"
DASH = """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"
profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" mediaPresentationDuration="PT1S"><Period>
<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1000"><BaseURL>{}</BaseURL>
<SegmentBase/></Representation></AdaptationSet></Period></MPD>"""
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"


@pytest.mark.parametrize("name", ["list.mp4", "list.m3u8", "list.ffconcat", "list.mpd", "list.mkv"])
@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile '{}'\n",
        HLS,
        DASH,
        SDP,
        "http://127.0.0.1:{port}/x.mp4\n",
        "[InternetShortcut]\nURL=file://{}\n",
    ],
    ids=["concat", "hls", "dash", "sdp", "url", "shortcut"],
)
def test_a_file_cannot_name_other_files(name, text, made, tmp_path):
    """Neither another file nor an address is opened, whatever the name says."""
    victim = tmp_path / "secret.ts"
    victim.write_bytes(made(BY_NAME["h264.ts"]).read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        path = tmp_path / name
        for target in (str(victim), "secret.ts", f"http://127.0.0.1:{port}/x.ts"):
            path.write_text(text.format(target, port=port))
            with pytest.raises(VideoError, match=name):
                open_video(path)
            with pytest.raises(VideoError, match=name):
                scan_video(path)
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_the_attack_works_without_the_fence(made, tmp_path):
    """Guards the test above: plain FFmpeg does follow the list."""
    (tmp_path / "secret.ts").write_bytes(made(BY_NAME["h264.ts"]).read_bytes())
    path = tmp_path / "list.mp4"
    path.write_text("ffconcat version 1.0\nfile secret.ts\n")
    with av.open(str(path)) as container:
        assert container.format.name == "concat"
        assert sum(1 for _ in container.decode(video=0)) == N


def in_circles(data, turns):
    """A QuickTime file whose index names its first sample `turns` times."""
    out, at = b"", 0
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        body, at = data[at + 8 : at + size], at + size
        if name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
            body = in_circles(body, turns)
        elif name == b"stsc":  # one sample per chunk
            body = struct.pack(">5I", 0, 1, 1, 1, 1)
        elif name == b"stco":  # all of them in one place
            body = struct.pack(">2I", 0, turns) + body[8:12] * turns
        elif name == b"stsz":  # of one size
            first = struct.unpack(">I", body[12:16])[0]
            body = struct.pack(">3I", 0, first, turns)
        elif name == b"stts":  # at one rate
            body = struct.pack(">3I", 0, 1, turns) + body[12:16]
        out += struct.pack(">I4s", len(body) + 8, b"free" if name == b"edts" else name) + body
    return out


def test_an_index_that_leads_in_circles_ends(tmp_path, monkeypatch):
    """Far fewer frames than it promises are read, and nobody takes them for a video."""
    path = tmp_path / "circle.mov"
    encode(pictures(), path, encoding=Encoding(codec="mjpeg", pixel_format="yuvj420p"))
    path.write_bytes(in_circles(path.read_bytes(), 5000))
    monkeypatch.setattr("tubelet.decode.container.SLACK", 1 << 16)
    read = []
    with open_video(path) as video:
        assert video.info.frames == 5000
        with pytest.raises(UnsupportedVideo, match="leads in circles"):
            read.extend(frame.index for frame in video.frames())
    assert N < len(read) < 1000
    with pytest.raises(UnsupportedVideo, match="leads in circles"):
        scan_video(path)


def test_readers_in_threads_do_not_disturb_each_other(made):
    """PyAV releases the GIL: a reader per thread, as workers have."""
    names = ["h264.mp4", "vp9.webm", "hevc.mkv", "mpeg4.avi"]
    for name in names:
        made(BY_NAME[name])
    results = {}

    def read(name):
        with open_video(made(BY_NAME[name])) as video:
            results[name] = [read_number(f.rgb()) for f in video.frames()]

    threads = [threading.Thread(target=read, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {name: list(range(N)) for name in names}


def test_files_are_closed_also_after_errors(made, tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("Dear all,\n" * 99)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        with pytest.raises(TubeletError):
            open_video(text)
        with open_video(made(BY_NAME["h264.mp4"])) as video:
            next(iter(video.frames()))
            next(iter(video.frames()))
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before
