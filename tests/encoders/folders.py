"""Files on disk as they are published, with drawn numbers."""

import json

import torch
from safetensors.torch import save_file
from tests.encoders import draw, vit_peers

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def weights(case, *, rename=None):
    """The tensors of a stored case, under its names or `rename(name)`."""
    found = vit_peers.stored(case)
    drawn = draw.tensors(vit_peers.unfolded(found["shapes"], found["depth"]))
    return {rename(key) if rename else key: value for key, value in drawn.items()}


def hub_folder(folder, case, *, tensors=None, shards=1, **config):
    """A Hub folder of a stored case; some fields of its config.json replaced."""
    about, tensors = {**vit_peers.stored(case)["config"], **config}, tensors or weights(case)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(about))
    crop = about.get("image_size") or about["crop_size"]
    pixels = {"size": {"shortest_edge": crop}, "crop_size": {"height": crop, "width": crop}}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels | IMAGENET))
    names = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    where = {key: names[i % shards] for i, key in enumerate(tensors)}
    for name in names:
        save_file({k: v for k, v in tensors.items() if where[k] == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


def checkpoint(path, content):
    """What torch.save writes."""
    torch.save(content, path)
    return path


@torch.no_grad()
def assert_equal(network, case, tolerance=1e-5):
    """Our network has the numbers that are stored of another implementation, stage by stage."""
    found = vit_peers.stored(case)
    clip = draw.clips(found["clip"])
    taps = [tap for tap in found["taps"] if tap != "logits"]
    ours = network.features(clip, (*taps, "pool"))
    for tap in taps:
        value = ours[tap]
        if value.ndim == 5:
            value = value.flatten(2).transpose(1, 2)  # references give tokens
        assert vit_peers.distance(value, found["taps"][tap]) < tolerance, tap
    if "logits" in found["taps"]:
        assert (
            vit_peers.distance(network.classify(ours["pool"]), found["taps"]["logits"]) < tolerance
        )
