"""Arguments become videos with ids that are safe, distinct and stable."""

import json
import os
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tubelet.errors import UsageError
from tubelet.inputs import Input, check_rates, collect
from tubelet.inputs.types import public_url
from tubelet.store.ids import RESERVED, ROOT_NAMES, check_id


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def ids(*arguments):
    return [item.id for item in collect(map(str, arguments))]


def test_ids_of_each_kind(tmp_path, monkeypatch):
    touch(tmp_path, "a.b.mp4", "sub/deep/x y.MKV", "sub/日本.webm", "notes.txt", ".hidden.mp4")
    touch(tmp_path, "frames/v1.x/0001.jpg", "frames/v1.x/0002.jpg")
    assert ids(tmp_path / "a.b.mp4") == ["a.b"]
    assert sorted(ids(tmp_path)) == ["a.b", "frames/v1.x", "sub/deep/x y", "sub/日本"]
    assert sorted(ids(tmp_path / "sub")) == ["deep/x y", "日本"]
    assert ids(f"{tmp_path}/sub/**/*.*") == ["deep/x y", "日本"]
    assert ids(tmp_path / "frames/v1.x") == ["v1.x"]
    assert ids(f"{tmp_path}/frames/*") == ["v1.x"]
    monkeypatch.chdir(tmp_path)
    assert ids("*.mp4") == ["a.b"]
    assert ids("sub/../a.b.mp4", "http://host/dir/clip.v2.mp4?token=1") == ["a.b", "clip.v2"]
    assert ids("https://host/", "synthetic:frames=3,fps=29.97") == ["video", "frames=3,fps=29.97"]


def test_a_name_with_glob_characters_is_a_name(tmp_path):
    touch(tmp_path, "[x] 100%?.mp4")
    assert ids(tmp_path / "[x] 100%?.mp4") == ["[x] 100%?"]


def test_missing_files_of_a_list_are_kept_for_the_record(tmp_path):
    (tmp_path / "list.txt").write_text("absent.mp4")
    (item,) = collect([str(tmp_path / "list.txt")])
    assert item == Input("absent", str(tmp_path / "absent.mp4"))


@pytest.mark.parametrize("argument", ["absent.mp4", "empty", "no/*.mp4", "list.txt", "bad.tar"])
def test_arguments_that_name_nothing(tmp_path, argument):
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "list.txt", "bad.tar")
    with pytest.raises(UsageError):
        collect([str(tmp_path / argument)])


def test_two_inputs_with_one_id(tmp_path):
    touch(tmp_path, "a.mp4", "a.mkv", "sub/a.mp4")
    with pytest.raises(UsageError, match=r"two inputs have the id 'a'.*a\.mkv and .*a\.mp4"):
        collect([str(tmp_path)])
    with pytest.raises(UsageError, match="two inputs"):
        collect([str(tmp_path / "a.mp4"), str(tmp_path / "sub/a.mp4")])


def test_symlinks(tmp_path):
    touch(tmp_path, "real/a.mp4")
    os.symlink(tmp_path, tmp_path / "real/loop")
    os.symlink(tmp_path / "real", tmp_path / "twin")
    os.symlink("self.mp4", tmp_path / "self.mp4")
    assert sorted(ids(tmp_path)) == ["real/a", "self"]  # the loop of a file: a failure of its own


def test_names_that_are_not_utf8(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.mp4")).touch()
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert ids(tmp_path) == ["caf\udce9"]


def test_lists(tmp_path):
    (tmp_path / "l.txt").write_text("﻿# comment\n\n  a.mp4  \r\nhttp://h/b.mp4?sig=x\n/abs/c.mov\n")
    found = collect([str(tmp_path / "l.txt")])
    assert [i.id for i in found] == ["a", "b", "c"]
    assert found[0].path == str(tmp_path / "a.mp4")
    assert (found[1].path, found[2].path) == ("http://h/b.mp4?sig=x", "/abs/c.mov")

    (tmp_path / "l.csv").write_text('end,path,id,start\n2.5,"a, b.mp4",x/1,0\n,c.mp4,,\n')
    found = collect([str(tmp_path / "l.csv")])
    assert found[0] == Input("x/1", str(tmp_path / "a, b.mp4"), 0.0, 2.5)
    assert found[1] == Input("c", str(tmp_path / "c.mp4"))

    (tmp_path / "plain.csv").write_text("a.mp4,one,1,2\n\nb.mp4\n")
    assert [i.id for i in collect([str(tmp_path / "plain.csv")])] == ["one", "b"]

    lines = [{"path": "a.mp4", "id": 0, "start": 1, "end": 2.5}, {"path": "b.mp4", "id": None}]
    (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = collect([str(tmp_path / "l.jsonl")])
    assert [(i.id, i.start_s, i.end_s) for i in found] == [("0", 1, 2.5), ("b", None, None)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "video,id\na.mp4,x\n", "a header without `path`"),
        ("l.csv", "path,start\na.mp4,soon\n", r"l\.csv:2: start is 'soon'; it must be seconds"),
        ("l.csv", "path,start\na.mp4,-1\n", "must be seconds, 0 or more"),
        ("l.csv", "path,end\na.mp4,nan\n", "must be seconds"),
        ("l.csv", "path,start,end\na.mp4,3,3\n", "need 0 <= start < end"),
        ("l.csv", "path,id\n,x\n", "no path"),
        ("l.jsonl", "{}", "no path"),
        ("l.jsonl", "[1]", "need an object"),
        ("l.jsonl", '{"path": "a"}\n{"path', r"l\.jsonl:2: not JSON"),
        ("l.jsonl", '{"path": "a", "id": ["x"]}', "id is"),
        ("l.jsonl", "[" * 100000, "not JSON"),
        ("l.txt", "# nothing\n", "the list is empty"),
    ],
)
def test_bad_lists_name_the_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message):
        collect([str(tmp_path / name)])


