"""PySlowFast YAML files as a description of a network, and caffe2 blobs as weights."""

import json
import pickle

import numpy as np
import pytest
import torch
import yaml

from tubelet.errors import KeyMismatch, UnknownName, UsageError
from tubelet.models import resnet3d, slowfast, x3d
from tubelet.models.pyslowfast.yaml import network
from tubelet.models.registry import create_model
from tubelet.models.weights.layouts.caffe2 import blob_name, blob_names, without_block
from tubelet.models.weights.layouts.pyslowfast import pyslowfast_name, pyslowfast_names

# Every configuration of the conformance data, under our name. Two names with one network: the
# second was trained in another way.
OURS = {
    "AVA/SLOWFAST_32x2_R50_SHORT": "slowfast_r50_8x8.ava22",
    "AVA/SLOW_8x8_R50_SHORT": "slow_r50_4x16.ava22",
    "AVA/c2/SLOWFAST_32x2_R101_50_50": "slowfast_r101_nln_8x8",
    "AVA/c2/SLOWFAST_32x2_R101_50_50_v2.1": "slowfast_r101_nln_8x8",
    "AVA/c2/SLOWFAST_32x2_R50": "slowfast_r50_8x8.ava22_c2",
    "AVA/c2/SLOWFAST_64x2_R101_50_50": "slowfast_r101_nln_16x8",
    "AVA/c2/SLOW_8x8_R50": "slow_r50_4x16.ava22",
    "Charades/SLOWFAST_16x8_R50": "slowfast_r50_16x8.charades",
    "Charades/SLOWFAST_16x8_R50_multigrid": "slowfast_r50_16x8_multigrid.charades",
    "ImageNet/RES_R50": "resnet_r50",
    "Kinetics/C2D_8x8_R50": "c2d_r50_8x8",
    "Kinetics/C2D_8x8_R50_IN1K": "c2d_r50_8x8",
    "Kinetics/I3D_8x8_R101": "i3d_r101_8x8",
    "Kinetics/I3D_8x8_R50": "i3d_r50_8x8",
    "Kinetics/I3D_8x8_R50_IN1K": "i3d_r50_8x8",
    "Kinetics/I3D_NLN_8x8_R101": "i3d_nln_r101_8x8",
    "Kinetics/I3D_NLN_8x8_R50": "i3d_nln_r50_8x8",
    "Kinetics/I3D_NLN_8x8_R50_IN1K": "i3d_nln_r50_8x8",
    "Kinetics/SLOWFAST_4x16_R50": "slowfast_r50_4x16",
    "Kinetics/SLOWFAST_8x8_R50": "slowfast_r50_8x8",
    "Kinetics/SLOWFAST_8x8_R50_stepwise": "slowfast_r50_8x8_stepwise",
    "Kinetics/SLOWFAST_8x8_R50_stepwise_multigrid": "slowfast_r50_8x8_stepwise_multigrid",
    "Kinetics/SLOWFAST_NLN_4x16_R50": "slowfast_nln_r50_4x16",
    "Kinetics/SLOWFAST_NLN_8x8_R50": "slowfast_nln_r50_8x8",
    "Kinetics/SLOW_4x16_R50": "slow_r50_4x16",
    "Kinetics/SLOW_8x8_R50": "slow_r50_8x8",
    "Kinetics/SLOW_NLN_8x8_R50": "slow_nln_r50_8x8",
    "Kinetics/X3D_M": "x3d_m",
    "Kinetics/X3D_S": "x3d_s",
    "Kinetics/X3D_XS": "x3d_xs",
    "Kinetics/c2/C2D_NOPOOL_8x8_R50": "c2d_nopool_r50_8x8",
    "Kinetics/c2/I3D_8x8_R50": "i3d_r50_8x8",
    "Kinetics/c2/I3D_NLN_8x8_R50": "i3d_nln_r50_8x8",
    "Kinetics/c2/SLOWFAST_16x8_R101_50_50": "slowfast_r101_50_50_16x8",
    "Kinetics/c2/SLOWFAST_4x16_R50": "slowfast_r50_4x16",
    "Kinetics/c2/SLOWFAST_8x8_R101_101_101": "slowfast_r101_101_101_8x8",
    "Kinetics/c2/SLOWFAST_8x8_R101_50_101": "slowfast_r101_50_101_8x8",
    "Kinetics/c2/SLOWFAST_8x8_R101_50_50": "slowfast_r101_50_50_8x8",
    "Kinetics/c2/SLOWFAST_8x8_R50": "slowfast_r50_8x8",
    "Kinetics/c2/SLOW_4x16_R50": "slow_r50_4x16",
    "Kinetics/c2/SLOW_8x8_R50": "slow_r50_8x8",
    "SSv2/SLOWFAST_16x8_R50": "slowfast_r50_16x8.ssv2",
    "SSv2/SLOWFAST_16x8_R50_multigrid": "slowfast_r50_16x8_multigrid.ssv2",
}
VARIANTS = {**resnet3d.VARIANTS, **slowfast.VARIANTS, **x3d.VARIANTS}

