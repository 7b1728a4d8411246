"""A folder as the Hugging Face Hub has it: config.json beside safetensors, in one file or several.

    config.json                       which network, its sizes, its class names
    preprocessor_config.json          how its pixels are made (or video_preprocessor_config.json)
    model.safetensors                 or model.safetensors.index.json and the files that it names
    pytorch_model.bin                 or its index: read only where there is no safetensors

No code of the folder is ever run. The files come from strangers: JSON is read up to a limit, and a
file that an index names must lie in the folder itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from tubelet.errors import UnsafeFile, WeightsError

CONFIG = "config.json"
PREPROCESSING = ("video_preprocessor_config.json", "preprocessor_config.json")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
LARGEST_JSON = 16 << 20
"""Bytes. An index of a network with 6 billion weights has less than one million."""


def is_hub_folder(path: Path) -> bool:
    return (path / CONFIG).is_file()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of at most LARGEST_JSON bytes. Raises WeightsError."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_JSON + 1)
        if len(text) > LARGEST_JSON:
            raise WeightsError(f"{path}: more than {LARGEST_JSON >> 20} MB; not a configuration")
        found = json.loads(text)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise WeightsError(f"{path}: holds a {type(found).__name__}, not an object")
    return cast("dict[str, Any]", found)


def read_preprocessing(folder: Path) -> dict[str, Any] | None:
    """What the folder says of its pixels, None where it says nothing. Raises WeightsError."""
    for name in PREPROCESSING:
        if (folder / name).is_file():
            return read_json(folder / name)
    return None


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, safetensors first. Raises WeightsError, UnsafeFile."""
    for name in WEIGHTS:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            return [_inside(folder, file, index) for file in _named(index)]
    raise WeightsError(
        f"{folder}: a folder with {CONFIG} but without weights; it needs one of "
        f"{', '.join(WEIGHTS)} or the index of several files"
    )


def _named(index: Path) -> list[str]:
    """Names of the files in an index, each once. Raises WeightsError."""
    found = read_json(index).get("weight_map")
    names = list(found.values()) if isinstance(found, dict) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise WeightsError(f"{index}: has no weight_map from tensors to files; download it again")
    return sorted(set(names))


def _inside(folder: Path, name: str, index: Path) -> Path:
    if Path(name).name != name or name in ("", ".", ".."):
        raise UnsafeFile(f"{index}: names {name!r}, which is not a file of this folder")
    if not (folder / name).is_file():
        raise WeightsError(f"{folder}: {name} is missing, which {index.name} names; download it")
    return folder / name
