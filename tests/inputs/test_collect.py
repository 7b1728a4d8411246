"""Arguments become videos with ids that are safe, distinct and stable."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tubelet.errors import UsageError
from tubelet.inputs import Input, collect
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
