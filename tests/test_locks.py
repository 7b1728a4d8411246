"""Locks between processes, and whether a process lives, on every system."""

import os
import subprocess
import sys

import pytest

from tubelet.machine import locks
from tubelet.machine.locks import Owner, is_alive, locked, started, this_process

HOLD = """
import sys
from pathlib import Path
from tubelet.machine.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_and_a_dead_one_lets_go(tmp_path):
    path = tmp_path / "deep/lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(locks.Timeout), locked(path, timeout_s=0.05):
        pass
    holder.kill()
    holder.communicate()
    with locked(path):
        pass


def test_a_file_system_without_locks_does_not_stop_a_run(tmp_path, monkeypatch):
    def refuse(self, **_):
        raise NotImplementedError

    monkeypatch.setattr(locks.FileLock, "acquire", refuse)
    with locked(tmp_path / "lock"):
        done = True
    assert done


def test_on_windows_no_signal_asks_whether_a_process_lives(monkeypatch):
    """os.kill ends the process there, whatever the signal."""
    me, there = this_process(), {os.getpid(): "133700", 4: "0"}

    def kill(*_):
        raise AssertionError("a signal was sent")

    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr(locks.os, "kill", kill)
    monkeypatch.setattr(locks, "windows_start", there.get)
    assert started(os.getpid()) == "133700"
    living = Owner(me.host, me.machine, os.getpid(), "133700")
    later = Owner(me.host, me.machine, os.getpid(), "133699")
    protected = Owner(me.host, me.machine, 4, "1")
    gone = Owner(me.host, me.machine, 77, "133700")
    assert [is_alive(one) for one in (living, later, protected, gone)] == [True, False, True, False]
    assert is_alive(Owner("far", "00000000", 1, "1")) is None
