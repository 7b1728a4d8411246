"""Other implementations of the encoders, where they are installed.

    python -m tests.encoders.peers [CASE ...]      write their numbers to tests/data/encoders

Each function returns a `Peer`. torchvision, transformers, hiera-transformer, mmaction2 (with
mmengine and mmcv-lite below 2.2) and pytorchvideo come from PyPI; MIL-NCE's network is the authors'
`s3dg.py`, to be found on the path.
"""

import importlib
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from tests.encoders import numbers
from tests.encoders.cases import CASES
from torch import Tensor, nn

PLACES = {"stem": "stem"} | {f"res{i + 2}": f"layer{i + 1}" for i in range(4)}
MM_PLACES = {f"res{i + 2}": f"layer{i + 1}" for i in range(4)} | {"stem": "maxpool"}


@dataclass
class Peer:
    """model: in eval mode. run: (model, clip) to {tap: tensor}. taps: our tap -> its module, whose
    output `shape` turns into ours. rename: its names to those of released files; None leaves one
    out."""

    model: nn.Module
    run: Callable[[nn.Module, Tensor], Mapping[str, Tensor]]
    taps: Mapping[str, str] = field(default_factory=dict)
    shape: Callable[[str, Any], Tensor] = lambda tap, value: value
    rename: Callable[[str], str | None] = lambda key: key


def declare_torchvision():
    """torchvision's wheel expects CUDA operators, which a CPU torch lacks; models need none."""
    if "torchvision" not in sys.modules:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor a, Tensor b, float c) -> Tensor")
        library.define("qnms(Tensor a, Tensor b, float c) -> Tensor")
        KEPT.append(library)


KEPT: list[Any] = []


def logits(model, clip):
    return {"logits": model(clip)}


def torchvision_video(name):
    declare_torchvision()
    video = importlib.import_module("torchvision.models.video")
    model = getattr(video, name)(weights=None)
    if name == "s3d":
        taps = {ours: f"features.{place}" for place, ours in S3D.items()}
        return Peer(model, logits, taps)
    return Peer(model, logits, {**PLACES, "pool": "avgpool"}, flat_pool)


def flat_pool(tap, value):
    return value.flatten(1) if tap == "pool" else value


S3D = {
    0: "stem", 1: "pool2a", 2: "conv2b", 3: "conv2c", 4: "pool3a", 5: "mixed3b", 6: "mixed3c",
    7: "pool4a", 8: "mixed4b", 12: "mixed4f", 13: "pool5a", 14: "mixed5b", 15: "mixed5c",
}  # fmt: skip


