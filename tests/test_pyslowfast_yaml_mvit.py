"""PySlowFast YAML files of MViT and Rev-MViT."""

from dataclasses import replace

import pytest
import torch
import yaml

from tubelet.errors import UsageError
from tubelet.models import mvit, revmvit
from tubelet.models.pyslowfast.yaml import network
from tubelet.models.registry import create_model

OURS = {
    "ImageNet/MVIT_B_16_CONV": "mvit_v1_b_16",
    "ImageNet/MVITv2_B": "mvit_v2_b",
    "ImageNet/MVITv2_S": "mvit_v2_s",
    "ImageNet/MVITv2_T": "mvit_v2_t",
    "ImageNet/REV_MVIT_B_16_CONV": "rev_mvit_b",
    "ImageNet/REV_VIT_B": "rev_vit_b",
    "ImageNet/REV_VIT_S": "rev_vit_s",
    "Kinetics/MVIT_B_16x4_CONV": "mvit_v1_b_16x4",
    "Kinetics/MVIT_B_32x3_CONV": "mvit_v1_b_32x3",
    "Kinetics/MVITv2_L_40x3_test": "mvit_v2_l_40x3",
    "Kinetics/MVITv2_S_16x4": "mvit_v2_s_16x4",
    "Kinetics/REV_MVIT_B_16x4_CONV": "rev_mvit_b_16x4",
    "SSv2/MVITv2_L_40x3": "mvit_v2_l_40x3",
    "SSv2/MVITv2_S_16x4": "mvit_v2_s_16x4",
}
VARIANTS = {**mvit.VARIANTS, **revmvit.VARIANTS}


def written(path, tree):
    path.write_text(yaml.safe_dump(tree))
    return path


def test_every_configuration_has_a_name(golden):
    families = ("mvit", "reversible")
    assert {n for n in golden.names() if golden.facts(n)["family"] in families} == set(OURS)


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_yaml_of_the_settings_describes_the_network_of_our_name(name, golden, tmp_path):
    facts = golden.facts(name)
    _, config = network(written(tmp_path / "settings.yaml", facts["settings"]))
    ours = VARIANTS[OURS[name]]
    if name.startswith("SSv2"):  # the same network on the frames of another data set
        ours = replace(ours, num_classes=174, clip=config.clip)
        assert config.clip.sampling == "uniform"
        assert config.clip.short_side == config.clip.crop
    assert config == ours


def tree(**keys):
    """A small MViT-v2, in PySlowFast's words; `keys` of the section MVIT replace some."""
    table = {
        "DEPTH": 2,
        "EMBED_DIM": 8,
        "PATCH_KERNEL": "(3, 7, 7)",  # as PySlowFast's own files have it: a text
        "PATCH_STRIDE": [2, 4, 4],
        "PATCH_PADDING": [1, 3, 3],
        "DIM_MUL": [[1, 2.0]],
        "HEAD_MUL": [[1, 2]],
        "POOL_Q_STRIDE": [[0, 1, 1, 1], [1, 1, 2, 2]],
        "POOL_KV_STRIDE_ADAPTIVE": [1, 2, 2],
        "POOL_KVQ_KERNEL": [3, 3, 3],
        "USE_ABS_POS": False,
        "REL_POS_SPATIAL": True,
        "REL_POS_TEMPORAL": True,
        "RESIDUAL_POOLING": True,
        "DIM_MUL_IN_ATT": True,
    }
    return {
        "MODEL": {"MODEL_NAME": "MViT", "ARCH": "mvit", "NUM_CLASSES": 3},
        "DATA": {
            "NUM_FRAMES": 4,
            "TRAIN_CROP_SIZE": 32,
            "TEST_CROP_SIZE": 32,
            "INPUT_CHANNEL_NUM": [3],
        },
        "MVIT": {key: value for key, value in {**table, **keys}.items() if value != "absent"},
    }


def test_a_strangers_network_runs(tmp_path):
    path = written(tmp_path / "mine.yaml", tree())
    assert network(path)[1].trunk == mvit.staged((1, 1), kv=(1, 2, 2), dim=8, every_block=True)
    model = create_model(str(path), weights=None)
    assert model.predict(torch.zeros(2, 3, 4, 32, 32)).shape == (2, 3)
    assert model.model_id == "mine"


def test_strides_of_keys_may_be_listed(tmp_path):
    listed = tree(POOL_KV_STRIDE_ADAPTIVE=None, POOL_KV_STRIDE=[[0, 1, 2, 2], [1, 1, 1, 1]])
    assert network(written(tmp_path / "a.yaml", listed)) == network(
        written(tmp_path / "b.yaml", tree())
    )


