"""What other implementations compute, stored in tests/data/encoders.

    python -m tests.encoders.vit_peers [--check] [case ...]

Needs transformers, and in $TUBELET_PEERS checkouts of the authors' repositories (VideoMAEv2,
vjepa2, InternVideo), which no test of every day does: what is stored is compared with ours. Names
of cases may follow; without them all are recomputed. `--check` compares instead of writing.
"""

import json
import os
import re
import sys
import types
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from tests.encoders import draw

DATA = Path(__file__).parents[1] / "data" / "encoders"
POINTS = 48
"""Numbers kept of every tap, at equal distances, beside the largest one."""


def sample(value):
    """A tensor as what is stored of it: shape, largest absolute number, some numbers."""
    flat = value.detach().float().flatten()
    at = torch.linspace(0, len(flat) - 1, min(POINTS, len(flat))).long()
    numbers = [float(f"{v:.9g}") for v in flat[at].tolist()]
    return {"shape": list(value.shape), "largest": float(flat.abs().max()), "numbers": numbers}


def distance(ours, stored):
    """Largest difference of a tensor to a stored sample, in parts of its largest number."""
    assert list(ours.shape) == stored["shape"], (list(ours.shape), stored["shape"])
    mine = sample(ours)
    pairs = zip(mine["numbers"], stored["numbers"], strict=True)
    worst = max([abs(a - b) for a, b in pairs] + [abs(mine["largest"] - stored["largest"])])
    return worst / stored["largest"]


def folded(shapes):
    """{key: shape}, with the layers behind the first left out where they repeat it."""
    kept = {}
    for key, shape in shapes.items():
        first = re.sub(r"\b(layer|blocks)\.\d+\.", r"\1.0.", key)
        if first == key or OTHERS.match(key) or shapes.get(first) != shape:
            kept[key] = list(shape)
    return kept


OTHERS = re.compile(r"(vjepa2\.)?(pooler|decoder|predictor)\.")
"""Parts beside the encoder, which have layers of their own; all of them are written out."""


def unfolded(shapes, depth):
    """`folded` shapes with `depth` layers. A pooler's layers have names of their own."""
    found = {}
    for key, shape in shapes.items():
        repeats = re.match(r"(\w+\.)*(layer|blocks)\.0\.", key) and not OTHERS.match(key)
        for i in range(depth if repeats else 1):
            found[re.sub(r"\b(layer|blocks)\.0\.", rf"\1.{i}.", key, count=1)] = tuple(shape)
    return found


@contextmanager
def checkout(name):
    """Modules of an authors' repository, with stand-ins for what they import of timm."""
    root = os.environ.get("TUBELET_PEERS")
    if not root or not (Path(root) / name).is_dir():
        raise ModuleNotFoundError(f"TUBELET_PEERS holds no checkout {name}")
    layers, registry = types.ModuleType("timm.models.layers"), types.ModuleType("registry")
    layers.to_2tuple = lambda x: x if isinstance(x, tuple) else (x, x)
    layers.trunc_normal_, layers.DropPath = torch.nn.init.trunc_normal_, torch.nn.Identity
    layers.drop_path = lambda x, *_: x
    registry.register_model = lambda function: function
    fakes = {"timm": types.ModuleType("timm"), "timm.models": types.ModuleType("timm.models")}
    fakes |= {"timm.models.layers": layers, "timm.models.registry": registry}
    for module in ("flash_attn", "flash_attn.modules", "flash_attn.ops"):
        fakes[module] = types.ModuleType(module)
    for module, names in {
        "flash_attn.modules.mlp": ["FusedMLP"],
        "flash_attn.ops.rms_norm": ["DropoutAddRMSNorm"],
        "flash_attn.flash_attn_interface": ["flash_attn_varlen_qkvpacked_func"],
        "flash_attn.bert_padding": ["unpad_input", "pad_input"],
    }.items():
        fakes[module] = types.ModuleType(module)
        for one in names:
            setattr(fakes[module], one, None)
    fakes["models"] = types.ModuleType("models")  # without what its __init__ imports
    fakes["models"].__path__ = [str(Path(root) / name / "models")]
    before, path = dict(sys.modules), list(sys.path)
    sys.modules.update(fakes)
    sys.path.insert(0, str(Path(root) / name))
    try:
        yield
    finally:
        sys.path[:] = path
        for module in set(sys.modules) - set(before):
            if module.startswith(("timm", "flash_attn", "models", "src", "app")):
                del sys.modules[module]


