"""Presets of temporal action localisation, segmentation and video anomaly detection."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from tubelet.presets.base import Preset

I3D_RGB = "i3d_inception_rgb_imagenet.k400_piergiaj"
TWO_STREAM = "i3d_inception_two_stream.imagenet_k400_piergiaj"
TVL1_LEVELS = (
    "the published flow was made by another build of TV-L1 and kept as images of 256 levels, "
    "mostly JPEG; here OpenCV's, with the levels and without JPEG"
)
OPENTAD = "https://github.com/sming256/OpenTAD/blob/main/tools/prepare_data"
ANY_FLOW = (
    "how their flow was made and rounded; taken here: TV-L1 in 256 levels of +-20 pixels (another "
    "--flow or --flow-rounding, or the RGB half alone with -m, override it)"
)

EGO4D = Preset(
    name="ego4d-slowfast-r101",
    title="Ego4D (MQ, NLQ): SlowFast R101 8x8, 32 frames every 16 at 30 fps, back-padded",
    models=("slowfast_r101_8x8.k400_ptv",),
    fps=Fraction(30),
    frames=32,
    interval=1,
    stride=16,
    tail="backpad",
    short_side=256,
    crop=256,
    tap="head_pool",
    layout="ego4d",
    offset="half-window",
    example=(39, 2),
    sources=(
        "https://ego4d-data.org/docs/data/features/",
        "https://github.com/facebookresearch/Ego4d/blob/main/ego4d/features/configs/"
        "slowfast_r101_8x8.yaml",
    ),
    exact="frame indices, row count and preprocessing; 39 frames give [0, 31] and [7, 38]; the "
    "mean over the head's four windows of 7 x 7 cells, as PyTorchVideo's network leaves it "
    "(`pool`, the mean over all 8 x 8 cells, differs by 4 % of its length on the reference's "
    "clips)",
    unsure=(
        "videos below 32 frames: the reference spreads them over 32 slots, here the last repeats",
        "OpenTAD's table states 16 frames for these files; its own configuration and the "
        "publisher's documentation say 32",
    ),
)

EPIC = Preset(
    name="epic-kitchens-slowfast",
    title="EPIC-Kitchens-100 (ActionFormer, TriDet): SlowFast, 32 frames every 16 at 30 fps",
    models=("slowfast_r50_8x8",),
    fps=Fraction(30),
    frames=32,
    interval=1,
    stride=16,
    tail="backpad",
    layout="actionformer",
    offset="half-window",
    example=(49565, 3097),
    sources=(
        "https://github.com/happyharrycn/actionformer_release",
        "https://github.com/dingfengshi/TriDet/issues/14",
    ),
    exact="row count: P01_01 (49565 frames at 30 fps) has the published 3097 rows, which the rule "
    "`drop` (3096) does not give",
    unsure=(
        "the weights, trained on EPIC-Kitchens-100, must be brought (--weights)",
        "whether the last window is moved back or padded: both give 3097 rows",
        "resize and crop: the extractor, a modified PySlowFast, was not released "
        "(https://github.com/happyharrycn/actionformer_release/issues/7)",
    ),
)

THUMOS_I3D = Preset(
    name="thumos-i3d",
    title="THUMOS14 (ActionFormer, TriDet, OpenTAD): two-stream I3D, 16 frames every 4",
    models=(TWO_STREAM, I3D_RGB),
    flow="tvl1",
    flow_rounding="uint8",
    frames=16,
    interval=1,
    stride=4,
    tail="drop",
    short_side=256,
    long_side=340,
    fit="stretch",
    crop=224,
    resize="uint8",
    layout="actionformer",
    offset="half-window",
    example=(5094, 1270),
    sources=(
        "https://github.com/happyharrycn/actionformer_release",
        "https://github.com/Finspire13/pytorch-i3d-feature-extraction",
        "https://github.com/happyharrycn/actionformer_release/issues/5",
    ),
    exact="window positions and row count of the script that ActionFormer points to; 1024 columns "
    "of RGB, then 1024 of flow in 256 levels of +-20 pixels",
    unsure=(
        TVL1_LEVELS,
        "a published file of 169.79 s (5094 frames) has 1269 rows, the script's own formula 1270",
        "which of the script's crops (centre, ten crops, squashed) made the files; the centre crop "
        "of 340x256 is taken here (https://github.com/happyharrycn/actionformer_release/issues/150)",
        "the script resizes with an antialiasing filter, here bilinear without",
    ),
)

THUMOS_SLOWFAST = Preset(
    name="thumos-slowfast-r50",
    title="THUMOS14 (OpenTAD): SlowFast R50 8x8, 32 frames every 4, native rate",
    models=("slowfast_r50_8x8.k400",),
    frames=32,
    interval=1,
    stride=4,
    tail="pad",
    layout="opentad",
    offset="half-window",
    example=(5094, 1267),
    sources=(f"{OPENTAD}/thumos/README.md",),
    exact="window, interval and stride as the table of OpenTAD states them",
    unsure=(
        "the tail rule and the crop are not documented; a consumer cuts to its annotations",
        "which release of the weights was used (PySlowFast's are taken here)",
    ),
)

ANET_SLOWFAST = Preset(
    name="anet-slowfast-r50",
    title="ActivityNet-1.3 (OpenTAD): SlowFast R50 8x8, 32 frames every 8 at 15 fps",
    models=("slowfast_r50_8x8.k400",),
    fps=Fraction(15),
    frames=32,
    interval=1,
    stride=8,
    tail="pad",
    layout="opentad",
    offset="half-window",
    example=(1800, 222),
    sources=(f"{OPENTAD}/activitynet/README.md",),
    exact="window, interval, stride and rate as the table of OpenTAD states them",
    unsure=(
        "made from copies re-encoded by FFmpeg at 15 fps, short side 256: pixels differ by that "
        "encoding",
        "the tail rule and the crop are not documented",
    ),
)

ANET_I3D = Preset(
    name="anet-i3d",
    title="ActivityNet-1.3 (ActionFormer): two-stream I3D, 16 frames every 16 at 25 fps",
    models=(TWO_STREAM, I3D_RGB),
    flow="tvl1",
    flow_rounding="uint8",
    fps=Fraction(25),
    frames=16,
    interval=1,
    stride=16,
    tail="drop",
    layout="actionformer",
    offset="half-window",
    example=(3000, 187),
    sources=("https://github.com/happyharrycn/actionformer_release",),
    exact="window, stride and rate: one row per 0.64 s; 1024 columns of RGB, then 1024 of flow",
    unsure=(TVL1_LEVELS, "the tail rule, the crop and how 25 fps were made are not documented"),
)

HACS = replace(
    ANET_SLOWFAST,
    name="hacs-slowfast-r101",
    title="HACS (OpenTAD): SlowFast R101 8x8 tuned on HACS, 32 frames every 8 at 15 fps",
    models=("slowfast_r101_8x8",),
    sources=(f"{OPENTAD}/hacs/README.md",),
    unsure=(
        "the weights, tuned on HACS, must be brought (--weights)",
        "the tail rule and the crop are not documented",
    ),
)

HACS_SLOWONLY = Preset(
    name="hacs-slowonly",
    title="HACS (mmaction2): class scores of Kinetics-700, SlowOnly R50 8x8, 100 clips",
    models=("slowonly_imagenet_pretrained_r50_16xb16_8x8x1_steplr_150e.kinetics700_rgb_mm1",),
    frames=8,
    interval=8,
    stride=None,
    tail="uniform",
    rows=100,
    short_side=256,
    crop=256,
    resize="uint8",
    logits=True,
    tap="logits",
    layout="mmaction2",
    offset="proportional",
    example=(3000, 100),
    sources=("https://github.com/open-mmlab/mmaction2/blob/main/tools/data/hacs/README.md",),
    exact="places of the 100 clips (mmaction2's SampleFrames in test mode) and short videos that "
    "start over; scores before softmax, 100 x 700",
    unsure=("the centre crop may lie one pixel further left or up there",),
)

UNAV = Preset(
    name="unav-i3d",
    title="UnAV-100: two-stream I3D by video_features, 24 frames every 8 at 25 fps",
    models=(
        "i3d_inception_two_stream.imagenet_k400_hassony2",
        "i3d_inception_rgb_imagenet.k400_hassony2",
        TWO_STREAM,
        I3D_RGB,
    ),
    flow="tvl1",
    flow_rounding="uint8",
    fps=Fraction(25),
    frames=24,
    interval=1,
    stride=8,
    length=25,
    tail="drop",
    short_side=256,
    crop=224,
    resize="uint8",
    layout="npy",
    offset="half-window",
    example=(1000, 122),
    sources=(
        "https://github.com/ttgeng233/UnAV/issues/7",
        "https://github.com/v-iashin/video_features",
    ),
    exact="row count and pairs: the extractor wants 25 frames, uses 24 and the flows to the next; "
    "1024 columns of RGB, then 1024 of flow in 256 levels of +-20 pixels",
    unsure=(
        "its flow is RAFT with weights of its own; --flow raft:weights=FILE takes torchvision's, "
        "and without it this is TV-L1",
        "video_features re-encodes the video at 25 fps and resizes with antialiasing",
    ),
)

WEAKLY = Preset(
    name="weakly-supervised-i3d",
    title="Weakly supervised localisation: two-stream I3D, segments of 16 frames at 25 fps",
    models=(TWO_STREAM, I3D_RGB),
    flow="tvl1",
    flow_rounding="uint8",
    fps=Fraction(25),
    frames=16,
    interval=1,
    stride=16,
    tail="drop",
    layout="npy",
    offset="half-window",
    example=(201, 12),
    sources=(
        "https://github.com/Pilhyeon/Learning-Action-Completeness-from-Points/issues/7",
        "https://github.com/sujoyp/wtalc-pytorch/issues/5",
    ),
    exact="segments and row count (201 frames give 12 rows); 1024 columns of RGB, then 1024 of "
    "flow",
    unsure=(ANY_FLOW, "resize and crop differ between the papers that share these settings"),
)

XD_VIOLENCE = replace(
    WEAKLY,
    name="xd-violence-i3d",
    title="XD-Violence: I3D RGB, segments of 16 frames at 24 fps",
    models=(I3D_RGB, TWO_STREAM),
    fps=Fraction(24),
    sources=("https://github.com/JustinYuu/MACIL_SD/issues/3",),
    exact="segments and row count",
    unsure=(
        "the published files hold five crops of each video as five files; here one centre crop",
        "flow is published apart and rarely used: -m names the network of both streams",
    ),
)

MS_TCN = Preset(
    name="ms-tcn-i3d",
    title="MS-TCN (50Salads, GTEA, Breakfast): two-stream I3D of 21 frames around every frame",
    models=(TWO_STREAM, I3D_RGB),
    flow="tvl1",
    flow_rounding="uint8",
    frames=21,
    interval=1,
    stride=1,
    tail="center-zero",
    layout="ms-tcn",
    offset="proportional",
    example=(300, 300),
    sources=(
        "https://github.com/yabufarha/ms-tcn/issues/34",
        "https://github.com/yabufarha/ms-tcn/issues/3",
    ),
    exact="row count (one per frame) and frames [t - 10, t + 10], by the authors' own words; 1024 "
    "columns of RGB, then 1024 of flow",
    unsure=(
        ANY_FLOW,
        "another group counts 7 frames to each side "
        "(https://github.com/cmhungsteve/SSTDA/issues/5)",
        "their zeros at both ends may have been added before (black, as here) or after "
        "normalisation (grey)",
        "annotations of 50Salads are some frames shorter than its videos "
        "(https://github.com/yabufarha/ms-tcn/issues/44)",
        "resize and crop",
    ),
)


CHARADES = Preset(
    name="charades-i3d",
    title="Charades (OpenTAD): I3D RGB tuned on Charades, a row every 8 frames at 24 fps",
    models=("i3d_inception_rgb.charades_piergiaj", I3D_RGB),
    fps=Fraction(24),
    frames=16,
    interval=1,
    stride=8,
    tail="drop",
    layout="opentad",
    offset="window-start",
    example=(720, 89),
    sources=(
        f"{OPENTAD}/charades/README.md",
        "https://github.com/sming256/OpenTAD/blob/main/configs/_base_/datasets/charades/"
        "features_i3d_pad.py",
    ),
    exact="rate and stride as the table of OpenTAD states them: one row per 1/3 s; the row of a "
    "time counts from the window's start (`offset_frames=0` of its configuration)",
    unsure=(
        "the length of a window: 16 frames here, two time positions of the network, as its head "
        "averages; files with this stride may also come from running the network, whose own stride "
        "is 8 frames, over long stretches at once: their rows then see more frames",
        "the tail rule, resize and crop are not documented",
    ),
)

EVERY_FRAME = Preset(
    name="slowfast-every-frame",
    title="The slowfast_feature_extractor of tridivb: SlowFast R50 8x8, a row per frame",
    models=("slowfast_r50_8x8.k400",),
    frames=32,
    interval=1,
    stride=1,
    tail="center-mean",
    short_side=256,
    long_side=256,
    fit="stretch",
    crop=256,
    resize="uint8",
    tap="head_pool",
    layout="npy",
    offset="proportional",
    example=(300, 300),
    sources=(
        "https://github.com/tridivb/slowfast_feature_extractor/blob/master/datasets/videoset.py",
        "https://github.com/tridivb/slowfast_feature_extractor/blob/master/models/head_helper.py",
    ),
    exact="windows of frames [i - 16, i + 15] around every frame i, filled up at both ends with "
    "zeros behind the normalisation; frames stretched to 256 x 256; the mean over the head's four "
    "windows of 7 x 7 cells",
    unsure=(
        "MoviePy makes IN_FPS frames a second there (60 in the example configuration, with an "
        "OUT_FPS of the same); here the video's own, --fps changes it",
        "frames read from image files are BGR there, those of videos RGB; here always RGB",
        "the configuration says SAMPLING_RATE 2, which is not applied there nor here",
    ),
)


def _r101(preset: Preset) -> Preset:
    """The same with the deeper network, as OpenTAD's tables offer."""
    return replace(
        preset,
        name=preset.name.replace("r50", "r101"),
        title=preset.title.replace("R50", "R101"),
        models=("slowfast_r101_8x8.k400_ptv",),
        unsure=(*preset.unsure, "the zoo's R101 8x8 is pytorchvideo's"),
    )


PRESETS = (
    EGO4D,
    EPIC,
    THUMOS_I3D,
    THUMOS_SLOWFAST,
    _r101(THUMOS_SLOWFAST),
    ANET_I3D,
    ANET_SLOWFAST,
    _r101(ANET_SLOWFAST),
    HACS,
    HACS_SLOWONLY,
    UNAV,
    WEAKLY,
    XD_VIOLENCE,
    MS_TCN,
    CHARADES,
    EVERY_FRAME,
)