@pytest.mark.parametrize(
    ("name", "text", "meant"),
    [
        ("l.csv", "path,id,start_time,end_time\na.mp4,x,1,2\n", "'start'"),
        ("l.csv", "path,begin\na.mp4,1\n", "'start'"),
        ("l.csv", "path,End Time\na.mp4,1\n", "'end'"),
        ("l.csv", "path,strat\na.mp4,1\n", "'start'"),
        ("l.csv", "path,video_id\na.mp4,1\n", "'id'"),
        ("l.csv", "path,end_frame\na.mp4,1\n", "'stop_frame'"),
        ("l.csv", "path,duration\na.mp4,1\n", "column 'duration' is unknown"),
        ("l.csv", "video,start_time,end_time\na.mp4,1,2\n", r"without `path` \('video'\?\)"),
        ("l.jsonl", '{"path": "a.mp4", "t_start": 1}', "'start'"),
        ("l.jsonl", '{"path": "a.mp4"}\n{"path": "b.mp4", "stop": 1}', r"l\.jsonl:2: .*'end'"),
        ("l.jsonl", '{"path": "a.mp4", "path": "b.mp4"}', "'path' stands there twice"),
        ("l.csv", "path,start,start\na.mp4,1,2\n", "'start' stands there twice"),
        ("l.csv", "path,id\na.mp4,x,1,2\n", "4 cells, but there are 2 columns"),
        ("l.csv", "a.mp4,x,1,2,3\n", "5 cells"),
        ("l.txt", "path,id,start\na.mp4,x,1\n", "columns in a .txt list"),
        ("l.txt", "a.mp4,x,1,2\n", "name the list .csv"),
        ("l.txt", "a.mp4\tx\n", "name the list .csv"),
        ("l.txt", '{"path": "a.mp4"}', "name the list .jsonl"),
        ("l.csv", "path,start,start_frame\na.mp4,1,2\n", "one in seconds|in seconds and one in"),
        ("l.csv", "path,start_frame\na.mp4,1.5\n", "must be a whole number"),
        ("l.csv", "path,start_frame,stop_frame\na.mp4,9,9\n", "start_frame < stop_frame"),
        ("l.csv", "path,start\na.mp4,1:75\n", "or a time such as 1:02:03.5"),
        ("l.csv", "path,fps\na,0\n", r"l\.csv:2: fps '0' is not a positive number"),
        ("l.csv", "path,fps\nhttp://h/a.mp4,25\n", "has its own timestamps"),
        ("l.jsonl", '{"path": "a.mp4", "start": 1' + "0" * 400 + "}", "start is 1000+.*seconds"),
        ("l.jsonl", '{"path": "a.mp4", "start": 1' + "0" * 5000 + "}", r"l\.jsonl:1: "),
        ("l.jsonl", '{"path": "a.mp4", "end": 1e999}', "end is inf"),
        ("l.jsonl", '{"path": "a.mp4", "id": "\\ud800"}', "half of a surrogate pair"),
        ("l.jsonl", '{"path": "\\udc00.mp4"}', "half of a surrogate pair"),
        ("l.jsonl", '{"path": "a\\u0000b.mp4"}', "NUL"),
        ("l.txt", "http://[evil/x.mp4", r"l\.txt:1: .*is not a URL"),
        ("l.txt", "https:///x.mp4", "names no host"),
        ("l.txt", "http://h:99999/x.mp4", "is not a URL"),
    ],
)
def test_nothing_of_a_list_is_passed_over(tmp_path, name, text, meant):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=meant):
        collect([str(tmp_path / name)])


