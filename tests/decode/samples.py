"""Files of every kind that readers meet, each with the truth about it.

Frames are numbered in their pixels (`number_picture`), so a reader cannot mistake one for another
unnoticed. Times are those of the container's own resolution.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from av.video.frame import VideoFrame

from tubelet.decode.encode import Encoding, encode
from tubelet.decode.synthetic import number_picture

W, H, N = 64, 48, 30
# Rounding of timestamps by the container, in seconds.
RESOLUTION = {"mkv": 5e-4, "webm": 5e-4, "ts": 1 / 90_000, "mp4": 1e-5, "mov": 1e-5, "avi": 1e-9}


@dataclass(frozen=True)
class Sample:
    """name: also the file's. numbers: frames to be seen, in order. times_s: when, from the
    container's start. size: as delivered. wrong_for: backends that must refuse it."""

    name: str
    write: Callable[[Path], object]
    numbers: tuple[int, ...] = tuple(range(N))
    times_s: tuple[float, ...] = ()
    fps: Fraction = Fraction(25)
    size: tuple[int, int] = (W, H)
    rotation: int = 0
    wrong_for: tuple[str, ...] = ()

    @property
    def tolerance_s(self):
        return RESOLUTION[self.name.rpartition(".")[2]] + 1e-9

    def expected_times(self):
        return self.times_s or tuple(float(i / self.fps) for i in range(len(self.numbers)))


def pictures(count=N, *, width=W, height=H, first=0):
    return (number_picture(first + i, width=width, height=height) for i in range(count))


def numbered(name, *, size=(W, H), times_s=None, **encoding):
    """A sample straight from `encode`."""
    chosen = Encoding(**encoding)

    def write(path):
        encode(pictures(width=size[0], height=size[1]), path, encoding=chosen, times_s=times_s)

    turned = size if chosen.rotation % 180 == 0 else size[::-1]
    start = times_s[0] if times_s else 0
    return Sample(
        name,
        write,
        times_s=tuple(float(t - start) for t in times_s or ()),
        fps=chosen.fps,
        size=turned,
        rotation=chosen.rotation,
        wrong_for=("torchcodec",) if name.endswith((".ts", ".avi")) else (),
    )


LEGAL = {
    "h264": ("mp4", "mkv", "mov", "avi", "ts"),
    "hevc": ("mp4", "mkv", "mov", "ts"),
    "vp9": ("webm", "mkv", "mp4"),
    "av1": ("mp4", "mkv", "webm"),
    "mpeg4": ("mp4", "mkv", "mov", "avi", "ts"),
    "mpeg2": ("mkv", "ts"),
    "mjpeg": ("avi", "mkv", "mov", "mp4"),
    "ffv1": ("mkv", "avi"),
}


def _codecs():
    for codec, containers in LEGAL.items():
        for container in containers:
            pixels = {"mjpeg": "yuvj420p"}.get(codec, "yuv420p")
            frames = 2 if codec in ("h264", "hevc", "mpeg4", "mpeg2") else None
            yield numbered(
                f"{codec}.{container}", codec=codec, pixel_format=pixels, b_frames=frames
            )


def _rates():
    for fps in (Fraction(24000, 1001), Fraction(30000, 1001), Fraction(50), Fraction(60000, 1001)):
        for container in ("mp4", "mkv", "ts"):
            yield numbered(f"{float(fps):.3f}fps.{container}", fps=fps)


IRREGULAR = tuple(
    Fraction(t, 1000) for t in np.cumsum([0, *([40, 7, 90, 33, 250, 20] * 5)])[:N].tolist()
)
LATE = tuple(Fraction(3, 2) + Fraction(i, 25) for i in range(N))


