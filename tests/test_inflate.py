"""Inflation: the reference's numbers, and the property that defines it."""

import pytest
import torch
import torch.nn.functional as F

from tubelet.errors import KeyMismatch, WeightsError
from tubelet.models import i3d, mvit, resnet3d
from tubelet.models.weights.inflate import inflate, inflate_kernel
from tubelet.models.weights.layouts import pyslowfast_mvit
from tubelet.models.weights.load import load_into, save

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def norm_tensors(name, width, generator):
    yield f"{name}.weight", torch.rand(width, generator=generator) * 0.4 + 0.8
    yield f"{name}.bias", torch.randn(width, generator=generator) * 0.05
    yield f"{name}.running_mean", torch.randn(width, generator=generator) * 0.1
    yield f"{name}.running_var", torch.rand(width, generator=generator) + 0.5


def kernel(shape, generator):
    fan_in = shape[1] * shape[2] * shape[3]
    return torch.randn(shape, generator=generator) * (1.2 / fan_in**0.5)


def resnet_weights(depth=50, classes=1000):
    """A random ResNet under torchvision's names, which are timm's too."""
    g = torch.Generator().manual_seed(0)
    out = {"conv1.weight": kernel((64, 3, 7, 7), g), **dict(norm_tensors("bn1", 64, g))}
    inputs = 64
    for stage, count in enumerate(DEPTHS[depth]):
        inner = 64 * 2**stage
        for i in range(count):
            at = f"layer{stage + 1}.{i}"
            for j, (a, b, k) in enumerate(
                [(inputs, inner, 1), (inner, inner, 3), (inner, inner * 4, 1)], start=1
            ):
                out[f"{at}.conv{j}.weight"] = kernel((b, a, k, k), g)
                out.update(norm_tensors(f"{at}.bn{j}", b, g))
            if i == 0:
                out[f"{at}.downsample.0.weight"] = kernel((inner * 4, inputs, 1, 1), g)
                out.update(norm_tensors(f"{at}.downsample.1", inner * 4, g))
            inputs = inner * 4
    out["fc.weight"] = torch.randn(classes, inputs, generator=g) * 0.01
    out["fc.bias"] = torch.zeros(classes)
    return out


def normed(x, w, name, eps=1e-5):
    mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
    return F.batch_norm(x, mean, var, w.get(f"{name}.weight"), w[f"{name}.bias"], eps=eps)


def resnet_2d(x, w):
    """torchvision's ResNet (stride in the 3 x 3), as functions of its weights: stages' maps."""
    x = F.relu(normed(F.conv2d(x, w["conv1.weight"], stride=2, padding=3), w, "bn1"))
    x = F.max_pool2d(x, 3, 2, 1)
    maps = []
    for stage in range(4):
        i = 0
        while f"layer{stage + 1}.{i}.conv1.weight" in w:
            at, stride = f"layer{stage + 1}.{i}", 2 if stage and not i else 1
            y = F.relu(normed(F.conv2d(x, w[f"{at}.conv1.weight"]), w, f"{at}.bn1"))
            y = F.conv2d(y, w[f"{at}.conv2.weight"], stride=stride, padding=1)
            y = F.relu(normed(y, w, f"{at}.bn2"))
            y = normed(F.conv2d(y, w[f"{at}.conv3.weight"]), w, f"{at}.bn3")
            if not i:
                x = F.conv2d(x, w[f"{at}.downsample.0.weight"], stride=stride)
                x = normed(x, w, f"{at}.downsample.1")
            x, i = F.relu(x + y), i + 1
        maps.append(x)
    return maps