TINY = {
    "MODEL": {"MODEL_NAME": "ResNet", "ARCH": "slow", "NUM_CLASSES": 7},
    "DATA": {"NUM_FRAMES": 4, "TRAIN_CROP_SIZE": 32, "TEST_CROP_SIZE": 32},
    "RESNET": {"WIDTH_PER_GROUP": 8, "DEPTH": 18, "NUM_BLOCK_TEMP_KERNEL": [[2], [2], [2], [2]]},
}


def written(path, tree):
    path.write_text(yaml.safe_dump(tree))
    return path


def changed(section, **keys):
    return {**TINY, section: {**TINY[section], **keys}}


def test_every_configuration_has_a_name(golden):
    ours = ("resnet", "slowfast", "x3d")
    assert {n for n in golden.names() if golden.facts(n)["family"] in ours} == set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_a_yaml_of_the_settings_describes_the_network_of_our_name(name, golden, tmp_path):
    path = written(tmp_path / "settings.yaml", golden.facts(name)["settings"])
    _, config = network(path)
    assert config == VARIANTS[OURS[name]]


@pytest.mark.parametrize("name", OURS)
def test_names_and_shapes_of_the_reference(name, golden, tmp_path):
    facts = golden.facts(name)
    family, config = network(written(tmp_path / "settings.yaml", facts["settings"]))
    with torch.device("meta"):
        model = family.build(config)
    state = model.state_dict()
    ours = {theirs: list(state[key].shape) for theirs, key in pyslowfast_names(model).items()}
    assert ours == {key: shape for key, shape, _ in facts["state_dict"]}
    assert len(ours) == len(state)
    assert sum(p.numel() for p in model.parameters()) == facts["parameters"]
    if "caffe2" in facts:
        for key, blob in facts["caffe2"]["blobs"].items():
            assert blob_name(key) == without_block(blob)


def test_absent_keys_take_the_references_defaults(tmp_path):
    """PySlowFast's own default is SlowFast 4x16 with 8 frames: what is left out is not ours."""
    _, config = network(written(tmp_path / "a.yaml", {"DATA": {"NUM_FRAMES": 32}}))
    default = slowfast.VARIANTS["slowfast_r50_4x16"]
    assert config.slow == default.slow
    assert config.fast == default.fast
    assert (config.clip.alpha, config.lateral_kernel, config.clip.interval) == (8, 5, 8)


def test_the_shipped_spelling_of_c2d_without_pooling(tmp_path):
    tree = changed("MODEL", MODEL_NAME="ResNet_nopool", ARCH="c2d")
    assert network(written(tmp_path / "a.yaml", tree))[1].time_pool == 1
    tree = changed("MODEL", ARCH="c2d")
    assert network(written(tmp_path / "a.yaml", tree))[1].time_pool == 2