def videomae_transformers(clip, *, pretrained=False, **config):
    from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification

    kind = VideoMAEForPreTraining if pretrained else VideoMAEForVideoClassification
    about = VideoMAEConfig(**config, use_mean_pooling=not pretrained)
    about._attn_implementation = "eager"
    network = draw.fill(kind(about))
    video = clip.transpose(1, 2)
    if pretrained:
        out = network.videomae(video, output_hidden_states=True)
        last = {"grid": out.last_hidden_state, "pool": out.last_hidden_state.mean(1)}
    else:
        out = network(video, output_hidden_states=True)
        last = {"logits": out.logits, "pool": network.fc_norm(out.hidden_states[-1].mean(1))}
    hidden = {f"block{i}_tokens": h for i, h in enumerate(out.hidden_states[1:])}
    return network, {**hidden, **last}, about.to_dict()


def videomae_authors(clip, **config):
    with checkout("VideoMAEv2"):
        from models.modeling_finetune import VisionTransformer

        norm = partial(torch.nn.LayerNorm, eps=1e-6)
        network = VisionTransformer(qkv_bias=True, norm_layer=norm, **config)
    network = draw.fill(network)
    found = watched(network.blocks, lambda: network(clip))
    return network, {**found, "pool": network.forward_features(clip)}, None


def watched(blocks, call):
    """{"block0_tokens": ..., "logits": what `call` returns}."""
    found = {}
    hooks = [
        block.register_forward_hook(
            lambda _m, _i, out, i=i: found.__setitem__(
                f"block{i}_tokens", out[0] if isinstance(out, tuple) else out
            )
        )
        for i, block in enumerate(blocks)
    ]
    found["logits"] = call()
    for hook in hooks:
        hook.remove()
    return found


def vjepa2_transformers(clip, *, classes=0, **config):
    from transformers import VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2Model

    about = VJEPA2Config(**config, **PREDICTOR, num_labels=classes or 2)
    about._attn_implementation = "eager"
    network = draw.fill((VJEPA2ForVideoClassification if classes else VJEPA2Model)(about))
    encoder = (network.vjepa2 if classes else network).encoder
    video = clip.transpose(1, 2)
    if classes:
        found = watched(encoder.layer, lambda: network(video).logits)
    else:
        found = watched(encoder.layer, lambda: None)
        found = watched(encoder.layer, lambda: network(video, skip_predictor=True))
        del found["logits"]
    grid = encoder.layernorm(found[f"block{len(encoder.layer) - 1}_tokens"])
    pool = network.pooler(grid) if classes else grid.mean(1)
    return network, {**found, "grid": grid, "pool": pool}, about.to_dict()


def vjepa2_meta(clip, *, size, **config):
    with checkout("vjepa2"):
        from src.models.vision_transformer import VisionTransformer

        norm = partial(torch.nn.LayerNorm, eps=1e-6)
        network = VisionTransformer(
            img_size=(size, size), num_frames=16, use_rope=True, norm_layer=norm, **config
        )
    network = draw.fill(network)
    found = watched(network.blocks, lambda: network(clip))
    grid = found.pop("logits")
    return network, {**found, "grid": grid, "pool": grid.mean(1)}, None


def turned(x, pos):
    """The rotation of 2.1, with pairs as complex numbers."""
    half = x.shape[-1] // 2
    rate = 1.0 / 10000 ** (torch.arange(half, dtype=x.dtype) / half)
    angle = pos[..., None] * rate
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


