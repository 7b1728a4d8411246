"""Starts real `tubelet` processes with the tiny model; see run_tiny.py."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path


class Started:
    """One process: its number, its lines, its end."""

    def __init__(self, launcher, pid, fifo):
        self.pid, self._launcher = pid, launcher
        self.output = open(fifo)  # noqa: SIM115 closed by `wait`

    def lines(self, count):
        """The next lines that it writes; fewer when it ends before."""
        return list(itertools.islice(self.output, count))

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait(self):
        """(exit code, the rest of what it wrote)."""
        text = self.output.read()
        self.output.close()
        return self._launcher.ask(self.pid), text


class Launcher:
    """imports: modules that the processes need, imported once for all of them."""

    def __init__(self, folder, *, imports=""):
        self._folder, self._count = Path(folder), 0
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "RUN_TINY_IMPORTS": imports}
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("run_tiny.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def ask(self, order):
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def start(self, *argv, limit=0):
        """`tubelet *argv`. limit: bytes that a file may have."""
        self._count += 1
        fifo = self._folder / f"output-{self._count}"
        os.mkfifo(fifo)
        pid = self.ask({"argv": list(map(str, argv)), "fifo": str(fifo), "limit": limit})
        return Started(self, pid, fifo)

    def run(self, *argv, limit=0):
        return self.start(*argv, limit=limit).wait()

    def close(self):
        self._server.communicate()
