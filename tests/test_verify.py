"""verify and compare: what is right passes, every kind of damage is named."""

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from folders import fail, features, make_folder
from tiny import TinyModel
from tubelet.cli import group
from tubelet.clips.windows import WindowConfig
from tubelet.decode.encode import Encoding, encode
from tubelet.decode.synthetic import number_picture
from tubelet.errors import UsageError
from tubelet.extraction.extractor import Extractor, Options
from tubelet.extraction.recipe import window_config
from tubelet.inputs import Input
from tubelet.presets import PRESETS
from tubelet.rows.compare import compare, cosine
from tubelet.rows.verify import verify
from tubelet.run.job import Job
from tubelet.run.run import run
from tubelet.store.export.layouts import Packing, pack
from tubelet.store.listing import read_folder


class Silent:
    def expect(self, videos): ...
    def advance(self, name, rows, fraction): ...
    def done(self, outcome): ...
    def note(self, text): ...


def extractor(window, **options):
    return Extractor(TinyModel(), name="tiny", window=window, options=Options(**options))


def video(path, frames):
    pictures = [number_picture(i, width=64, height=48) for i in range(frames)]
    return encode(pictures, path, encoding=Encoding("mpeg4"))


@pytest.fixture
def out(tmp_path):
    """A real run over two real videos, one of them in part."""
    inputs = [
        Input("a", str(video(tmp_path / "a.mp4", 23))),
        Input("deep/b", str(video(tmp_path / "b.mp4", 40)), 0.2, 1.1),
    ]
    job = Job(inputs=inputs, out=tmp_path / "out")
    extract = extractor(WindowConfig(4, 2, 5, tail="pad"), logits=True, taps=("pool", "mid"))
    assert run(job, [extract], Silent()) == 0
    return tmp_path / "out"


def edit(path, **changes):
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, **changes}))


def problems(out):
    return [text for _, text in verify(out).problems]


def test_a_run_is_as_planned(out):
    verdict = verify(out)
    assert verdict.problems == []
    assert verdict.notes == []
    assert (verdict.videos, verdict.planned) == (2, 2)
    assert verify(out, plan=False).planned == 0


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_extracts_as_it_plans(name, tmp_path):
    """The stream's rows and times equal the plan from packets, under every preset's windows."""
    preset = PRESETS[name]
    config = preset.window(TinyModel.clip)
    job = Job(inputs=[Input("v", str(video(tmp_path / "v.mp4", 137)))], out=tmp_path / "out")
    assert run(job, [extractor(config, keep=preset.keep, dtype=preset.dtype)], Silent()) == 0
    verdict = verify(tmp_path / "out")
    assert verdict.problems == []
    assert verdict.planned == 1
    assert (
        window_config(
            json.loads((tmp_path / "out" / "tubelet.json").read_text())["recipe"]["window"]
        )
        == config
    )


@pytest.mark.parametrize("tail", ["center", "center-zero"])
def test_rows_at_the_edges_are_found_by_their_frames(tail, tmp_path):
    """Windows of 16 frames around each frame at 25 per second: the first rows are padded."""
    job = Job(inputs=[Input("v", str(video(tmp_path / "v.mp4", 40)))], out=tmp_path / "out")
    assert run(job, [extractor(WindowConfig(16, stride=1, tail=tail))], Silent()) == 0
    assert verify(tmp_path / "out").problems == []
    found = CliRunner().invoke(
        group, ["map", str(tmp_path / "out" / "v.npy"), "--seconds", "0:0.16", "--json"]
    )
    assert json.loads(found.stdout)["rows"] == [0, 4]


def test_damaged_bytes(out):
    data = bytearray((out / "a.npy").read_bytes())
    data[-1] ^= 1
    (out / "a.npy").write_bytes(data)
    assert "sha256" in problems(out)[0]


def test_missing_arrays(out):
    (out / "logits" / "a.npy").unlink()
    assert "missing" in problems(out)[0]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"shape": [1, 2]}, "shape"),
        ({"dtype": "float16"}, "dtype"),
        ({"id": "other"}, "."),
        ({"recipe": "0000"}, "another recipe"),
        ({"center_s": [0.0] * 4}, "mean"),
        ({"end_s": [0.0] * 4}, "rise"),
        ({"start_s": [0.0] * 3}, "3 times for 4 rows"),
        ({"start_s": [math.nan] * 4}, "NaN"),
        ({"padded": []}, "0 entries of padded"),
        ({"size_bytes": 1}, "changed since"),
    ],
)
def test_sidecars_that_do_not_fit(out, changes, text):
    edit(out / "a.json", **changes)
    found = problems(out)
    assert len(found) == 1
    assert text in found[0]


def test_numbers_that_are_none(tmp_path):
    rows = features(3)
    rows.values[1, 2] = np.nan
    assert problems(make_folder(tmp_path / "out", {"a": rows})) == [
        "pool: NaN or infinity in row 1"
    ]


def test_rows_that_the_plan_does_not_have(out):
    """A sidecar that agrees with its arrays and not with its source."""
    record = json.loads((out / "tubelet.json").read_text())
    record["recipe"]["window"]["stride"] = 9
    (out / "tubelet.json").write_text(json.dumps(record))
    assert any("rows, planned are" in text for text in problems(out))
    record["recipe"]["window"] |= {"stride": 5, "fps": "25", "interval": 1, "length": 8}
    record["recipe"]["window"]["resample"] = "hold"
    (out / "tubelet.json").write_text(json.dumps(record))
    assert any("planned is" in text for text in problems(out))


