"""What starts without torch, and what the command line and its workers set for themselves."""

import os
import subprocess
import sys

import pytest

from tests_support import video

QUIET = "print('torch' in sys.modules, os.environ.get('OMP_WAIT_POLICY'))"


def run(code, **changes):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | changes
    command = [sys.executable, "-c", f"import os, sys\n{code}\n{QUIET}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


def verb(*arguments):
    return (
        f"sys.argv = ['tubelet', *{arguments!r}]\nfrom tubelet.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )


def test_importing_changes_nothing_and_loads_no_torch():
    assert run("import tubelet") == ["False", "None"]
    assert run("import tubelet\ntubelet.load, tubelet.plan_windows") == ["False", "None"]


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("extract", "--help"), ("models",), ("models", "x3d*", "--json"), ("presets",)],
)
def test_verbs_that_run_no_network_load_no_torch(arguments):
    assert run(verb(*arguments)) == ["False", "PASSIVE"]


def test_plan_and_show_load_no_torch(tmp_path):
    path = str(video(tmp_path / "a.mp4", frames=30))
    assert run(verb("plan", path, "-m", "slowfast_r50_8x8.k400", "--rows")) == ["False", "PASSIVE"]
    assert run(verb("show", path)) == ["False", "PASSIVE"]


def test_a_users_own_setting_wins():
    assert run(verb("--help"), OMP_WAIT_POLICY="ACTIVE") == ["False", "ACTIVE"]
    code = "from tubelet.machine.process import keep_memory\nprint(keep_memory())"
    own = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MALLOC_TRIM_THRESHOLD_": "131072"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert own.stdout == "False\n"


def test_children_wait_patiently_and_this_process_is_left_alone():
    code = (
        "import multiprocessing as m\nfrom tubelet.machine.process import patient_children\n"
        "p = m.get_context('spawn').Pool\n"
        "with patient_children():\n    pool = p(1)\n"
        "assert pool.apply(os.getenv, ('OMP_WAIT_POLICY',)) == 'PASSIVE'\n"
        "pool.terminate(); pool.join()"
    )
    assert run(code) == ["False", "None"]
