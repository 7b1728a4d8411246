"""Presets of moment retrieval, temporal grounding and captioning."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from tubelet.presets.base import Preset

HERO_CODE = "https://github.com/linjieli222/HERO_Video_Feature_Extractor"
LIGHTHOUSE = "https://github.com/line/lighthouse"
VSLNET = "https://github.com/26hzhang/VSLNet/tree/master/prepare"
I3D_IMAGENET = "i3d_inception_rgb_imagenet.k400_piergiaj"

HERO_UNSURE = (
    "FFmpeg resizes with its bicubic filter to short side 224, here bilinear without antialiasing",
    "an odd margin is cropped one pixel further left or up there",
    "rows of pure repetition, which a container without a stream duration (Matroska) adds there, "
    "are not made",
    "computed in float32 and stored as float16; the original stores what its GPU gave",
)

QVHIGHLIGHTS = Preset(
    name="qvhighlights-slowfast",
    title="QVHighlights (Moment-DETR and after): SlowFast R50 8x8, one row per 2 s",
    models=("slowfast_r50_8x8.k400",),
    fps=Fraction(30),
    frames=32,
    interval=2,
    stride=60,
    length=60,
    tail="repeat-second",
    index="linspace",
    short_side=224,
    crop=224,
    resize="uint8",
    dtype="float16",
    layout="qvhighlights",
    offset="window-start",
    example=(4500, 75),
    sources=(
        f"{HERO_CODE}/blob/main/slowfast/extract_feature/preprocessing.py",
        "https://github.com/jayleicn/moment_detr/issues/19",
    ),
    exact="frame choice at 30 fps (FFmpeg's filter), frame indices of every clip (32 from 0 to "
    "64 * floor(native fps) / 30 - 1, in float32, truncated, clamped to the clip), padding by the "
    "last frame to whole seconds and by the last second to whole clips, ceil(duration / clip) rows",
    unsure=HERO_UNSURE,
)


def _clip(name: str, title: str, *, length: int, rows: int, sources: tuple[str, ...]) -> Preset:
    """The same extractor with another clip length in frames at 30 fps."""
    return replace(
        QVHIGHLIGHTS,
        name=name,
        title=title,
        stride=length,
        length=length,
        example=(4500, rows),
        sources=(*sources, QVHIGHLIGHTS.sources[0]),
    )


HERO = _clip(
    "hero-slowfast",
    "HERO, TVR, How2QA, VIOLIN: SlowFast R50 8x8, one row per 1.5 s",
    length=45,
    rows=100,
    sources=(f"{HERO_CODE}/blob/main/README.md",),
)
CHARADES_SLOWFAST = _clip(
    "charades-sta-slowfast",
    "Charades-STA (QD-DETR and after): SlowFast R50 8x8, one row per second",
    length=30,
    rows=150,
    sources=("https://github.com/wjun0830/QD-DETR/issues/20",),
)
ANET_SLOWFAST = _clip(
    "anet-captions-slowfast",
    "ActivityNet Captions (lighthouse): SlowFast R50 8x8, one row per 2 s",
    length=60,
    rows=75,
    sources=(LIGHTHOUSE,),
)
TACOS_SLOWFAST = _clip(
    "tacos-slowfast",
    "TACoS (lighthouse): SlowFast R50 8x8, one row per 2 s",
    length=60,
    rows=75,
    sources=(LIGHTHOUSE,),
)

JPEG = "the original reads frames back from JPEG files"

CHARADES_I3D = Preset(
    name="charades-sta-i3d",
    title="Charades-STA (VSLNet): I3D RGB, windows of 24 frames at 24 fps, two rows per window",
    models=("i3d_inception_rgb.charades_piergiaj", I3D_IMAGENET),
    fps=Fraction(24),
    frames=24,
    interval=1,
    stride=24,
    tail="backpad-open",
    short_side=226,
    crop=224,
    fit="enlarge",
    resize="uint8",
    keep="time",
    layout="vslnet",
    offset="proportional",
    example=(721, 31),
    sources=(f"{VSLNET}/extract_charades.py", "https://github.com/26hzhang/VSLNet/issues/10"),
    exact="windows of the published script: ceil(N / 24) of them, none reaches the last frame; its "
    "network keeps two time positions of each, so that files hold one row per 0.5 s (--keep time "
    "gives [N, 2, 1024], `pack` writes [2 N, 1024])",
    unsure=(
        JPEG,
        "frames are cropped at their stored size, so results depend on which release of the videos "
        "(original or 480p) is at hand; nobody says which one was used",
        "videos of 24 frames or fewer: there one shorter window, here the last frame repeats",
    ),
)

ANET_I3D = Preset(
    name="anet-captions-i3d",
    title="ActivityNet Captions (VSLNet): I3D RGB, windows of 16 frames, native rate",
    models=(I3D_IMAGENET,),
    frames=16,
    interval=1,
    stride=16,
    tail="backpad-open",
    short_side=224,
    crop=224,
    resize="uint8",
    layout="vslnet",
    offset="proportional",
    example=(3600, 225),
    sources=(f"{VSLNET}/extract_activitynet.py",),
    exact="windows of the published script: ceil(N / 16) of them, none reaches the last frame",
    unsure=(
        JPEG,
        "videos of 10000 frames and more are cut there into pieces of 10000, whose last window is "
        "moved back by one frame; here they are one piece",
        "videos of 16 frames or fewer: there one shorter window, here the last frame repeats",
    ),
)

TACOS_I3D = replace(
    ANET_I3D,
    name="tacos-i3d",
    title="TACoS (VSLNet): I3D RGB, windows of 16 frames, native rate (29.4 fps)",
    sources=(f"{VSLNET}/extract_tacos.py",),
)

TVG_2023 = Preset(
    name="tvg-2023",
    title="De La Jara et al. 2023 (Charades-STA, ActivityNet Captions, YouCookII): windows of the "
    "model's frame count, consecutive frames, native rate",
    models=(
        "i3d_r50_8x8.k400",
        "c2d_nopool_r50_8x8.k400",
        "i3d_nln_r50_8x8.k400",
        "slow_r50_8x8.k400",
        "slowfast_r50_8x8.k400",
        "x3d_s.k400",
        "x3d_m.k400",
        "x3d_l.k400",
        "mvit_v1_b_16x4.k400",
        "mvit_v2_s_16x4.k400",
        "rev_mvit_b_16x4.k400",
    ),
    frames=None,
    interval=1,
    stride=None,
    tail="pad",
    layout="npy",
    offset="proportional",
    example=(9000, 1125),
    sources=(
        "https://doi.org/10.1109/ICCVW60793.2023.00306",
        "https://github.com/Mezosky/Feature-Extractor-SlowFast",
    ),
    exact="windows: NUM_FRAMES consecutive frames (the sampling rate is not applied), no overlap, "
    "ceil(N / NUM_FRAMES) rows, row of a time by t * n * fps / l",
    unsure=(
        "faults of the original are left out: random crops and flips (here the centre crop), tail "
        "windows filled with random frames (here the last frame repeats), the last full window "
        "lost when it ends the video, SlowFast 8x8 run on 8 frames (here 32), channels reversed "
        "for the SSv2 and Charades weights; the published numbers contain them and cannot be had",
        "one window of an 8x8 network lasts 0.27 s instead of the 2.1 s it was trained on",
    ),
)

PRESETS = (
    QVHIGHLIGHTS,
    HERO,
    CHARADES_SLOWFAST,
    ANET_SLOWFAST,
    TACOS_SLOWFAST,
    CHARADES_I3D,
    ANET_I3D,
    TACOS_I3D,
    TVG_2023,
)