def test_what_cannot_be_checked_is_a_note(out, tmp_path):
    (tmp_path / "a.mp4").unlink()
    fail(out, "gone")
    np.save(out / "deep" / "orphan.npy", np.zeros((1, 2)))
    np.save(out / "taps" / "mid" / "lost.npy", np.zeros((1, 2)))
    verdict = verify(out)
    assert verdict.problems == []
    notes = dict(verdict.notes)
    assert set(notes) == {"a", "gone", "deep/orphan.npy", "taps/mid/lost.npy"}
    assert "not here" in notes["a"]


def invoke(*arguments):
    return CliRunner().invoke(group, [str(a) for a in arguments], standalone_mode=False)


def test_the_command_line_of_verify(out):
    right = invoke("verify", out)
    assert right.return_value == 0
    assert "2 videos" in right.stdout
    edit(out / "a.json", dtype="float16")
    wrong = invoke("verify", out, "--json")
    assert wrong.return_value == 1
    assert [p["id"] for p in json.loads(wrong.stdout)["problems"]] == ["a"]
    assert "WRONG: a: dtype" in invoke("verify", out, "--no-plan").stdout


@given(st.integers(0, 2**32), st.integers(1, 20), st.integers(1, 50))
def test_cosine_against_its_definition(seed, n, width):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, n, width)).astype(np.float32)
    want = [
        x @ y / math.sqrt(x @ x * (y @ y))
        for x, y in zip(a.astype(float), b.astype(float), strict=True)
    ]
    np.testing.assert_allclose(cosine(a, b), want, atol=1e-12)
    np.testing.assert_allclose(cosine(a, 3 * a), 1)
    np.testing.assert_allclose(cosine(a, -a), -1)
    zero = np.zeros_like(a)
    assert cosine(zero, zero).tolist() == [1] * n
    assert cosine(a, zero).tolist() == [0] * n


def test_compare_finds_the_row_that_differs(tmp_path):
    rows = features(6, (8,))
    one = make_folder(tmp_path / "one", {"deep/v": rows, "mine": rows})
    rows.values[4] *= -1
    two = make_folder(tmp_path / "two", {"deep/v": rows, "theirs": rows})
    found = compare(one, two)
    assert (found.only_a, found.only_b) == (["mine"], ["theirs"])
    worst = found.worst[0]
    assert (worst.id, worst.row, worst.cosine) == ("deep/v", 4, pytest.approx(-1))
    assert (worst.start_s, worst.end_s) == (2.0, 3.0)
    record = found.record()
    assert record["identical_rows"] == 5
    assert record["cosine"]["min"] == pytest.approx(-1)
    assert record["cosine"]["median"] == pytest.approx(1)


def test_compare_reads_files_of_other_tools(tmp_path):
    torch = pytest.importorskip("torch")
    rows = features(5, (8,)).values
    ours = make_folder(tmp_path / "ours", {v: features(5, (8,)) for v in ("a", "b", "c", "d")})
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    np.save(theirs / "a.npy", rows)
    np.savez(theirs / "b.npz", features=rows[:4], scores=rows)
    torch.save(torch.from_numpy(rows.copy()), theirs / "c.pt")
    np.savez(theirs / "d.npz", x=rows, y=rows)
    found = compare(ours, theirs)
    assert found.identical == 14
    assert found.unequal == {"b": (5, 4)}
    assert "which are the rows" in found.problems["d"]
    packed = tmp_path / "packed"
    pack(read_folder(ours), packed, Packing("actionformer"))
    assert compare(ours, packed).identical == 20
    alone = compare(ours / "a.npy", theirs / "c.pt")
    assert alone.identical == 5


@pytest.mark.parametrize("content", [b"", b"not numpy", b"PK\x03\x04"])
def test_compare_survives_hostile_files(tmp_path, content):
    np.save(tmp_path / "a.npy", np.ones((2, 2), np.float32))
    for name in ("x.npy", "x.npz", "x.pt"):
        (tmp_path / name).write_bytes(content)
        assert compare(tmp_path / "a.npy", tmp_path / name).problems
    np.save(tmp_path / "flat.npy", np.ones(3))
    np.save(tmp_path / "nan.npy", np.full((2, 2), np.nan))
    np.save(tmp_path / "wide.npy", np.ones((2, 5)))
    for name in ("flat", "nan", "wide"):
        assert compare(tmp_path / "a.npy", tmp_path / f"{name}.npy").problems


def test_the_command_line_of_compare(tmp_path):
    rows = features(6, (8,))
    one = make_folder(tmp_path / "one", {"v": rows})
    rows.values[4] += 0.5
    two = make_folder(tmp_path / "two", {"v": rows})
    same = invoke("compare", one, one, "--min-cosine", "1")
    assert same.return_value == 0
    assert "6 rows identical" in same.stdout
    apart = invoke("compare", one, two, "--worst", "1")
    assert apart.return_value == 0
    assert "v row 4" in apart.stdout
    assert invoke("compare", one, two, "--min-cosine", "0.9999").return_value == 1
    assert json.loads(invoke("compare", one, two, "--json").stdout)["worst"][0]["row"] == 4
    for bad in ((one, one / "v.npy"), (one, tmp_path / "nowhere")):
        assert isinstance(invoke("compare", *bad).exception, UsageError)
