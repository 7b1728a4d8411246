"""What overlapping windows share: frames are prepared once, frame-wise stages run once, and the
rows are those of whole clips, byte for byte."""

import gc
import pickle

import pytest
import torch

import tubelet.clips.modality
from tests_support import tiny
from tiny import TinyModel
from tubelet.clips.windows import WindowConfig
from tubelet.extraction.extractor import Extractor, Options
from tubelet.extraction.pipeline import extract_video
from tubelet.models import resnet3d
from tubelet.models.blocks.resnet import C2D, I3D, SLOW, trunk
from tubelet.models.resnet3d import Config, ResNet3D
from tubelet.types import ClipSpec

CLIP = ClipSpec(frames=8, interval=2, short_side=64, crop=64)
VIDEO = "synthetic:frames=60,fps=30,width=80,height=64"


def network(times, *, time_pool=1):
    torch.manual_seed(0)
    config = Config(CLIP, trunk(times, width=16), time_pool=time_pool, num_classes=5)
    return resnet3d.build(config).eval()


KINDS = {
    "slow": (network, (SLOW,), {}, ("res3", 1)),
    "c2d": (network, (C2D,), {"time_pool": 2}, ("res5", 2)),
    "c2d without pool": (network, (C2D,), {}, ("res5", 1)),
}


def extractor(
    model, *, stride, runtime="fast", precision="fp32", taps=("pool",), tail="pad", batch=1
):
    return Extractor(
        model,
        window=WindowConfig(8, 2, stride, tail=tail),
        options=Options(taps=taps, precision=precision, logits=True),
        device="cpu",
        runtime=runtime,
        batch_size=batch,
    )


def without_maps(shared):
    """The same extractor, every clip whole."""
    plain = pickle.loads(pickle.dumps(shared))
    plain.maps = None
    return plain


def assert_same_bytes(a, b):
    assert len(a.values) >= 5
    assert a.values.tobytes() == b.values.tobytes()
    assert a.logits.tobytes() == b.logits.tobytes()
    for tap in a.taps:
        assert a.taps[tap].tobytes() == b.taps[tap].tobytes()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_whole_clips(kind, precision):
    make, arguments, options, (stage, group) = KINDS[kind]
    shared = extractor(make(*arguments, **options), stride=4, precision=precision, taps=("res5",))
    if shared.runtime != "fast":
        pytest.skip(f"this machine has no fast networks in {precision}")
    assert (shared.maps.stage, shared.maps.group) == (stage, group)
    rows = shared(VIDEO)
    assert_same_bytes(rows, without_maps(shared)(VIDEO))
    assert rows.provenance["made_with"]["frame_maps"] == stage
    assert shared.maps.computed <= 30 // group  # every second frame of 60


@pytest.mark.parametrize("tail", ["pad", "loop", "zero", "backpad", "drop"])
@pytest.mark.parametrize("stride", [2, 3, 5, 10])
def test_every_stride_and_tail(stride, tail):
    """Stride 3: every second window shares; 10: pairs do not meet, so C2D shares up to res2."""
    shared = extractor(network(C2D, time_pool=2), stride=stride, tail=tail, batch=2)
    if shared.runtime != "fast":
        pytest.skip("this machine has no fast networks")
    assert shared.maps.stage == ("res5" if stride * 2 % 8 == 0 else "res2")
    assert_same_bytes(shared(VIDEO), without_maps(shared)(VIDEO))


def test_where_nothing_is_shared():
    slow = network(SLOW)
    assert extractor(slow, stride=16).maps is None  # no overlap
    assert extractor(slow, stride=4, runtime="reference").maps is None
    assert extractor(network(I3D), stride=4).maps is None  # its stem has a kernel in time
    assert ResNet3D(resnet3d.VARIANTS["c2d_nln_r50_8x8"]).frame_wise()[-1] == ("res2", 1)


def test_a_tap_inside_the_shared_stages_moves_their_end():
    shared = extractor(network(SLOW), stride=4, taps=("res2",))
    if shared.maps is None:
        pytest.skip("this machine has no fast networks")
    assert shared.maps.stage == "res2"
    assert_same_bytes(shared(VIDEO), without_maps(shared)(VIDEO))


def test_maps_live_as_long_as_their_frames():
    shared = extractor(network(SLOW), stride=4)
    if shared.maps is None:
        pytest.skip("this machine has no fast networks")
    rows = shared.stream("synthetic:frames=400,fps=30,width=80,height=64")
    most = max(len(shared.maps) for _ in rows)
    assert 8 <= most <= 16  # a span has 8 frames
    gc.collect()
    assert len(shared.maps) == 0


def test_each_frame_is_prepared_once(monkeypatch):
    """Stride = span / 4: four windows hold a frame. Two models of one view share it too."""
    prepared = []
    real = tubelet.clips.modality.prepare_frame

    def counting(frame, view):
        prepared.append(frame.index)
        return real(frame, view)

    monkeypatch.setattr(tubelet.clips.modality, "prepare_frame", counting)
    window = WindowConfig(8, 2, 4)
    models = [tiny(window=window), tiny(model=TinyModel(seed=1), window=window)]
    features, _ = extract_video(VIDEO, models)
    assert len(features.values) == 12
    assert sorted(prepared) == [*range(0, 60, 2), 59]  # the last one pads
