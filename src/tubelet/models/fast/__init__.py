"""Networks for inference only: the same numbers as the readable ones, sooner.

    accelerate(model, device="cpu", precision="bf16") -> a network with the same methods and taps

The readable network decides the numbers and stays untouched; `tests/test_fast.py` holds the two
equal. A family has a function here that rebuilds its network from other parts: `conv` for the
convolutional ones, `mvit` for the transformers. A network of another kind is returned as it is.

Float32 rows are within 2e-5 of the readable network's (largest difference over largest value),
as near as that one is to the reference, and do not depend on the clips before and after them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tubelet.models import i3d, mvit, resnet3d, revmvit, slowfast, x3d
from tubelet.models.blocks.conv_norm import StagedNetwork
from tubelet.models.fast.conv import accelerate_conv
from tubelet.models.fast.fused import runs
from tubelet.models.fast.mvit import accelerate_mvit
from tubelet.models.fast.network import FastNetwork, with_origin
from tubelet.models.two_stream import TwoStream

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

FAMILIES: dict[type[nn.Module], Any] = {
    resnet3d.ResNet3D: accelerate_conv,
    slowfast.SlowFast: accelerate_conv,
    x3d.X3D: accelerate_conv,
    i3d.InceptionI3D: accelerate_conv,
    StagedNetwork: accelerate_conv,
    mvit.MViT: accelerate_mvit,
    revmvit.RevMViT: accelerate_mvit,
}
"""Network -> function (model, device=, dtype=) that rebuilds it; it takes clips of that type.

None from it: nothing faster is known for that device."""


def accelerate(model: Any, *, device: str = "cpu", precision: str = "fp32") -> Any:
    """The network to run instead of `model`; `model` itself where there is none.

    The result takes float32 clips and returns float32 tensors whatever the precision inside.
    """
    if type(model) is TwoStream:
        rgb, flow = (
            accelerate(stream, device=device, precision=precision)
            for stream in (model.rgb, model.flow)
        )
        both = rgb is not model.rgb and flow is not model.flow
        return with_origin(TwoStream(rgb, flow).eval(), model) if both else model
    dtype = DTYPES[precision]
    build = FAMILIES.get(type(model))
    if build is None or not runs(device, dtype):
        return model
    network = build(model, device=device, dtype=dtype)
    if network is None:
        return model
    network = network.to(device).eval()
    return FastNetwork(network, like=model, dtype=dtype).eval()