def slim_names():
    """(place in TF-slim's graph, kernel shape [H, W, I, O]) of Inception-v1."""
    yield "Conv2d_1a_7x7", (7, 7, 3, 64)
    yield "Conv2d_2b_1x1", (1, 1, 64, 64)
    yield "Conv2d_2c_3x3", (3, 3, 64, 192)
    for name, (inputs, (a, r3, b, r5, c, d)) in i3d.MIXED.items():
        block = f"Mixed_{name[-2:]}"
        yield f"{block}/Branch_0/Conv2d_0a_1x1", (1, 1, inputs, a)
        yield f"{block}/Branch_1/Conv2d_0a_1x1", (1, 1, inputs, r3)
        yield f"{block}/Branch_1/Conv2d_0b_3x3", (3, 3, r3, b)
        yield f"{block}/Branch_2/Conv2d_0a_1x1", (1, 1, inputs, r5)
        # The released graph misnames this one in Mixed_5b.
        place = "0a" if name == "mixed5b" else "0b"
        yield f"{block}/Branch_2/Conv2d_{place}_3x3", (3, 3, r5, c)
        yield f"{block}/Branch_3/Conv2d_0b_1x1", (1, 1, inputs, d)


def slim_weights():
    g = torch.Generator().manual_seed(1)
    out = {}
    for place, shape in slim_names():
        at = f"InceptionV1/{place}"
        fan_in = shape[0] * shape[1] * shape[2]
        out[f"{at}/weights"] = torch.randn(shape, generator=g) * (1.4 / fan_in**0.5)
        out[f"{at}/BatchNorm/beta"] = torch.randn(shape[3], generator=g) * 0.05
        out[f"{at}/BatchNorm/moving_mean"] = torch.randn(shape[3], generator=g) * 0.1
        out[f"{at}/BatchNorm/moving_variance"] = torch.rand(shape[3], generator=g) + 0.5
    out["InceptionV1/Logits/Conv2d_0c_1x1/weights"] = torch.zeros(1, 1, 1024, 1001)
    out["InceptionV1/Logits/Conv2d_0c_1x1/biases"] = torch.zeros(1001)
    return out


def same(x, kernel, stride, value=0.0):
    pads = i3d.same_padding(x.shape[2:], (kernel, kernel), (stride, stride))
    return F.pad(x, pads, value=value)


def inception_2d(x, w):
    """TF-slim's Inception-v1 up to Mixed_5c, as a function of its weights."""

    def unit(x, place, stride=1):
        at = f"InceptionV1/{place}"
        k = w[f"{at}/weights"].permute(3, 2, 0, 1)
        x = F.conv2d(same(x, k.shape[2], stride), k, stride=stride)
        mean, var = w[f"{at}/BatchNorm/moving_mean"], w[f"{at}/BatchNorm/moving_variance"]
        return F.relu(F.batch_norm(x, mean, var, None, w[f"{at}/BatchNorm/beta"], eps=1e-3))

    def pool(x, kernel, stride):
        return F.max_pool2d(same(x, kernel, stride, float("-inf")), kernel, stride)

    x = pool(unit(x, "Conv2d_1a_7x7", 2), 3, 2)
    x = pool(unit(unit(x, "Conv2d_2b_1x1"), "Conv2d_2c_3x3"), 3, 2)
    for name in i3d.MIXED:
        if name == "mixed4b":
            x = pool(x, 3, 2)
        if name == "mixed5b":
            x = pool(x, 2, 2)
        at = f"Mixed_{name[-2:]}"
        place = "0a" if name == "mixed5b" else "0b"
        one = unit(unit(x, f"{at}/Branch_1/Conv2d_0a_1x1"), f"{at}/Branch_1/Conv2d_0b_3x3")
        two = unit(x, f"{at}/Branch_2/Conv2d_0a_1x1")
        two = unit(two, f"{at}/Branch_2/Conv2d_{place}_3x3")
        three = unit(F.max_pool2d(x, 3, 1, 1), f"{at}/Branch_3/Conv2d_0b_1x1")
        x = torch.cat([unit(x, f"{at}/Branch_0/Conv2d_0a_1x1"), one, two, three], dim=1)
    return x


def boring(frames, side, seed=3):
    picture = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return picture, picture[:, :, None].expand(-1, -1, frames, -1, -1)


def assert_close(got, want):
    assert (got - want).abs().max() <= 2e-5 * want.abs().max()


