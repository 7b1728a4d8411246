"""Groups of parameters, layer decay, averages, weights of an earlier run."""

from dataclasses import replace

import pytest
import torch

from tubelet.errors import UsageError
from tubelet.train.hooks import add_drop_path, add_dropout
from tubelet.train.loss import class_weights, loss_sum
from tubelet.train.optim import Average, Optim, choose_trainable, make_optimizer, places, set_rate
from tubelet.train.recipe_network import SMALL, Network, build, describe
from tubelet.train.run_state import save_weights


@pytest.mark.parametrize("name", sorted(SMALL))
def test_depth_grows_along_the_network(name):
    model = build(Network(name), num_classes=4)
    found = places(model)
    first = [k for k in found.depth if k.startswith(("stem", "slow.stem", "patch_embed", "tokens"))]
    assert first
    assert {found.depth[k] for k in first} == {0}
    assert found.depth["classifier.weight"] == found.layers
    assert sorted(set(found.depth.values())) == list(range(found.layers + 1))
    assert sorted(set(found.stage.values())) == list(range(found.stages + 1))
    optimizer = make_optimizer(model, Optim("adamw", layer_decay=0.5, decay=0.1), rate=1.0)
    set_rate(optimizer, 2.0)
    of = {id(p): g for g in optimizer.param_groups for p in g["params"]}
    assert len(of) == len(list(model.parameters()))
    for key, parameter in model.named_parameters():
        group = of[id(parameter)]
        assert group["lr"] == pytest.approx(2.0 * 0.5 ** (found.layers - found.depth[key]))
        plain = parameter.ndim == 1 or key.startswith("tokens.") or ".relative." in key
        assert group["weight_decay"] == (0.0 if plain else 0.1)


def test_the_last_stages_of_a_two_pathway_network():
    model = build(Network("slowfast_small"), num_classes=4)
    names = choose_trainable(model, 2)
    kinds = {".".join(name.split(".")[:2]) for name in names}
    assert kinds == {
        "slow.res4", "slow.res5", "fast.res4", "fast.res5", "lateral.res4",
        "classifier.weight", "classifier.bias",
    }  # fmt: skip
    with pytest.raises(UsageError, match="last stages"):
        choose_trainable(model, 0)


def test_an_average_follows_slowly():
    average = Average({"a": torch.zeros(2)}, 0.9)
    average.update({"a": torch.ones(2), "n": torch.tensor(3)})
    assert average.tensors["a"].tolist() == pytest.approx([0.1, 0.1])
    assert average.tensors["n"] == 3


def test_weights_of_an_earlier_run_with_other_classes(tmp_path):
    network = Network("slow_small")
    model = build(network, num_classes=4)
    path = tmp_path / "w.safetensors"
    about = describe(network, model, classes=tuple("abcd"), multi_label=False)
    save_weights(path, model.state_dict(), about)
    other = build(replace(network, weights=str(path)), num_classes=7)
    assert torch.equal(other.res3[0].conv_a.weight, model.res3[0].conv_a.weight)
    assert other.classifier.weight.shape[0] == 7
    with_blocks = replace(network, weights=str(path), nonlocals={"res3": (0,)})
    inserted = build(with_blocks, num_classes=4).eval()
    clip = torch.randn(1, 3, 8, 64, 64)
    with torch.no_grad():
        assert torch.allclose(inserted(clip), model.eval()(clip), atol=1e-5)


def test_drops_act_in_training_only():
    torch.manual_seed(0)
    model = build(Network("slow_small"), num_classes=4)
    add_dropout(model, 0.5)
    add_drop_path(model, 0.5)
    clip = torch.randn(2, 3, 8, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.eval()(clip), model(clip))
        model.train()
        assert not torch.equal(model(clip), model(clip))


def test_losses():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    targets = torch.eye(3)[[0, 2]]
    entropy = torch.nn.functional.cross_entropy
    for smoothing in (0.0, 0.1):
        want = entropy(logits, torch.tensor([0, 2]), label_smoothing=smoothing, reduction="sum")
        got = loss_sum(logits, targets, multi_label=False, smoothing=smoothing)
        assert got.item() == pytest.approx(want.item(), rel=1e-6)
    weights = class_weights("balanced", [6, 2, 1])
    assert weights.tolist() == pytest.approx([0.5, 1.5, 3.0])
    want = entropy(logits, torch.tensor([0, 2]), weight=weights, reduction="sum")
    got = loss_sum(logits, targets, multi_label=False, weights=weights)
    assert got.item() == pytest.approx(want.item(), rel=1e-6)
    with pytest.raises(UsageError, match="2 class_weights for 3"):
        class_weights((1.0, 2.0), [1, 1, 1])