@pytest.mark.parametrize(
    ("tree", "error", "message"),
    [
        (changed("RESNET", DEPHT=50), UnknownName, "'RESNET.DEPHT'; did you mean 'RESNET.DEPTH'"),
        ({**TINY, "RESNETS": {"DEPTH": 50}}, UnknownName, "'RESNETS.DEPTH'"),
        ({**TINY, "OOPS": None}, UnknownName, "'OOPS'"),
        (changed("RESNET", DEPTH="fifty"), UsageError, "RESNET.DEPTH is 'fifty'"),
        (changed("RESNET", DEPTH=34), UsageError, "depth 34"),
        (changed("RESNET", STRIDE_1X1=1), UsageError, "STRIDE_1X1 is 1"),
        (changed("RESNET", SPATIAL_STRIDES=[[1], [2]]), UsageError, "2 entries; res2 to res5"),
        (changed("RESNET", SPATIAL_STRIDES=[[1, 1]] * 4), UsageError, "1 entries, one a pathway"),
        (changed("RESNET", SPATIAL_STRIDES=[1, 2, 2, 2]), UsageError, "same kind"),
        (changed("RESNET", TRANS_FUNC="x3d_transform"), UsageError, "x3d_transform"),
        (changed("MODEL", ARCH="slowfats"), UsageError, "MODEL.ARCH is 'slowfats'"),
        (changed("MODEL", MODEL_NAME="ResNets"), UnknownName, "did you mean 'ResNet'"),
        (changed("MODEL", HEAD_ACT="relu"), UsageError, "HEAD_ACT is 'relu'"),
        (changed("DATA", INPUT_CHANNEL_NUM=[3, 3]), UsageError, "1 equal number"),
        ({**TINY, "BN": {"NORM_TYPE": "groupnorm"}}, UsageError, "NORM_TYPE is 'groupnorm'"),
        ({**TINY, "MODEL": {"MODEL_NAME": "X3D", "ARCH": "x3d"}}, UsageError, "x3d_transform"),
        ([1, 2], UsageError, "not a PySlowFast configuration"),
    ],
)
def test_a_file_that_describes_nothing_is_refused_by_key(tree, error, message, tmp_path):
    with pytest.raises(error, match=message):
        network(written(tmp_path / "a.yaml", tree))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MODEL: [", "not YAML"),
        ("MODEL: !!python/object/apply:os.system ['true']", "not YAML"),
        ("a: &a {b: *a}", "without end"),
        (
            "DATA: {INPUT_CHANNEL_NUM: &a [*a]}\nMODEL: {MODEL_NAME: ResNet, ARCH: slow}",
            "without end",
        ),
        ("x" * (1 << 21), "larger than"),
    ],
)
def test_hostile_files_are_refused(text, message, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        network(path)


def test_training_keys_and_empty_sections_are_left_alone(tmp_path):
    tree = {
        **TINY,
        "SOLVER": {"BASE_LR": "1e-1", "STEPS": None},
        "TENSORBOARD": None,
        "MULTIGRID": {"LONG_CYCLE_FACTORS": [[0.25, 0.7]]},
        "NUM_GPUS": 8,
    }
    plain = network(written(tmp_path / "b.yaml", TINY))
    assert network(written(tmp_path / "a.yaml", tree)) == plain


@pytest.mark.parametrize("norm", ["batchnorm", "sub_batchnorm", "sync_batchnorm"])
def test_norms_are_the_same_at_test_time(norm, tmp_path):
    tree = {**TINY, "BN": {"NORM_TYPE": norm, "NUM_SPLITS": 2}}
    plain = network(written(tmp_path / "b.yaml", TINY))
    assert network(written(tmp_path / "a.yaml", tree)) == plain


def test_create_model_takes_a_yaml_and_its_weights(tmp_path):
    """A stranger's configuration: ResNeXt, stride in the first convolution, non-local groups."""
    tree = changed(
        "RESNET", NUM_GROUPS=2, STRIDE_1X1=True, SPATIAL_STRIDES=[[1], [2], [2], [1]],
        SPATIAL_DILATIONS=[[1], [1], [2], [2]],
    )  # fmt: skip
    tree["NONLOCAL"] = {
        "LOCATION": [[[]], [[0, 1]], [[]], [[1]]],
        "GROUP": [[1], [2], [1], [1]],
        "INSTANTIATION": "softmax",
        "POOL": [[[1, 1, 1]], [[1, 2, 2]], [[2, 2, 2]], [[2, 1, 1]]],
    }
    path = str(written(tmp_path / "MINE.yaml", tree))
    torch.manual_seed(0)
    model = create_model(path, weights=None)
    assert (model.model_id, model.num_classes, model.training) == ("MINE", 7, False)
    assert [m.groups for m in model.modules() if type(m).__name__ == "NonLocal"] == [2, 2, 1]
    state = {pyslowfast_name(key): value for key, value in model.state_dict().items()}
    torch.save({"model_state": state}, tmp_path / "mine.pyth")
    tree["MODEL"]["NUM_CLASSES"] = 400  # the file has 7: the weights decide
    again = create_model(str(written(tmp_path / "M.yaml", tree)), weights=tmp_path / "mine.pyth")
    clip = torch.randn(1, 3, 4, 64, 64)
    assert again.num_classes == 7
    assert again.weights_layout == "pyslowfast"
    assert torch.equal(model(clip), again(clip))
    with pytest.raises(UsageError, match="give its weights="):
        create_model(path)


def as_caffe2(model, path, *, frozen_norms=False, extra=()):
    """The file that the published networks come in: blobs, and what the optimiser left."""
    blobs = {}
    for blob, key in blob_names(model).items():
        if frozen_norms and blob.endswith(("_rm", "_riv")):
            continue
        name = blob
        if blob.startswith("t_res") and "_subsample_" in blob:
            name = blob.replace("_subsample_", "_5_branch2c_bn_subsample_")
        blobs[name] = model.state_dict()[key].numpy()
    blobs |= {"conv1_w_momentum": np.zeros(3, np.float32), "lr": np.float32(0.1), **dict(extra)}
    path.write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    return path


@pytest.mark.parametrize("arch", ["slow", "slowfast"])
def test_caffe2_blobs(arch, tmp_path):
    tree = dict(TINY)
    if arch == "slowfast":
        tree = changed("MODEL", MODEL_NAME="SlowFast", ARCH="slowfast")
        tree["RESNET"] = {**TINY["RESNET"], "NUM_BLOCK_TEMP_KERNEL": [[2, 2]] * 4}
        tree["DATA"] = {**TINY["DATA"], "NUM_FRAMES": 8}
        tree["NONLOCAL"] = {"LOCATION": [[[], []], [[1], []], [[], []], [[], []]]}
    path = str(written(tmp_path / "a.yaml", tree))
    model = create_model(path, weights=None)
    again = create_model(path, weights=as_caffe2(model, tmp_path / "w.pkl"))
    assert again.weights_layout == "caffe2"
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    strange = as_caffe2(model, tmp_path / "x.pkl", extra={"res9_0_branch2a_w": np.zeros(1)}.items())
    with pytest.raises(KeyMismatch, match="unexpected: res9_0_branch2a_w"):
        create_model(path, weights=strange)


def test_caffe2_networks_with_frozen_norms_have_scale_and_shift_only(tmp_path):
    path = str(written(tmp_path / "a.yaml", TINY))
    model = create_model(path, weights=None)
    file = as_caffe2(model, tmp_path / "w.pkl", frozen_norms=True)
    again = create_model(path, weights=file)
    assert not again.stem.bn.running_mean.any()
    norm = again.stem.bn
    torch.testing.assert_close(norm.running_var + norm.eps, torch.ones_like(norm.running_var))


def test_the_packaged_list_of_keys_covers_the_references_settings(golden):
    from tubelet.models.pyslowfast.yaml import flat, known_keys

    for name in golden.names():
        settings = golden.facts(name)["settings"]
        assert {key for key, _ in flat(json.loads(json.dumps(settings)))} <= known_keys(), name