# Frames so many that the middle of the last map sees no padding.
@pytest.mark.parametrize(
    ("arch", "frames"), [("c2d_r50_8x8", 8), ("slow_r50_8x8", 20), ("i3d_r50_8x8", 40)]
)
def test_a_boring_video_gives_the_picture_s_activations(arch, frames):
    weights = resnet_weights()
    model = resnet3d.build(resnet3d.VARIANTS[arch]).eval()
    report = inflate(weights, model)
    assert set(report.left) - {k for k in report.left if "num_batches" in k} == {
        "classifier.weight",
        "classifier.bias",
    }
    picture, video = boring(frames, 32)
    with torch.no_grad():
        maps = resnet_2d(picture, weights)
        found = model.features(video, ("res2", "res3", "res4", "res5"))
    for want, got in zip(maps, found.values(), strict=True):
        assert_close(got[:, :, got.shape[2] // 2], want)


def test_a_boring_video_through_inception():
    weights = slim_weights()
    model = i3d.build(i3d.Config()).eval()
    report = inflate(weights, model)
    assert report.source == "inception-v1 slim"
    left = {key for key in report.left if "num_batches" not in key}
    assert left == {"classifier.weight", "classifier.bias"}
    picture, video = boring(112, 32)
    with torch.no_grad():
        got = model.features(video, ("mixed5c",))["mixed5c"]
        assert_close(got[:, :, got.shape[2] // 2], inception_2d(picture, weights))


def test_googlenet_names_reach_the_same_places():
    ours = ("branch0", "branch1_reduce", "branch1", "branch2_reduce", "branch2", "branch3")
    theirs = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")
    branch = dict(zip(ours, theirs, strict=True))
    blocks = ["3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"]
    block = {ours: f"inception{theirs}" for ours, theirs in zip(i3d.MIXED, blocks, strict=True)}
    stem = {"stem": "conv1", "conv2b": "conv2", "conv2c": "conv3"}
    model = i3d.build(i3d.Config())
    source = {"fc.weight": torch.zeros(1000, 1024), "fc.bias": torch.zeros(1000)}
    source["aux1.conv.conv.weight"] = torch.zeros(1)
    for key, value in model.state_dict().items():
        if key.startswith("classifier"):
            continue
        first, _, rest = key.partition(".")
        if first in block:
            name, _, leaf = rest.partition(".")
            theirs = f"{block[first]}.{branch[name]}.{leaf}"
        else:
            theirs = f"{stem[first]}.{rest}"
        flat = torch.randn(value.shape[:2] + value.shape[3:]) if value.ndim == 5 else value
        source[theirs] = flat
    report = inflate(source, model)
    assert report.source == "googlenet"
    assert report.unused == ["aux1.conv.conv.weight"]
    assert sorted(report.left) == ["classifier.bias", "classifier.weight"]
    got = model.get_parameter("mixed4f.branch2.conv.weight")
    assert torch.equal(got[:, :, 1], source["inception4e.branch3.1.conv.weight"] / 3)


def test_resnet_101_from_a_file_with_its_classifier(tmp_path):
    weights = resnet_weights(101, classes=400)
    torch.save(weights, tmp_path / "r101.pth")
    model = resnet3d.build(resnet3d.VARIANTS["i3d_r101_8x8"])
    report = inflate(tmp_path / "r101.pth", model)
    assert torch.equal(model.get_parameter("classifier.weight"), weights["fc.weight"])
    kernels = model.get_parameter("res4.0.conv_a.weight")
    assert kernels.shape[2] == 3
    assert_close(kernels.sum(dim=2), weights["layer3.0.conv1.weight"][:, :, 0, 0][..., None, None])
    assert "res4.0.conv_a.weight" in report.inflated


def test_convert_inflate(tmp_path):
    from click.testing import CliRunner

    from tubelet.cli.convert import command

    torch.save(resnet_weights(), tmp_path / "r50.pth")
    target = tmp_path / "slow.safetensors"
    arguments = [str(tmp_path / "r50.pth"), "-o", str(target), "--inflate"]
    result = CliRunner().invoke(command, [*arguments, "-m", "slow_r50_8x8"])
    assert result.exit_code == 0, result.output
    assert "left as initialised: classifier.weight, classifier.bias" in result.output
    model = resnet3d.build(resnet3d.VARIANTS["slow_r50_8x8"])
    load_into(model, target)
    want = inflate_kernel(resnet_weights()["layer4.1.conv1.weight"], 3)
    assert torch.equal(model.get_parameter("res5.1.conv_a.weight"), want)
    result = CliRunner().invoke(command, [*arguments, "--overwrite"])
    assert "--inflate needs -m" in str(result.exception)


def test_nonlocal_blocks_stay_fresh():
    model = resnet3d.build(resnet3d.VARIANTS["i3d_nln_r50_8x8"])
    report = inflate(resnet_weights(), model)
    assert any("nonlocal" in key for key in report.left)


def test_the_reference_s_numbers(golden):
    arrays = {key: torch.from_numpy(value) for key, value in golden.arrays("inflate").items()}
    for name in ("conv.weight", "point.weight"):
        frames = arrays[f"three_d/{name}"].shape[2]
        got = inflate_kernel(arrays[f"two_d/{name}"], frames)
        assert torch.allclose(got, arrays[f"inflated/{name}"], rtol=1e-6, atol=0)
    # The reference leaves rank-5 kernels with one frame as initialised, without a word; we inflate.
    five = inflate_kernel(arrays["two_d/five.weight"], 3)
    assert torch.allclose(five.sum(dim=2), arrays["two_d/five.weight"][:, :, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("image", "video", "arch"),
    [
        ("ImageNet/MVITv2_S", "Kinetics/MVITv2_S_16x4", "mvit_v2_s_16x4"),
        ("ImageNet/MVIT_B_16_CONV", "Kinetics/MVIT_B_16x4_CONV", "mvit_v1_b_16x4"),
    ],
)
def test_image_mvit_into_video_mvit(golden, image, video, arch):
    facts = golden.table("inflate")[f"{image} -> {video}"]
    weights = {k: torch.from_numpy(v) for k, v in golden.weights(image).items()}
    model = mvit.build(mvit.VARIANTS[arch])
    report = inflate(weights, model)

    def ours(names):
        return {pyslowfast_mvit.rename(name) for name in names}

    assert {*report.inflated, *report.resized} == ours(facts["adapted"])
    assert set(report.left) == ours(facts["left_as_initialised"])
    assert len(report.copied) == facts["copied"]
    assert report.unused == facts["not_used"]
    state = model.state_dict()
    prefix = image.replace("/", "__") + "/"
    for key, want in golden.arrays("inflate").items():
        if key.startswith(prefix):
            name = pyslowfast_mvit.rename(key.removeprefix(prefix))
            assert golden.error(golden.summarise(state[name].numpy()), want) < 1e-6, key


def test_what_does_not_fit_is_refused(tmp_path):
    model = resnet3d.build(resnet3d.VARIANTS["slow_r50_8x8"])
    before = model.get_parameter("stem.conv.weight").clone()
    weights = resnet_weights()
    del weights["layer2.1.conv2.weight"]
    weights["layer9.0.conv1.weight"] = torch.zeros(1)
    with pytest.raises(KeyMismatch, match=r"missing res3\.1\.conv_b\.weight"):
        inflate(weights, model)
    assert torch.equal(model.get_parameter("stem.conv.weight"), before)
    with pytest.raises(KeyMismatch):
        inflate(resnet_weights(), i3d.build(i3d.Config()))
    with pytest.raises(WeightsError, match="no known 2-D network"):
        inflate({"encoder.weight": torch.zeros(1)}, model)
    # Our own file of a video network is no 2-D source either.
    save(model, tmp_path / "ours.safetensors", metadata={})
    with pytest.raises(WeightsError, match="no known 2-D network"):
        inflate(tmp_path / "ours.safetensors", model)