def tsp(blocks):
    """TSP's R(2+1)D: torchvision's network with the inner width of each kernel, epsilon 1e-3."""
    declare_torchvision()
    resnet = importlib.import_module("torchvision.models.video.resnet")

    class Conv2Plus1D(resnet.Conv2Plus1D):
        def __init__(self, in_planes, out_planes, midplanes, stride=1, padding=1):
            midplanes = in_planes * out_planes * 27 // (in_planes * 9 + 3 * out_planes)
            super().__init__(in_planes, out_planes, midplanes, stride, padding)

    model = resnet.VideoResNet(
        block=resnet.BasicBlock, conv_makers=[Conv2Plus1D] * 4, layers=blocks,
        stem=resnet.R2Plus1dStem,
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = 1e-3
    return Peer(model, no_logits, {**PLACES, "pool": "avgpool"}, flat_pool, tsp_name)


def no_logits(model, clip):
    model(clip)  # what is wanted comes from the hooks
    return {}


def tsp_name(key):
    """Behind `features.`; the classifier in the place of TSP's first head."""
    return key.replace("fc.", "fc1.") if key.startswith("fc.") else f"features.{key}"


def mmaction2(name):
    """One module of mmaction2, whose own `mmaction.models` cannot be imported from its wheel."""
    import mmaction

    root = mmaction.__path__[0]
    for package in ("mmaction.models", "mmaction.models.backbones", "mmaction.models.common"):
        if package not in sys.modules:
            module = types.ModuleType(package)
            module.__path__ = [f"{root}/{package.partition('.')[2].replace('.', '/')}"]
            sys.modules[package] = module
    return importlib.import_module(f"mmaction.models.{name}")


class Recognizer(nn.Module):
    """A backbone of mmaction2 with the classifier of its I3DHead."""

    def __init__(self, backbone, width, classes=400):
        super().__init__()
        self.backbone = backbone
        self.cls_head = nn.Module()
        self.cls_head.fc_cls = nn.Linear(width, classes)

    def forward(self, clip):
        pool = self.backbone(clip).mean(dim=(2, 3, 4))
        return {"pool": pool, "logits": self.cls_head.fc_cls(pool)}


def mmaction2_csn(depth, mode):
    csn = mmaction2("backbones.resnet3d_csn")
    backbone = csn.ResNet3dCSN(
        depth=depth, pretrained=None, pretrained2d=False, with_pool2=False, bottleneck_mode=mode,
        norm_eval=False, zero_init_residual=False,
    )  # fmt: skip
    taps = {ours: f"backbone.{theirs}" for ours, theirs in MM_PLACES.items()}
    return Peer(Recognizer(backbone, 2048), lambda net, clip: net(clip), taps)


def mmaction2_r2plus1d(depth):
    # mmcv looks the layer up in mmengine's own registry when no config sets a scope.
    layers = importlib.import_module("mmengine.registry").MODELS
    layers.register_module(module=mmaction2("common.conv2plus1d").Conv2plus1d, force=True)
    module = mmaction2("backbones.resnet2plus1d")
    backbone = module.ResNet2Plus1d(
        depth=depth, pretrained=None, pretrained2d=False, norm_eval=False,
        conv_cfg={"type": "Conv2plus1d"}, norm_cfg={"type": "BN3d", "eps": 1e-3},
        conv1_kernel=(3, 7, 7), conv1_stride_t=1, pool1_stride_t=1, inflate=(1, 1, 1, 1),
        spatial_strides=(1, 2, 2, 2), temporal_strides=(1, 2, 2, 2), zero_init_residual=False,
    )  # fmt: skip
    taps = {ours: f"backbone.{theirs}" for ours, theirs in MM_PLACES.items()}
    return Peer(Recognizer(backbone, 512), lambda net, clip: net(clip), taps)


def pytorchvideo_csn():
    declare_torchvision()
    hub = importlib.import_module("pytorchvideo.models.hub")
    taps = {"stem": "blocks.0"} | {f"res{i + 1}": f"blocks.{i}" for i in range(1, 5)}
    return Peer(hub.csn_r101(), logits, taps)


def milnce():
    import numpy as np

    file = numbers.DATA.parent / "words.npy"
    np.save(file, np.array(["a", "video"]))
    try:
        model = importlib.import_module("s3dg").S3D(str(file), 512)
    finally:
        file.unlink()
    taps = {"stem": "conv1", "pool2a": "maxpool_2a", "conv2b": "conv_2b", "conv2c": "gating",
            "pool3a": "maxpool_3a", "mixed3b": "mixed_3b", "mixed3c": "mixed_3c",
            "pool4a": "maxpool_4a", "mixed4b": "mixed_4b", "mixed4f": "mixed_4f",
            "pool5a": "maxpool_5a", "mixed5b": "mixed_5b", "mixed5c": "mixed_5c"}  # fmt: skip

    def run(net, clip):
        found = net(clip)
        return {"pool": found["mixed_5c"], "logits": found["video_embedding"]}

    def shape(tap, value):
        return value[:, :, 1:, 1:, 1:] if tap == "stem" else value

    return Peer(model, run, taps, shape)


def channels_first(tap, value):
    return value.movedim(-1, 1)


def torchvision_swin(width, depths, heads, window=(8, 7, 7)):
    declare_torchvision()
    swin = importlib.import_module("torchvision.models.video.swin_transformer")
    model = swin.SwinTransformer3d(
        patch_size=[2, 4, 4], embed_dim=width, depths=depths, num_heads=heads,
        window_size=list(window),
    )  # fmt: skip
    taps, number = {"stem": "patch_embed", "grid": "norm"}, 0
    for stage, depth in enumerate(depths):
        for i in range(depth):
            taps[f"block{number}"] = f"features.{2 * stage}.{i}"
            number += 1
    return Peer(model, logits, taps, channels_first)


def mmaction2_swin(width, depths, heads):
    swin = mmaction2("backbones.swin")
    backbone = swin.SwinTransformer3D(
        arch={"embed_dims": width, "depths": depths, "num_heads": heads}, patch_size=(2, 4, 4),
        window_size=(8, 7, 7), pretrained=None, pretrained2d=False, drop_path_rate=0.0,
    )  # fmt: skip
    taps, number = {"stem": "backbone.patch_embed"}, 0
    for stage, depth in enumerate(depths):
        for i in range(depth):
            taps[f"block{number}"] = f"backbone.layers.{stage}.blocks.{i}"
            number += 1
    model = Recognizer(backbone, 8 * width)
    return Peer(model, lambda net, clip: net(clip), taps, lambda tap, x: x.movedim(-1, 1)
                if tap != "stem" else x)  # fmt: skip


def hiera_video(size, width, heads, depths):
    declare_torchvision()
    hiera = importlib.import_module("hiera")
    model = hiera.Hiera(
        input_size=tuple(size), num_classes=400, q_stride=(1, 2, 2), mask_unit_size=(1, 8, 8),
        patch_kernel=(3, 7, 7), patch_stride=(2, 4, 4), patch_padding=(1, 3, 3),
        sep_pos_embed=True, embed_dim=width, num_heads=heads, stages=tuple(depths),
    )  # fmt: skip

    def run(net, clip):
        _, maps = net(clip, return_intermediates=True)
        ends = [sum(depths[: i + 1]) - 1 for i in range(len(depths))]
        found = {f"block{end}": value.movedim(-1, 1) for end, value in zip(ends, maps, strict=True)}
        return {**found, "grid": found[f"block{ends[-1]}"]}

    return Peer(model, run, {"pool": "norm", "logits": "head.projection"})


def timesformer(size, frames, width, depth, heads):
    declare_torchvision()  # transformers imports it where it is installed
    hub = importlib.import_module("transformers")
    config = hub.TimesformerConfig(
        image_size=size, num_frames=frames, hidden_size=width, num_hidden_layers=depth,
        num_attention_heads=heads, intermediate_size=4 * width, num_labels=400,
    )  # fmt: skip
    model = hub.TimesformerForVideoClassification(config)
    start = "timesformer.encoder.layer"
    taps = {f"block{i}_tokens": f"{start}.{i}" for i in range(depth)}

    def time_slowest(tap, value):
        first, patches = value[0][:, :1], value[0][:, 1:]  # theirs: places, then times
        patches = patches.unflatten(1, (-1, frames)).transpose(1, 2).flatten(1, 2)
        return torch.cat([first, patches], dim=1)

    return Peer(model, hub_logits, taps, time_slowest)


def hub_logits(model, clip):
    return {"logits": model(clip.transpose(1, 2)).logits}


def vivit(size, frames, width, depth, heads):
    """transformers' names of today as the published files have them."""
    declare_torchvision()  # transformers imports it where it is installed
    hub = importlib.import_module("transformers")
    config = hub.VivitConfig(
        image_size=size, num_frames=frames, hidden_size=width, num_hidden_layers=depth,
        num_attention_heads=heads, intermediate_size=4 * width, num_labels=400,
    )  # fmt: skip
    model = hub.VivitForVideoClassification(config)
    taps = {f"block{i}_tokens": f"vivit.layers.{i}" for i in range(depth)}
    old = {
        ".layers.": ".encoder.layer.", ".q_proj.": ".attention.query.", ".k_proj.":
        ".attention.key.", ".v_proj.": ".attention.value.", ".o_proj.": ".output.dense.",
        ".mlp.fc1.": ".intermediate.dense.", ".mlp.fc2.": ".output.dense.",
    }  # fmt: skip

    def rename(key):
        for new, published in old.items():
            key = key.replace(new, published)
        return key

    return Peer(model, hub_logits, taps, lambda tap, value: value, rename)


def videoprism(size, frames, width, heads, spatial, temporal, text=False, resize=False):
    declare_torchvision()  # transformers imports it where it is installed
    hub = importlib.import_module("transformers")
    config = hub.VideoPrismVisionConfig(
        image_size=size, num_frames=frames, hidden_size=width, num_attention_heads=heads,
        intermediate_size=4 * width, num_spatial_layers=spatial, num_temporal_layers=temporal,
    )  # fmt: skip
    config._attn_implementation = "eager"  # the cap is in no other one
    model = (hub.VideoPrismVideoModel if text else hub.VideoPrismVisionModel)(config)
    start = "vision_model." if text else ""

    def run(net, clip):
        found = net(clip.transpose(1, 2), interpolate_pos_encoding=resize)
        shape = (clip.shape[2], clip.shape[3] // 18, clip.shape[4] // 18)
        tokens = found.last_hidden_state
        if text:
            return {"pool": found.pooler_output[:, 0],
                    "auxiliary1": tokens.unflatten(1, shape).movedim(-1, 1)}  # fmt: skip
        return {"grid": tokens.unflatten(1, shape).movedim(-1, 1), "pool": tokens.mean(dim=1)}

    taps = {f"spatial{i}": f"{start}spatial_layers.{i}" for i in range(spatial)}

    def shape(tap, value):  # [B T, N, C], one clip
        side = (size // 18, size // 18) if not resize else (6, 3)
        return value.unflatten(1, side).movedim(-1, 0)[None]

    return Peer(model, run, taps, shape)


def compute(case, dtype=torch.float32):
    """(keys in the released layout, {tap: tensor}) of the other implementation."""
    peer = globals()[case.peer](**case.arguments)
    model = peer.model
    model.eval()  # as a statement: some of mmaction2's return None
    state = model.state_dict()
    names = {key: peer.rename(key) for key in state}
    keys = [
        [name, list(state[key].shape), str(state[key].dtype).removeprefix("torch.")]
        for key, name in names.items()
        if name is not None
    ]
    drawn = numbers.weights(keys)
    kept = {key: drawn[name] for key, name in names.items() if name is not None}
    kept = {key: value for key, value in kept.items() if value.is_floating_point()}
    model.load_state_dict(kept, strict=False)
    found: dict[str, Tensor] = {}

    def hook(tap):
        def keep(module, inputs, output):
            found[tap] = peer.shape(tap, output).detach().clone()

        return keep

    model.to(dtype)
    modules = dict(model.named_modules())
    handles = [modules[place].register_forward_hook(hook(tap)) for tap, place in peer.taps.items()]
    with torch.inference_mode():
        found |= peer.run(model, numbers.clip(case.shape).to(dtype))
    for handle in handles:
        handle.remove()
    return keys, found


def main(names):
    for name in names or CASES:
        case = CASES[name]
        keys, exact = compute(case, torch.float64)
        _, single = compute(case)
        noise = {
            tap: float((single[tap] - exact[tap]).abs().max() / exact[tap].abs().max())
            for tap in exact
        }
        numbers.write(name, keys, {tap: value.numpy() for tap, value in exact.items()})
        worst = max(noise, key=noise.__getitem__)
        sys.stdout.write(f"{name}: float32 against float64 at most {noise[worst]:.1e} ({worst})\n")


if __name__ == "__main__":
    main(sys.argv[1:])
