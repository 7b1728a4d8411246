"""One run over a folder of odd and broken files: each gives rows or a reason."""

from tests_support import failures, go, tiny
from tubelet.clips.windows import WindowConfig
from tubelet.store.folder import load

from .samples import SAMPLES
from .test_damage import KINDS, payloads, whole  # noqa: F401 a fixture
from .test_refusals import REFUSED

PLAIN = {"h264.mp4", "hevc.mp4", "vp9.webm", "av1.mp4", "mpeg4.mp4", "mjpeg.mp4"}


def test_every_odd_or_broken_file_gives_rows_or_a_reason(made, whole, tmp_path):  # noqa: F811
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    odd = {}
    for sample in SAMPLES:
        if sample.name not in PLAIN:
            odd[sample.name.replace(".", "_")] = sample
            suffix = sample.name.rpartition(".")[2]
            (folder / f"{sample.name.replace('.', '_')}.{suffix}").hardlink_to(made(sample))
    cut = set()
    for name in KINDS:
        data, places = whole(name).read_bytes(), payloads(whole(name))
        middle = places[0][0] + (places[-1][0] - places[0][0]) * 3 // 5
        stem, _, suffix = name.rpartition(".")
        cut.add(f"cut_{stem}_{suffix}")
        (folder / f"cut_{stem}_{suffix}.{suffix}").write_bytes(data[:middle])
    refused = set()
    for name, (write, _, _) in REFUSED.items():
        if name != "folder.mp4" and name.rpartition(".")[2] != "m4a":
            refused.add("refused_" + name.replace(".", "_"))
            write(folder / f"refused_{name.replace('.', '_')}.{name.rpartition('.')[2]}")
    assert len(odd) + len(cut) + len(refused) >= 60

    _, heard = go([folder], out, tiny(window=WindowConfig(4)))
    kinds = heard.kinds()
    assert {name for name, kind in kinds.items() if kind == "failed"} == refused
    assert {name for name, kind in kinds.items() if kind == "extracted"} == cut | set(odd)
    for name, line in failures(out).items():
        assert not line["unexpected"], line
        assert name in line["message"]
        assert "\n" not in line["message"]
    for name in odd:
        stored = load(out / f"{name}.json").provenance
        assert not stored["damaged"], stored["warnings"]
    for name in cut:
        stored = load(out / f"{name}.json").provenance
        # A transport stream does not say how long it is.
        assert stored["warnings"] or name.endswith("_ts"), name
