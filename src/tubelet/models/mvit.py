"""Multiscale Vision Transformers, v1 and v2.

v1: Fan et al., "Multiscale Vision Transformers", ICCV 2021, arXiv 2104.11227.
v2: Li et al., "MViTv2", CVPR 2022, arXiv 2112.01526.

MViT-S of v2, 16 x 224 x 224 (v2 table 1); a stage starts where the queries are pooled:

    stage   blocks    grid of tokens   channels   heads    pooling of k and v
    stem    3x7x7 convolution, stride 2,4,4  ->  8 x 56 x 56 tokens
    1       1         8 x 56 x 56        96         1       1,8,8
    2       2         8 x 28 x 28       192         2       1,4,4
    3       11        8 x 14 x 14       384         4       1,2,2
    4       2         8 x  7 x  7       768         8       1,1,1

              v1                                   v2
    position  added to the tokens, for space       relative, in every attention, decomposed
              and time apart                       over height, width and time
    channels  grow in the MLP before a stage       grow in the first attention of a stage
    queries   pooled where a stage starts          pooled in every block, and added to the output
    skip path of a block that pools: max pooling in both

Axes: B batch, N tokens (class token first, where there is one), C channels, T time, H height,
W width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from torch import Tensor, nn

from tubelet.models.blocks.layers import (
    check_size,
    check_taps,
    classifier,
    normed_mean,
    resized_clip,
    scores,
    transformer_taps,
)
from tubelet.models.blocks.mvit_schedule import (
    ONE,
    TWO,
    MViTSchedule,
    Pooling,
    Widths,
    adaptive_strides,
    drop_path_schedule,
    image,
    patch_grid,
    pooling_schedule,
    staged,
    width_schedule,
)
from tubelet.models.blocks.pooling_attention import (
    AttentionVariant,
    Drop,
    Mlp,
    PoolingAttention,
    SkipPool,
    init_weights,
    layer_norm,
)
from tubelet.models.blocks.positions import Tokens, rebuilt, to_map
from tubelet.types import ClipSpec

Activation = Literal["softmax", "sigmoid", "none"]


@dataclass(frozen=True)
class Config:
    """class_token: the pooled feature is its token; otherwise the mean of the tokens.

    widen_in_attention: channels grow in the attention of a block (v2) or in its MLP (v1).
    mean_pooling: the norm of the mean patch token, whether there is a class token or not.
    """

    clip: ClipSpec
    num_classes: int
    trunk: MViTSchedule
    activation: Activation = "softmax"
    class_token: bool = True
    attention: AttentionVariant = field(default_factory=AttentionVariant)
    widen_in_attention: bool = False
    mean_pooling: bool = False


class Block(nn.Module):
    """Figure 3 of v1: x [B, N, C] to [B, N', C'].

    x -> norm -> pooling attention -> (+) -> norm -> MLP -> (+)
      '-> (widen) -> (max pool) ------'  '-> (widen, v1) ---'

    Widening, a linear layer on the normed tokens, replaces the skip path where channels grow.
    """

    def __init__(
        self, widths: Widths, *, pooling: Pooling, config: Config, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        dim, hidden = widths.dim_attention, int(widths.dim_attention * config.trunk.mlp_ratio)
        self.norm_attention = layer_norm(widths.dim)
        self.attention = PoolingAttention(
            widths.dim,
            dim,
            heads=widths.heads,
            pooling=pooling,
            qkv_bias=config.trunk.qkv_bias,
            class_token=config.class_token,
            variant=config.attention,
        )
        self.norm_mlp = layer_norm(dim)
        self.mlp = Mlp(dim, hidden, widths.dim_out)
        self.drop = Drop(path=drop_path, rate=config.trunk.dropout)
        self.widen_in_attention = config.widen_in_attention
        grows = widths.dim != widths.dim_out
        self.widen = nn.Linear(widths.dim, widths.dim_out) if grows else None
        pools = pooling.q is not None and max(pooling.q.stride) > 1
        self.pool_skip = (
            SkipPool(pooling.q.stride, grid=pooling.grid, class_token=config.class_token)
            if pools and pooling.q
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm_attention(x)
        if self.widen is not None and self.widen_in_attention:
            x = self.widen(normed)
        x = self.pool_skip(x) + self.drop(self.attention(normed))
        normed = self.norm_mlp(x)
        if self.widen is not None and not self.widen_in_attention:
            x = self.widen(normed)
        return x + self.drop(self.mlp(normed))


class MViT(nn.Module):
    """Both versions; `Config` tells them apart. Satisfies `types.VideoModel`.

    Taps: "stem" and "block0" ... are maps [B, C, T', H', W'] without the class token,
    "block0_tokens" ... all tokens [B, N, C], "grid" the normed patch tokens of the last block.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.clip = config.clip
        self.num_classes = config.num_classes
        self.activation: Activation = config.activation
        trunk = config.trunk
        grid = patch_grid(trunk, config.clip)
        schedule = pooling_schedule(trunk, grid)
        widths = width_schedule(trunk, in_attention=config.widen_in_attention)
        self.grids = [pooling.q_grid for pooling in schedule]
        self.prefix = int(config.class_token)
        self.width = widths[-1].dim_out
        self.taps = transformer_taps(trunk.depth)

        self.patch_embed = patch_embedding(trunk, config.clip.channels)
        self.tokens = Tokens(trunk, grid=grid, class_token=config.class_token)
        self.blocks = nn.ModuleList(
            Block(width, pooling=pooling, config=config, drop_path=path)
            for width, pooling, path in zip(
                widths, schedule, drop_path_schedule(trunk), strict=True
            )
        )
        self.norm = layer_norm(self.width)
        self.classifier = classifier(self.width, config.num_classes)
        init_weights(self)

    def features(self, clip: Tensor, taps: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """clip [B, 3, T, H, W] of the size of `self.clip` to the named taps.

        "pool" [B, width] is the class token, or the mean of "grid" [B, width, T', H', W'].
        Raises ClipError, UnknownName.
        """
        check_taps(taps, self.taps)
        check_size(clip, self.clip)
        found: dict[str, Tensor] = {"stem": self.patch_embed(clip)}
        x = self.tokens(found["stem"])
        for i, (block, grid) in enumerate(zip(self.blocks, self.grids, strict=True)):
            x = block(x)
            if f"block{i}_tokens" in taps:
                found[f"block{i}_tokens"] = x
            if f"block{i}" in taps:
                found[f"block{i}"] = to_map(x[:, self.prefix :], grid)
        found["pool"], cells = self._pool(x)
        if "grid" in taps:
            found["grid"] = to_map(cells, self.grids[-1])
        if "dense_logits" in taps:
            found["dense_logits"] = self.classifier(found["pool"])
        return {name: found[name] for name in taps}

    def _pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, N, C] of the last block to the feature [B, C] and the normed patch tokens."""
        if self.config.mean_pooling:
            return normed_mean(x[:, self.prefix :], self.norm)
        x = self.norm(x)
        return (x[:, 0], x[:, 1:]) if self.prefix else (x.mean(dim=1), x)

    def classify(self, pool: Tensor) -> Tensor:
        """Logits [B, classes] of "pool" [B, D]."""
        return self.classifier(pool)

    def adapt_to(self, names: Collection[str]) -> None:
        """Leave out the pools that a checkpoint with these names of ours does not have.

        Early versions of the reference did not pool keys and values of stride one, whatever the
        kernel, and some released files are of that time. Only whole pools of stride one go.
        """
        kept = dict(self.config.trunk.kv_strides)
        for i, block in enumerate(cast(Sequence[Block], self.blocks)):
            attention = block.attention
            there = any(name.startswith(f"blocks.{i}.attention.pool_k.") for name in names)
            if kept.get(i) == ONE and not there:
                attention.pool_k, attention.pool_v = nn.Identity(), nn.Identity()
                del kept[i]
        trunk = replace(self.config.trunk, kv_strides=kept)
        self.config = replace(self.config, trunk=trunk)

    def resized(self, *, frames: int | None = None, crop: int | None = None) -> MViT:
        """The same weights for another size of clip; None keeps one. Raises UsageError."""
        return rebuilt(self, MViT(resized(self.config, frames=frames, crop=crop)))

    def forward(self, clip: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.classify(self.features(clip)["pool"])

    def predict(self, clip: Tensor) -> Tensor:
        """Scores [B, classes]: the activation of the logits."""
        return scores(self(clip), self.activation)


def patch_embedding(trunk: MViTSchedule, channels: int) -> nn.Conv3d:
    """The stem: [B, 3, T, H, W] to patches [B, C, T', H', W']; images are clips of one frame."""
    return nn.Conv3d(
        channels,
        trunk.embed_dim,
        trunk.patch.size,
        stride=trunk.patch.stride,
        padding=trunk.patch_padding,
    )


def resized(config: Config, *, frames: int | None = None, crop: int | None = None) -> Config:
    """The same network built for another size of clip; the short side keeps its ratio."""
    return replace(config, clip=resized_clip(config.clip, frames=frames, crop=crop))


# Variants.

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
IMAGE = ClipSpec(1, 1, 256, 224, mean=IMAGENET["mean"], std=IMAGENET["std"])
CLIP_16X4 = ClipSpec(16, 4, 256, 224)
CLIP_32X3 = ClipSpec(32, 3, 256, 224)
CLIP_40X3 = ClipSpec(40, 3, 312, 312, mean=IMAGENET["mean"], std=IMAGENET["std"])
V2_VIDEO = AttentionVariant(rel_spatial=True, rel_temporal=True, residual_pooling=True)
V2_IMAGE = AttentionVariant(rel_spatial=True, residual_pooling=True)


def v1(trunk: MViTSchedule, clip: ClipSpec, num_classes: int) -> Config:
    """Absolute positions; channels grow in the MLP."""
    position = "joint" if clip.frames == 1 else "separate"
    return Config(clip, num_classes, replace(trunk, position=position))


def v2(trunk: MViTSchedule, clip: ClipSpec, num_classes: int) -> Config:
    """Relative positions, residual pooling; channels grow in the attention."""
    attention = V2_IMAGE if clip.frames == 1 else V2_VIDEO
    return Config(clip, num_classes, trunk, attention=attention, widen_in_attention=True)


def v2_image(trunk: MViTSchedule, num_classes: int = 1000) -> Config:
    return replace(v2(image(trunk), IMAGE, num_classes), class_token=False)


def maskfeat(trunk: MViTSchedule, *, residual_pooling: bool) -> Config:
    """The networks that are fine-tuned in MaskFeat (2112.09133)."""
    attention = replace(V2_VIDEO, residual_pooling=residual_pooling)
    config = replace(v2(trunk, CLIP_16X4, 400), attention=attention)
    return replace(config, widen_in_attention=False, mean_pooling=True)


def pretrain(config: Config) -> Config:
    """MaskFeat before fine-tuning: the last stage keeps its grid; there are no classes."""
    trunk = config.trunk
    last = max(block for block, stride in trunk.q_strides.items() if stride == TWO)
    q_strides = {**trunk.q_strides, last: ONE}
    kv_strides = adaptive_strides(trunk.depth, q_strides, first=trunk.kv_strides[0])
    trunk = replace(trunk, q_strides=q_strides, kv_strides=kv_strides)
    return replace(config, trunk=trunk, num_classes=0)


SMALL = staged((1, 2, 11, 2), kv=(1, 8, 8), every_block=True)
BASE = staged((2, 3, 16, 3), kv=(1, 8, 8), every_block=True)
LARGE = staged((2, 6, 36, 4), kv=(1, 8, 8), dim=144, heads=2, every_block=True)
TINY_IMAGE = staged((1, 2, 5, 2), kv=(1, 4, 4), every_block=True)
SMALL_IMAGE = staged((1, 2, 11, 2), kv=(1, 4, 4), every_block=True)
BASE_IMAGE = staged((2, 3, 16, 3), kv=(1, 4, 4), every_block=True)
LARGE_IMAGE = staged((2, 6, 36, 4), kv=(1, 4, 4), dim=144, heads=2, every_block=True)
HUGE_IMAGE = staged((4, 8, 60, 8), kv=(1, 4, 4), dim=192, heads=3, every_block=True)
V1_BASE = staged((1, 2, 11, 2), kv=(1, 8, 8))
V1_BASE_24 = replace(staged((2, 3, 16, 3), kv=(1, 8, 8)), pool_kernel=None)

VARIANTS: dict[str, Config] = {
    "mvit_v1_b_16x4": v1(V1_BASE, CLIP_16X4, 400),
    # PySlowFast's configuration has 24 blocks and kernels of stride + 1; the paper's and
    # pytorchvideo's 32x3 has 16.
    "mvit_v1_b_32x3": v1(V1_BASE_24, CLIP_32X3, 400),
    "mvit_v1_b16_32x3": v1(V1_BASE, CLIP_32X3, 400),
    "mvit_v1_b_16": v1(image(staged((1, 2, 11, 2), kv=(1, 4, 4))), IMAGE, 1000),
    "mvit_v2_s_16x4": v2(SMALL, CLIP_16X4, 400),
    "mvit_v2_b_32x3": v2(BASE, CLIP_32X3, 400),
    "mvit_v2_l_40x3": v2(LARGE, CLIP_40X3, 400),
    "mvit_v2_t": v2_image(TINY_IMAGE),
    "mvit_v2_s": v2_image(SMALL_IMAGE),
    "mvit_v2_b": v2_image(BASE_IMAGE),
    # Channels grow in the MLP, as in v1.
    "mvit_v2_l": replace(v2_image(LARGE_IMAGE), widen_in_attention=False),
    # Trained on ImageNet-21k, with a class token.
    "mvit_v2_b_cls": v2(image(BASE_IMAGE), IMAGE, 19168),
    "mvit_v2_l_cls": v2(image(LARGE_IMAGE), IMAGE, 19168),
    "mvit_v2_h_cls": v2(image(HUGE_IMAGE), IMAGE, 19168),
    "mvit_v2_s_16x4_maskfeat": maskfeat(SMALL, residual_pooling=True),
    "mvit_v2_l_16x4_maskfeat": maskfeat(LARGE, residual_pooling=False),
    "mvit_v2_s_16x4_maskfeat_pretrain": pretrain(maskfeat(SMALL, residual_pooling=True)),
    "mvit_v2_l_16x4_maskfeat_pretrain": pretrain(maskfeat(LARGE, residual_pooling=False)),
}


def build(config: Config) -> nn.Module:
    return MViT(config)