def _odd():
    yield numbered("vfr.mp4", times_s=IRREGULAR, b_frames=2)
    yield numbered("vfr.mkv", times_s=IRREGULAR, b_frames=2)
    yield numbered("vfr.webm", codec="vp9", times_s=IRREGULAR)
    yield numbered("late.mp4", times_s=LATE)
    yield numbered("late.mkv", times_s=LATE)
    yield numbered("late.ts", times_s=LATE)
    open_gop = {"x264-params": "open-gop=1:keyint=8:min-keyint=8:bframes=3:b-adapt=0:scenecut=0"}
    yield numbered("opengop.mp4", options=open_gop)
    yield numbered("opengop.ts", options=open_gop)
    hevc = {"x265-params": "open-gop=1:keyint=8:bframes=3:log-level=none:pools=none"}
    yield numbered("opengop_hevc.mp4", codec="hevc", options=hevc)
    yield numbered("10bit_h264.mp4", pixel_format="yuv420p10le")
    yield numbered("10bit_hevc.mkv", codec="hevc", pixel_format="yuv420p10le")
    yield numbered("10bit_av1.mp4", codec="av1", pixel_format="yuv420p10le")
    yield numbered("422.mkv", pixel_format="yuv422p")
    yield numbered("444.mp4", pixel_format="yuv444p")
    yield numbered("gray.mkv", pixel_format="gray")
    yield numbered("odd_vp9.webm", codec="vp9", size=(65, 49))
    yield numbered("odd_444.mp4", pixel_format="yuv444p", size=(65, 49))
    yield numbered("odd_mpeg4.avi", codec="mpeg4", size=(65, 49))
    for angle in (90, 180, 270):
        yield numbered(f"rotated{angle}.mp4", rotation=angle)
        yield numbered(f"rotated{angle}.mkv", rotation=angle)


def remux(source, target, *, shift=0, skip=None, options=None, streams=1):
    """Copy packets; timestamps moved by `shift` seconds, packets refused by `skip` left out."""
    with (
        av.open(str(source)) as old,
        av.open(str(target), "w", options=options or {}) as new,
    ):
        copies = {s.index: new.add_stream_from_template(s) for s in old.streams}
        for index, packet in enumerate(p for p in old.demux() if p.size):
            if skip and skip(index):
                continue
            moved = int(Fraction(shift) / packet.time_base)
            packet.pts += moved
            if packet.dts is not None:
                packet.dts += moved
            packet.stream = copies[packet.stream.index]
            new.mux(packet)


def _edit_list(b_frames):
    """mp4 whose edit list starts to show at frame 10: the ones before it are decoded, not shown."""

    def write(path):
        whole = path.with_name(f"whole_{path.name}")
        encode(pictures(), whole, encoding=Encoding(b_frames=b_frames))
        options = {"avoid_negative_ts": "disabled", "use_editlist": "1"}
        remux(whole, path, shift=Fraction(-10, 25), options=options)

    return write