def test_a_plain_vit(tmp_path):
    """No pooling, a class token that only joins in, the norm after the mean, as MAE fine-tunes."""
    described = tree(
        PATCH_KERNEL="(2, 16, 16)", PATCH_STRIDE="(2, 16, 16)", PATCH_PADDING="(0, 0, 0)",
        DIM_MUL=[], HEAD_MUL=[], POOL_Q_STRIDE=[], POOL_KV_STRIDE_ADAPTIVE=None,
        POOL_KVQ_KERNEL=None, USE_ABS_POS=True, SEP_POS_EMBED=True, REL_POS_SPATIAL=False,
        REL_POS_TEMPORAL=False, RESIDUAL_POOLING=False, DIM_MUL_IN_ATT=False,
        USE_MEAN_POOLING=True,
    )  # fmt: skip
    model = create_model(str(written(tmp_path / "vit.yaml", described)), weights=None)
    names = {name for name, _ in model.named_parameters()}
    assert "tokens.class_token" in names
    assert not any("pool_" in name or "widen" in name for name in names)
    taps = model.features(torch.randn(1, 3, 4, 32, 32), ("grid", "pool"))
    assert taps["grid"].shape == (1, 8, 2, 2, 2)
    assert torch.allclose(taps["grid"].mean(dim=(2, 3, 4)), taps["pool"], atol=1e-5)


REVERSIBLE = {
    "CLS_EMBED_ON": True,  # asked for in a released file, and never built
    "REL_POS_SPATIAL": False,
    "REL_POS_TEMPORAL": False,
    "RESIDUAL_POOLING": False,
    "USE_ABS_POS": True,
    "DEPTH": 3,
}


@pytest.mark.parametrize(
    ("value", "fusion", "ratio"),
    [
        ("avg", "average", 1.0),
        ("concat", "concat", 1.0),
        ("concat_linear", "mlp", 1.0),
        ("concat_linear_2", "mlp", 2.0),
        ("concat_linear_0.5", "mlp", 0.5),
    ],
)
def test_a_strangers_reversible_network(value, fusion, ratio, tmp_path):
    rev = {"ENABLE": True, "BUFFER_LAYERS": [1], "PRE_Q_FUSION": value}
    path = written(tmp_path / "a.yaml", tree(REV=rev, **REVERSIBLE))
    family, config = network(path)
    assert family is revmvit
    assert (config.fusion, config.fusion_ratio, config.transitions) == (fusion, ratio, (1,))
    assert create_model(str(path), weights=None).width == 32


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"MODE": "max"}, "MVIT.MODE is 'max'; only 'conv'"),
        ({"POOL_FIRST": True}, "POOL_FIRST is True"),
        ({"NORM_STEM": True}, "NORM_STEM is True"),
        ({"LAYER_SCALE_INIT_VALUE": 0.1}, "LAYER_SCALE_INIT_VALUE is 0.1"),
        ({"USE_FIXED_SINCOS_POS": True}, "USE_FIXED_SINCOS_POS"),
        ({"POOL_Q_KERNEL": [[0, 3, 3, 3]]}, "today's PySlowFast"),
        ({"DEPTH": "two"}, "MVIT.DEPTH is 'two'"),
        ({"DIM_MUL": [[5, 2.0]]}, "no block 5: MVIT.DEPTH is 2"),
        ({"DIM_MUL": [1, 2.0]}, "MVIT.DIM_MUL .*every row"),
        ({"DIM_MUL": 3}, "list of rows"),
        ({"POOL_Q_STRIDE": [[1, 2, 2]]}, "POOL_Q_STRIDE .*every row"),
        ({"POOL_Q_STRIDE": [[1, 1, 0, 2]]}, "above zero"),
        ({"POOL_KV_STRIDE_ADAPTIVE": [2, 2]}, "three numbers"),
        ({"PATCH_KERNEL": [7, 7]}, "PATCH_2D is False: give 3"),
        ({"PATCH_2D": True}, "PATCH_2D is True: give 2"),
        ({"NUM_HEADS": 3, "DIM_MUL_IN_ATT": False}, "8 channels and 3 heads"),
        ({"REV": {"ENABLE": True}}, "REL_POS_SPATIAL is True; reversible"),
        ({**REVERSIBLE, "REV": {"ENABLE": True}}, "block 1 changes"),
        (
            {**REVERSIBLE, "REV": {"ENABLE": True, "BUFFER_LAYERS": [1], "PRE_Q_FUSION": "min"}},
            "PRE_Q_FUSION is 'min'",
        ),
        ({**REVERSIBLE, "REV": {"ENABLE": True, "RES_PATH": "max"}}, "RES_PATH is 'max'"),
    ],
)
def test_what_is_not_built_is_refused_by_key(keys, message, tmp_path):
    path = written(tmp_path / "a.yaml", tree(**keys))
    with pytest.raises(UsageError, match=message):
        create_model(str(path), weights=None)


def test_two_crops_are_refused(tmp_path):
    described = tree()
    described["DATA"]["TEST_CROP_SIZE"] = 48
    with pytest.raises(UsageError, match=r"TEST_CROP_SIZE is 48.*one size"):
        network(written(tmp_path / "a.yaml", described))


def test_a_file_without_a_model_name_is_not_taken_for_slowfast(tmp_path):
    """facebookresearch/mvit writes such files; PySlowFast's default network is SlowFast."""
    described = tree()
    del described["MODEL"]["MODEL_NAME"]
    with pytest.raises(UsageError, match="add MODEL_NAME: MViT"):
        network(written(tmp_path / "a.yaml", described))
