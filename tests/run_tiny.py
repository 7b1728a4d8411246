"""`python run_tiny.py extract ...`: `tubelet extract ...` with a registry that gives `TinyModel`.

`python run_tiny.py` alone starts such processes on demand, so that each start costs no imports:
a line {"argv", "fifo", "limit"} forks one and answers its number, a line with a number waits for
its end and answers the exit code.
"""

import importlib
import json
import os
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from tiny import TinyModel
from tubelet.cli import main
from tubelet.models import registry


def create_tiny(name, **choices):
    """What `create_model` gives, without weights from anywhere."""
    model = TinyModel()
    model.model_id = name
    return model


def serve():
    for line in sys.stdin:
        order = json.loads(line)
        if isinstance(order, int):
            answer = os.waitstatus_to_exitcode(os.waitpid(order, 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                become(order)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def become(order):
    """The forked child: its output goes to the FIFO, its arguments are the command line's."""
    fifo = os.open(order["fifo"], os.O_WRONLY)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(fifo, 1)
    os.dup2(fifo, 2)
    if order["limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], order["limit"]))
    sys.argv = ["tubelet", *order["argv"]]
    try:
        main()
    finally:
        sys.stdout.flush()


if __name__ == "__main__":
    registry.create_model = create_tiny
    for name in os.environ.get("RUN_TINY_IMPORTS", "").split():
        importlib.import_module(name)
    if len(sys.argv) > 1:
        main()
    else:
        serve()
