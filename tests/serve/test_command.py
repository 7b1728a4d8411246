"""`tubelet serve` as people start it."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys

import pytest

from folders import features, make_folder


def start(*arguments):
    """(process, address) once it says where it is."""
    command = [sys.executable, "-m", "tubelet", "serve", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    line = process.stderr.readline()
    found = re.search(r"http://([\w.\-\[\]:]+):(\d+)/(\S*)", line)
    if found is None:
        rest = process.communicate()[1]
        return process, line + rest
    return process, (found[1], int(found[2]), found[3])


def stop(process):
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    return process.returncode


def ask(port, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "out", {"a": features()})


def test_it_says_where_it_is_and_stops_quietly(folder):
    process, (host, port, query) = start(folder, "--port", 0)
    try:
        assert (host, query) == ("127.0.0.1", "")
        status, body = ask(port, "/api/state")
        assert status == 200
        assert json.loads(body)["videos"] == 1
        assert ask(port, "/api/state", Host="evil.example")[0] == 421
    finally:
        assert stop(process) == 0


def test_others_need_the_token_in_the_printed_address(folder):
    process, (_, port, query) = start(folder, "--port", 0, "--host", "0.0.0.0", "--no-uploads")
    try:
        assert query.startswith("?token=")
        assert ask(port, "/api/state")[0] == 401
        assert ask(port, "/" + query)[0] == 200
        token = query.partition("=")[2]
        assert ask(port, "/api/state", Authorization=f"Bearer {token}")[0] == 200
    finally:
        assert stop(process) == 0


def test_a_port_that_is_taken(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process, said = start(folder, "--port", taken.getsockname()[1])
    assert process.returncode == 2
    assert "--port 0" in said


def test_a_session_that_is_a_file(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("not a folder")
    process, said = start(folder, "--session", tmp_path / "notes.txt")
    assert process.returncode == 2
    assert "is a file" in said


def test_a_folder_that_is_none(tmp_path):
    process, said = start(tmp_path)
    assert process.returncode == 2
    assert "is this the OUT of an extract?" in said
