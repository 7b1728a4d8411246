"""A child process that does as it is told, and dies when told to. Imports nothing heavy."""

import sys
import tempfile

from tubelet.serve.reader_process import bound


def die(line):
    for order in line.orders():
        if order == "exit":
            sys.exit(7)
        if order == "nonsense":
            line._pipe.send_bytes(b"\x80\x04not json")
        line.end(order)


def greedy(line):
    """Takes more memory, or writes a larger file, than it is allowed."""
    bound(memory=2 << 30, file_bytes=1000)
    for order in line.orders():
        try:
            if order == "memory":
                bytearray(3 << 30)
            else:
                with tempfile.TemporaryFile() as file:
                    file.write(bytes(2000))
            line.end("had it")
        except (MemoryError, OSError) as error:
            line.end(type(error).__name__)