def vjepa2_1(clip, *, size, joined, levels=(2, 5, 8, 11), **config):
    """Meta's blocks of 2 with what app/vjepa_2_1 changes: rotation, scale, embeddings, norms."""
    network = vjepa2_meta(torch.zeros(1, 3, 2, size, size), size=size, **config)[0]
    width, norm = config["embed_dim"], partial(torch.nn.LayerNorm, eps=1e-6)
    network.norm = None
    network.norms_block = torch.nn.ModuleList(norm(width) for _ in levels)
    network.patch_embed_img = torch.nn.Module()
    network.patch_embed_img.proj = torch.nn.Conv3d(3, width, (1, 16, 16), stride=(1, 16, 16))
    network.img_mod_embed = torch.nn.Parameter(torch.zeros(1, 1, width))
    network.video_mod_embed = torch.nn.Parameter(torch.zeros(1, 1, width))
    draw.fill(network)
    picture = clip.shape[2] == 1
    embed, kind = (
        (network.patch_embed_img.proj, network.img_mod_embed)
        if picture
        else (network.patch_embed.proj, network.video_mod_embed)
    )
    patches = embed(clip)
    t, h, w = patches.shape[2:]
    attention = type(network.blocks[0].attn)
    names, places = attention.forward.__globals__, attention.separate_positions
    before, names["rotate_queries_or_keys"] = names["rotate_queries_or_keys"], turned
    attention.separate_positions = lambda *a: scaled(*places(*a), h, w)
    x = patches.flatten(2).transpose(1, 2) + kind

    def run():
        y = x
        for block in network.blocks:
            y = block(y, mask=None, attn_mask=None, T=t, H_patches=h, W_patches=w)
        return y

    found = watched(network.blocks, run)
    names["rotate_queries_or_keys"], attention.separate_positions = before, places
    del found["logits"]
    normed = [
        n(found[f"block{i}_tokens"]) for n, i in zip(network.norms_block, levels, strict=True)
    ]
    found |= {f"level{i}": level for i, level in enumerate(normed)}
    found |= {"hierarchical": torch.cat(normed[-joined:], -1), "grid": normed[-1]}
    return network, {**found, "pool": normed[-1].mean(1)}, None


def scaled(time, row, column, h, w):
    return time, row * (256 // 16 - 1) / (h - 1), column * (256 // 16 - 1) / (w - 1)


def internvideo2(clip, **config):
    with checkout("InternVideo"):
        from models.internvideo2 import InternVideo2

        network = InternVideo2(
            use_flash_attn=False, use_fused_rmsnorm=False, use_fused_mlp=False, drop_path_rate=0.0,
            num_classes=7, **config,
        )  # fmt: skip
    network = draw.fill(network)
    found = watched(network.blocks, lambda: network(clip))
    last = found[f"block{len(network.blocks) - 1}_tokens"]
    pool = network.fc_norm(network.clip_projector(last))
    return network, {**found, "grid": last[:, 1:], "pool": pool}, None


def vjepa2_sizes(width, depth, heads, crop, **more):
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "crop_size")
    return {**dict(zip(names, (width, depth, heads, crop), strict=True)), **more}


PREDICTOR = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}


def videomae_sizes(width, depth, heads, hidden, **more):
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    return {**dict(zip(names, (width, depth, heads, hidden), strict=True)), **more}


SMALL_CLIP = {"image_size": 64, "num_frames": 8, "num_labels": 7}
DECODER = {
    "decoder_hidden_size": 48, "decoder_num_attention_heads": 3, "decoder_num_hidden_layers": 1,
    "decoder_intermediate_size": 64,
}  # fmt: skip

