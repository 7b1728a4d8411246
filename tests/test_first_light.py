"""Real weights on a real video, against an independent implementation's features and classes."""

import numpy as np
import pytest

from real import bikes
from tubelet.clips.transform import view_config
from tubelet.clips.windows import WindowConfig
from tubelet.extraction.classify import Classifier
from tubelet.extraction.extractor import Extractor
from tubelet.inputs import Input
from tubelet.models.registry import create_model


@pytest.fixture(scope="module")
def model():
    return create_model("i3d_inception.k400")


def test_rows_equal_the_independent_implementation(model, golden):
    """All rows of the clip, the padded one too, within 1e-4 of the largest value."""
    want = golden.arrays("inception")["bikes_features"]
    features = Extractor(model, name="i3d_inception.k400")(str(bikes()))
    assert features.provenance["padded"] == [0, 0, 0, 6]
    assert len(want) == golden.table("inception")["videos"]["bikes"]["windows"]
    assert features.values.shape == want.shape
    assert np.abs(features.values - want).max() <= 1e-4 * np.abs(want).max()


def test_the_classes_of_a_real_clip(model, golden):
    """Best classes and scores, of the whole clip and of each window."""
    facts, logits = golden.table("inception")["videos"]["bikes"], golden.arrays("inception")
    classifier = Classifier(
        model, name="i3d", window=WindowConfig(64), view=view_config(model.clip), device="cpu"
    )
    result = classifier.classify(Input("clip", str(bikes()), 0.0, None), views=None, top=5)
    assert [name for name, _ in result["top"]] == [name for name, _ in facts["top5"]]
    for (_, got), (_, want) in zip(result["top"], facts["top5"], strict=True):
        assert got == pytest.approx(want, abs=1e-4)  # stated with four digits
    best = [classifier.labels[row.argmax()] for row in logits["bikes_logits"]]
    assert [w["top"][0][0] for w in result["windows"]] == best