def test_columns_that_change_nothing_are_told_once(tmp_path, caplog):
    (tmp_path / "l.csv").write_text("path,label,split\na.mp4,3,train\nb.mp4,4,train\n")
    assert ids(tmp_path / "l.csv") == ["a", "b"]
    lines = [json.dumps({"path": f"{name}.mp4", "caption": "x"}) for name in "ab"]
    (tmp_path / "l.jsonl").write_text("\n".join(lines))
    assert ids(tmp_path / "l.jsonl") == ["a", "b"]
    told = [record.getMessage() for record in caplog.records]
    assert [text.split(": ", 1)[1] for text in told] == [
        "not used: 'label', 'split'", "not used: 'caption'",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["l.txt", "l.csv"])
def test_lists_of_labels(tmp_path, caplog, name):
    """TSN has frames and class after the path, PySlowFast the class; names may hold numbers."""
    touch(tmp_path, "take 2.mp4")
    (tmp_path / "clip").mkdir()
    (tmp_path / name).write_text("x/a.mp4 3\nb.mp4 120 7\nclip 120 7\ntake 2.mp4\ntake 2.mp4 1\n")
    with pytest.raises(UsageError, match="two inputs have the id 'take 2'"):
        collect([str(tmp_path / name)])
    (tmp_path / name).write_text("x/a.mp4 3\nb.mp4 120 7\nclip 120 7\ntake 2.mp4\n")
    found = collect([str(tmp_path / name)])
    assert [item.id for item in found] == ["a", "b", "clip", "take 2"]
    assert found[1].path == str(tmp_path / "b.mp4")
    assert "not used: the numbers after the path" in caplog.text


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("delimiter", ["\t", ";", ","])
@pytest.mark.parametrize("header", [True, False])
def test_what_separates_columns(tmp_path, suffix, delimiter, header):
    if suffix == ".tsv" and delimiter != "\t":
        pytest.skip("a .tsv has tabs")
    rows = [["path", "id", "start", "end"]] * header + [["a.mp4", "x", "1:02.5", "00:01:10"]]
    (tmp_path / f"l{suffix}").write_text("\n".join(map(delimiter.join, rows)))
    (item,) = collect([str(tmp_path / f"l{suffix}")])
    assert item == Input("x", str(tmp_path / "a.mp4"), 62.5, 70.0)


@pytest.mark.parametrize(
    ("encoding", "mark"), [("utf-16-le", True), ("utf-16-be", True), ("utf-32-le", True)]
)
def test_lists_of_other_encodings(tmp_path, encoding, mark):
    for name, text in (("l.csv", "path,id\nä.mp4,日本\n"), ("l.txt", "日本.mp4\r\n")):
        (tmp_path / name).write_bytes(("\ufeff" + text).encode(encoding))
        assert ids(tmp_path / name) == ["日本"]
        (tmp_path / name).write_bytes(text.encode(encoding))
        with pytest.raises(UsageError, match="save the list as UTF-8"):
            collect([str(tmp_path / name)])
    (tmp_path / "l.txt").write_bytes(b"\xff\xfea")
    with pytest.raises(UsageError, match=r"begins as UTF-16 and is not"):
        collect([str(tmp_path / "l.txt")])


def test_segments_of_one_video_have_ids_of_their_own(tmp_path):
    (tmp_path / "l.csv").write_text(
        "path,id,start,end\na.mp4,,0,2.5\na.mp4,,0:02.5,\nb.mp4,,1,2\na.mp4,own,5,6\n"
        "c.mp4,,,\nc.mp4,,0.00001,1e3\nd.mp4,,,10.10\nd.mp4,,,20\n"
    )
    assert ids(tmp_path / "l.csv") == [
        "a_0_2.5", "a_2.5_end", "b", "own", "c", "c_0.00001_1000", "d_0_10.1", "d_0_20",
    ]  # fmt: skip
    (tmp_path / "f.csv").write_text(
        "path,start_frame,stop_frame\na.mp4,0,16\na.mp4,16,\nb.mp4,3,4\n"
    )
    found = collect([str(tmp_path / "f.csv")])
    assert [item.id for item in found] == ["a_f0_f16", "a_f16_end", "b"]
    assert (found[2].start_frame, found[2].stop_frame, found[2].start_s) == (3, 4, None)
    (tmp_path / "l.csv").write_text("path,start,end\na.mp4,0,1\na.mp4,0,1\n")
    with pytest.raises(UsageError, match="two inputs have the id 'a_0_1'"):
        collect([str(tmp_path / "l.csv")])


