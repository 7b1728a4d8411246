"""Real weights on real videos, against an independent implementation's features and classes."""

import json

import numpy as np
import pytest

from tubelet.clips.transform import view_config
from tubelet.clips.windows import WindowConfig
from tubelet.extraction.classify import Classifier
from tubelet.extraction.extractor import Extractor
from tubelet.inputs import Input
from tubelet.models.registry import create_model


@pytest.fixture(scope="module")
def model():
    return create_model("i3d_inception.k400")


@pytest.fixture(scope="module")
def expected(shared):
    folder = shared / "conformance" / "i3d_inception"
    with np.load(folder / "videos.npz") as data:
        return json.loads((folder / "videos.json").read_text()), dict(data)


@pytest.mark.parametrize(("name", "seconds"), [("arm_wrestling", None), ("clean_and_jerk", 6.52)])
def test_rows_equal_the_independent_implementation(model, shared, expected, name, seconds):
    """All rows of one clip and the first ones of the other, within 1e-4 of the largest value."""
    facts, arrays = expected
    want = arrays[f"{name}_features"]
    path = str(shared / "videos" / f"{name}.mp4")
    features = Extractor(model, name="i3d_inception.k400")(path, end_s=seconds)
    got = features.values
    assert len(got) == (facts[name]["windows"] if seconds is None else 2)
    assert features.provenance["padded"] == ([0, 0, 0, 0, 40] if seconds is None else [0, 0])
    assert np.abs(got - want[: len(got)]).max() <= 1e-4 * np.abs(want).max()


def test_the_class_of_a_real_clip(model, shared):
    window = WindowConfig(64)
    classifier = Classifier(
        model, name="i3d", window=window, view=view_config(model.clip), device="cpu"
    )
    clip = Input("clip", str(shared / "videos" / "arm_wrestling.mp4"), 0.0, 2.3)
    result = classifier.classify(clip, views=None, top=3)
    assert result["top"][0][0] == "arm wrestling"
    assert [w["top"][0][0] for w in result["windows"]] == ["arm wrestling", "arm wrestling"]
