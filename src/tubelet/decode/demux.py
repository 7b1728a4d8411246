"""The one loop over the packets of a video, for reading, counting, planning and parts.

container ─▶ packets of the video stream alone, in the order of the file
               │ empty ones are counted, not given
               └ to the end, or to the container's first error: `stopped` tells which
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard
from av.video.stream import VideoStream

from tubelet.decode.container import check_end, reason
from tubelet.decode.packets import FrameCounter
from tubelet.errors import UnsupportedVideo

SAMPLE_TABLE = "mov,mp4,m4a,3gp,3g2,mj2"
"""Containers whose index lists every sample of the file before the first one is read."""


class Demuxer:
    """Packets of `stream`. Other streams are dropped within FFmpeg: the first sample of a sound
    track that lies beyond the end of a truncated file would end the video as well.

    places: packets so far, empty ones too. listed: as many as an index promises that is exact; None
    where there is none. stopped: why reading ended early, if it did. counter: frames per packet.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, path: str) -> None:
        self._container, self._stream, self._path = container, stream, path
        self._size = os.stat(path).st_size
        self._read = 0
        self.places = 0
        self.stopped: str | None = None
        self.counter = FrameCounter(stream.codec_context.name)
        self.listed: int | None = None
        # A fragmented file has its first fragment's samples there, and no count in its header.
        if container.format.name == SAMPLE_TABLE and stream.frames:
            self.listed = len(stream.index_entries)

    @property
    def lost(self) -> int:
        """Samples of the index that did not come. To be asked after the last packet."""
        return max(0, (self.listed or 0) - self.places)

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Those with contents. An empty one stands for a frame that the recorder left out; given
        to a decoder it would end the video. UnsupportedVideo for encrypted ones."""
        try:
            for packet in self._all():
                if packet.pos is not None:
                    self.places += 1
                if packet.has_sidedata("encryption_info"):
                    raise UnsupportedVideo(f"{self._path}: encrypted; decrypt it first")
                self._read += packet.size
                check_end(self._read, self._size, self._path)
                if packet.size:
                    yield packet
        except av.error.FFmpegError as error:
            self.stopped = reason(error)

    def _all(self) -> Iterator[Packet[VideoStream]]:
        """PyAV's demux loop knows the streams of its start only; it fails with IndexError when
        another one turns up later, as in transport streams, and is started again."""
        while True:
            for other in self._container.streams:
                if other is not self._stream:
                    other.discard = Discard.all
            try:
                yield from self._container.demux(self._stream)
            except IndexError:
                continue
            return