def test_folders_of_frames_have_a_rate_of_their_own(tmp_path):
    touch(tmp_path, "in/a/1.jpg", "in/b/1.jpg", "in/c.mp4")
    (tmp_path / "l.csv").write_text("path,fps\nin/a,30000/1001\nin/b,\nin/c.mp4,\n")
    found = collect([str(tmp_path / "l.csv")], frames_fps=Fraction(3), frames_pattern="%d.jpg")
    assert [(i.id, i.fps, i.pattern) for i in found] == [
        ("a", Fraction(30000, 1001), "%d.jpg"), ("b", 3, "%d.jpg"), ("c", None, None),
    ]  # fmt: skip
    check_rates(found)
    with pytest.raises(UsageError, match=r"in/b is a folder of frames.*--frames-fps"):
        check_rates(collect([str(tmp_path / "in/b")]))
    with pytest.raises(UsageError, match="--frames-fps: no input is a folder of frames"):
        collect([str(tmp_path / "in/c.mp4")], frames_fps=Fraction(3))
    with pytest.raises(UsageError, match="--frames-pattern: no input is"):
        collect([str(tmp_path / "in/c.mp4")], frames_pattern="%d.jpg")
    (tmp_path / "l.csv").write_text("path,fps\nin/c.mp4,25\n")
    with pytest.raises(UsageError, match="has its own timestamps"):
        collect([str(tmp_path / "l.csv")])


def test_frames_beside_their_flow_are_one_video(tmp_path):
    touch(tmp_path, "a/i/1.jpg", "a/u/1.jpg", "a/v/1.jpg", "b/img_1.jpg", "b/flow_x_1.jpg")
    assert ids(tmp_path) == ["a", "b"]
    touch(tmp_path, "flows/u/clip/1.jpg", "flows/v/clip/1.jpg")
    with pytest.raises(UsageError, match="look like pictures of optical flow"):
        collect([str(tmp_path)])
    assert ids(tmp_path / "flows/u/clip") == ["clip"]


@pytest.mark.parametrize("name", ["a.rm", "a.rmvb", "a.dv", "a.wtv", "a.ogg", "a.ivf", "a.h264"])
def test_folders_know_videos_by_their_names(tmp_path, name):
    touch(tmp_path, name)
    assert ids(tmp_path) == ["a"]


@pytest.mark.parametrize("url", ["http://[evil/x.mp4", "http://h:x/a.mp4", "https://", "a\0.mp4"])
def test_arguments_that_are_no_names(url):
    with pytest.raises(UsageError, match=r"is not a URL|NUL"):
        collect([url])


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
def test_a_pipe_is_no_list(tmp_path, suffix):
    os.mkfifo(tmp_path / f"l{suffix}")
    with pytest.raises(UsageError, match="not a plain file"):
        collect([str(tmp_path / f"l{suffix}")])


WORDS = st.text(st.sampled_from('ab/.,:"\n\\{}[]#0ép ath'), max_size=40) | st.text(max_size=40)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=WORDS, suffix=st.sampled_from([".txt", ".csv", ".jsonl"]))
@example(text='path,id\nx,"..', suffix=".csv")
@example(text="a\0b.mp4", suffix=".txt")
def test_any_list_is_read_or_refused(tmp_path, text, suffix):
    path = tmp_path / f"list{suffix}"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        found = collect([str(path)])
    except UsageError:
        return
    assert found
    assert len({item.id for item in found}) == len(found)


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20
)


@settings(max_examples=100, deadline=None)
@given(names=st.sets(NAMES, min_size=1, max_size=5), deep=NAMES)
def test_any_file_name_gives_a_distinct_id(tmp_path_factory, names, deep):
    root = tmp_path_factory.mktemp("any")
    expected = set()
    for name in names:
        for parts in ((f"{name}.mp4",), ("d", f"{name}.mkv")):
            if not any(part.startswith(".") for part in parts) and len(name.encode()) < 200:
                touch(root, "/".join(parts))
                expected.add(os.path.splitext("/".join(parts))[0])
    if not expected:
        return
    found = collect([str(root)])
    assert {item.id for item in found} == expected
    for item in found:
        assert Path(item.path).exists()
        try:
            check_id(item.id)
        except UsageError:
            assert item.id.split("/")[0] in (*RESERVED, *ROOT_NAMES) or "\\" in item.id


def test_credentials_are_not_shown():
    url = "https://user:secret@host:81/a/b.mp4?X-Signature=secret#secret"
    assert public_url(url) == "https://host:81/a/b.mp4"
    assert Input("b", url).shown == "https://host:81/a/b.mp4"
