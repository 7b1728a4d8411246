"""Ids become paths below OUT and nothing else."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tubelet.errors import UsageError
from tubelet.store.ids import NAME_BYTES, RESERVED, check_id, check_ids


@pytest.mark.parametrize(
    "identity",
    ["", ".", "..", "../x", "a/../b", "a/..", "/etc/passwd", "a//b", "a/", "./a", "\\x", "a\\..\\b",
     "C:/x", "a\0b", "~/x/.."],
)  # fmt: skip
def test_ids_cannot_leave_out(identity):
    with pytest.raises(UsageError, match="relative path inside OUT"):
        check_id(identity)


@pytest.mark.parametrize(
    "identity", [*RESERVED, "taps/x", "debug/a/b", "tubelet", "failures", ".tubelet/x"]
)
def test_ids_cannot_collide_with_our_names(identity):
    with pytest.raises(UsageError, match=r"collides.*give ids in a list"):
        check_id(identity)


@pytest.mark.parametrize(
    "identity", ["a", "a.b.c", "..a", "a..", "tubelet/x", "sub/tubelet", "日本 語/ñ", "a b", "v_1",
                 "sub/taps", "~", "-rf", "x" * NAME_BYTES, "10:30", "\udcff"],
)  # fmt: skip
def test_ordinary_ids(identity):
    check_id(identity)


def test_long_names():
    with pytest.raises(UsageError, match="leave room for a suffix"):
        check_id("sub/" + "é" * 130)


def test_a_video_is_no_folder_of_another():
    check_ids(["a", "a/b"])
    with pytest.raises(UsageError, match=r"needs a folder 'a\.npy'"):
        check_ids(["a", "a.npy/b"])


@given(st.text(st.sampled_from("ab./\\\0~:é-"), max_size=12) | st.text(max_size=30))
def test_what_passes_stays_inside(identity):
    try:
        check_id(identity)
    except UsageError:
        return
    root = Path("/out")
    path = os.path.normpath(f"{root}/{identity}.json")
    assert path == f"{root}/{identity}.json"
    assert Path(path).is_relative_to(root)
    assert Path(path).relative_to(root).parts[0] not in RESERVED
