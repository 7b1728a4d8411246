"""The mutation run changes one thing at a time, and its units name files and tests that exist."""

from tools.mutate import ROOT, UNITS, mutants


def test_units_exist():
    for files, tests in UNITS.values():
        assert all((ROOT / "src" / "tubelet" / name).is_file() for name in files)
        assert all((ROOT / name).exists() for name in tests)


def test_each_change_is_one_change(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("def f(a, b):\n    if a < b and b:\n        return a + 1\n    return True\n")
    found = {(line, what): source for line, what, source in mutants(path)}
    assert set(found) == {
        (2, "condition negated"),
        (2, "-> Or"),
        (2, "Lt -> LtE"),
        (3, "Add -> Sub"),
        (3, "1 -> 2"),
        (4, "True -> False"),
    }
    assert "a <= b and b" in found[2, "Lt -> LtE"]
    assert "return a + 1" in found[2, "Lt -> LtE"]
    assert "return a - 1" in found[3, "Add -> Sub"]