def with_audio(path, *, video_at=Fraction(0), codec="h264", frames=N):
    """Sound from 0 s and numbered frames from `video_at` s."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25) if frames else None
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        if video is not None:
            video.width, video.height = W, H
            video.thread_count = 1
            video.codec_context.time_base = Fraction(1, 1000)
        for i, picture in enumerate(pictures(frames)):
            frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.time_base = Fraction(1, 1000)
            frame.pts = int((video_at + Fraction(i, 25)) * 1000)
            container.mux(video.encode(frame))
        if video is not None:
            container.mux(video.encode(None))
        for i in range(0, 32_000, 1024):
            frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            frame.planes[0].update(bytes(4096))
            frame.sample_rate, frame.pts, frame.time_base = 16_000, i, Fraction(1, 16_000)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def two_streams(path, *, default=0):
    """A large stream with numbers from 100 on beside a small one from 0 on; one is "default"."""
    with av.open(str(path), "w") as container:
        sizes = [(W, H), (2 * W, 2 * H)]
        streams = []
        for width, height in sizes:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.thread_count = width, height, 1
            stream.disposition = Disposition.default if default == len(streams) else 0
            streams.append(stream)
        for i in range(N):
            for k, (stream, (width, height)) in enumerate(zip(streams, sizes, strict=True)):
                picture = number_picture(100 * k + i, width=width, height=height)
                frame = VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
        for stream in streams:
            container.mux(stream.encode(None))


def cover_art(path, *, frames=N):
    """mkv with a picture as attachment, which FFmpeg shows as a video stream, larger than the
    video itself."""
    picture = path.with_suffix(".jpg")
    save_picture(number_picture(999, width=640, height=480), picture)
    with av.open(str(path), "w") as container:
        if frames:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.thread_count = W, H, 1
        else:
            stream = container.add_stream("aac", rate=16_000, layout="mono")
        container.add_attachment("cover.jpg", "image/jpeg", picture.read_bytes())
        for p in pictures(frames):
            frame = VideoFrame.from_ndarray(p, format="rgb24").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        if not frames:
            frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            frame.planes[0].update(bytes(4096))
            frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def save_picture(picture, path):
    """One picture file, .jpg or .png."""
    codec, pixels = ("mjpeg", "yuvj420p") if path.suffix == ".jpg" else ("png", "rgb24")
    context = av.CodecContext.create(codec, "w")
    context.width, context.height = picture.shape[1], picture.shape[0]
    context.pix_fmt, context.time_base = pixels, Fraction(1, 25)
    frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
    path.write_bytes(b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)]))


def lying_avi(frames):
    """An AVI whose headers promise `frames` frames: dwTotalFrames of avih, dwLength of strh."""

    def write(path):
        encode(pictures(), path, encoding=Encoding(codec="mpeg4", b_frames=0))
        data = bytearray(path.read_bytes())
        promise = frames.to_bytes(4, "little")
        avih, strh = data.index(b"avih"), data.index(b"strh")
        data[avih + 8 + 16 : avih + 8 + 20] = promise
        data[strh + 8 + 32 : strh + 8 + 36] = promise
        path.write_bytes(bytes(data))

    return write


def lying_mp4(factor):
    """An mp4 whose mvhd, tkhd and mdhd durations are `factor` times the truth."""

    def write(path):
        encode(pictures(), path)
        data = bytearray(path.read_bytes())
        for box, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
            at = data.index(box) + offset
            true = int.from_bytes(data[at : at + 4], "big")
            data[at : at + 4] = int(true * factor).to_bytes(4, "big")
        path.write_bytes(bytes(data))

    return write


def _special():
    after_cut = tuple(range(10, N))
    avi = cut = ("torchcodec",)
    yield Sample("editlist.mp4", _edit_list(0), numbers=after_cut, wrong_for=cut)
    yield Sample("editlist_b.mp4", _edit_list(2), numbers=after_cut, wrong_for=cut)
    late = tuple(1.5 + i / 25 for i in range(N))
    yield Sample("late_video.mkv", lambda p: with_audio(p, video_at=Fraction(3, 2)), times_s=late)
    yield Sample("late_video.mp4", lambda p: with_audio(p, video_at=Fraction(3, 2)), times_s=late)
    yield Sample("cover.mkv", cover_art)
    yield Sample("more_promised.avi", lying_avi(9999), wrong_for=avi)
    yield Sample("fewer_promised.avi", lying_avi(3), wrong_for=avi)
    yield Sample("longer_promised.mp4", lying_mp4(10))
    yield Sample("shorter_promised.mp4", lying_mp4(0.1))
    yield Sample("two_streams.mkv", two_streams)
    second = tuple(range(100, 100 + N))
    large = (2 * W, 2 * H)
    yield Sample("second.mkv", lambda p: two_streams(p, default=1), numbers=second, size=large)


SAMPLES = [*_codecs(), *_rates(), *_odd(), *_special()]
BY_NAME = {sample.name: sample for sample in SAMPLES}