# name: (function, shape of the clip, depth, arguments). The others are slow: released widths.
CASES = {
    "videomae-tiny": (
        videomae_transformers, (2, 3, 8, 64, 64), 3, videomae_sizes(96, 3, 4, 200, **SMALL_CLIP),
    ),
    "videomae-tiny-pretrained": (
        partial(videomae_transformers, pretrained=True), (1, 3, 8, 64, 64), 2,
        videomae_sizes(96, 2, 3, 256, **SMALL_CLIP, **DECODER),
    ),
    # heads of 88 numbers, patches of 14: the giant's, with a quarter of its heads
    "videomae-v2-giant-like": (
        videomae_authors, (1, 3, 16, 224, 224), 2,
        {"patch_size": 14, "embed_dim": 352, "depth": 2, "num_heads": 4, "mlp_ratio": 48 / 11,
         "num_classes": 9},
    ),
    "videomae-s": (
        videomae_authors, (1, 3, 16, 224, 224), 12,
        {"embed_dim": 384, "depth": 12, "num_heads": 6, "num_classes": 710},
    ),
    "videomae-b": (
        videomae_transformers, (1, 3, 16, 224, 224), 12,
        videomae_sizes(768, 12, 12, 3072, num_labels=400),
    ),
    "videomae-l": (
        videomae_transformers, (1, 3, 16, 224, 224), 24,
        videomae_sizes(1024, 24, 16, 4096, num_labels=400),
    ),
    "vjepa2-tiny": (
        vjepa2_transformers, (2, 3, 8, 64, 64), 3, vjepa2_sizes(96, 3, 3, 64, frames_per_clip=8),
    ),
    "vjepa2-tiny-classifier": (
        vjepa2_transformers, (1, 3, 16, 64, 64), 2,
        vjepa2_sizes(96, 2, 2, 64, classes=9, frames_per_clip=16),
    ),
    "vjepa2-meta-tiny": (
        vjepa2_meta, (1, 3, 8, 96, 64), 2,
        {"size": 64, "embed_dim": 88, "depth": 2, "num_heads": 4, "mlp_ratio": 48 / 11},
    ),
    "vjepa2_1-meta-tiny": (
        vjepa2_1, (1, 3, 8, 96, 64), 12,
        {"size": 64, "embed_dim": 64, "depth": 12, "num_heads": 2, "joined": 1},
    ),
    "vjepa2_1-meta-tiny-picture": (
        vjepa2_1, (1, 3, 1, 96, 64), 12,
        {"size": 64, "embed_dim": 64, "depth": 12, "num_heads": 2, "joined": 4},
    ),
    "vjepa2-l": (
        vjepa2_transformers, (1, 3, 16, 256, 256), 24, vjepa2_sizes(1024, 24, 16, 256),
    ),
    "vjepa2-g": (
        vjepa2_meta, (1, 3, 4, 256, 256), 2,
        {"size": 256, "embed_dim": 1408, "depth": 2, "num_heads": 22, "mlp_ratio": 48 / 11},
    ),
    "internvideo2-tiny": (
        internvideo2, (2, 3, 8, 56, 56), 3,
        {"img_size": 56, "embed_dim": 96, "depth": 3, "num_heads": 4, "mlp_ratio": 48 / 11},
    ),
    "internvideo2-s": (
        internvideo2, (1, 3, 8, 224, 224), 12,
        {"embed_dim": 384, "depth": 12, "num_heads": 6, "mlp_ratio": 4},
    ),
    "videomae-v2-g": (
        videomae_authors, (1, 3, 16, 224, 224), 2,
        {"patch_size": 14, "embed_dim": 1408, "depth": 2, "num_heads": 16, "mlp_ratio": 48 / 11,
         "num_classes": 710},
    ),
}  # fmt: skip


@torch.no_grad()
def compute(name):
    """What is stored of a case."""
    function, shape, depth, config = CASES[name]
    network, taps, about = function(draw.clips(shape), **config)
    shapes = folded({key: tuple(v.shape) for key, v in network.state_dict().items()})
    every = {key: tuple(v.shape) for key, v in network.state_dict().items()}
    assert unfolded(shapes, depth) == every, set(unfolded(shapes, depth)) ^ set(every)
    return {
        "clip": list(shape),
        "depth": depth,
        "config": about and {k: v for k, v in about.items() if v is not None},
        "shapes": shapes,
        "taps": {tap: sample(value) for tap, value in taps.items()},
    }


def stored(name):
    return json.loads((DATA / f"{name}.json").read_text("utf-8"))


def check(name):
    """Largest distance of a peer's numbers today to the stored ones."""
    now, then = compute(name)["taps"], stored(name)["taps"]
    worst = 0.0
    for tap, value in then.items():
        pairs = zip(now[tap]["numbers"], value["numbers"], strict=True)
        worst = max(worst, max(abs(a - b) for a, b in pairs) / value["largest"])
    return worst


if __name__ == "__main__":
    chosen = [a for a in sys.argv[1:] if not a.startswith("-")] or list(CASES)
    for case in chosen:
        if "--check" in sys.argv:
            sys.stdout.write(f"{case} {check(case):.1e}\n")
            continue
        DATA.mkdir(exist_ok=True)
        text = json.dumps(compute(case), separators=(",", ":"))
        (DATA / f"{case}.json").write_text(text + "\n", "utf-8")
        sys.stdout.write(f"{case} {len(text)} bytes\n")
