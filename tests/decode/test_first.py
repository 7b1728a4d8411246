"""The reference videos, read by the default reader."""

import numpy as np
import pytest

import tubelet
from tubelet.errors import NotAVideo, VideoError


def test_a_real_video(shared):
    with tubelet.open_video(shared / "videos" / "arm_wrestling.mp4") as video:
        assert (video.info.width, video.info.height, video.info.codec) == (340, 256, "h264")
        times = []
        for frame in video.frames():
            times.append(frame.time_s)
            if frame.index == 0:
                picture = frame.rgb()
                assert picture.shape == (256, 340, 3)
                assert picture.dtype == np.uint8
        assert times == pytest.approx([i / 28 for i in range(280)])
        assert not video.events.damaged


def test_no_video_in_it(tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("This is a letter, not a video.\n" * 50)
    with pytest.raises(NotAVideo, match=r"text\.mp4"):
        tubelet.open_video(text)
    with pytest.raises(VideoError, match="no such file"):
        tubelet.open_video(tmp_path / "absent.mp4")
