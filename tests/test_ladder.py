"""The import ladder: a unit imports only from rungs below its own, read with ast."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "tubelet"

RUNGS = [
    {"types", "errors"},
    {"config", "cache", "process", "insight", "pulse", "meter"},
    {"window"},
    {
        "decode",
        "encode",
        "views",
        "gather",
        "transform",
        "models",
        "store",
        "flow",
        "align",
    },
    {"inputs", "recording", "modality", "collection"},
    {"lanes", "reuse", "batches"},
    {"presets", "pipeline", "annotations"},
    {"recipe"},
    {"classify", "overlap", "verify", "compare", "scores"},
    {"scale", "report", "search", "plots"},
    {"serve", "train", "bench"},
    {"cli"},
]
RUNG = {unit: rung for rung, units in enumerate(RUNGS) for unit in units}

FENCES = {
    "av": {"decode", "encode"},
    "torchcodec": {"decode"},
    "ray": {"scale"},
    "h5py": {"store"},
    "pyarrow": {"store"},
    "cv2": {"flow"},
    "faiss": {"search"},
    "umap": {"report"},
    "matplotlib": {"plots"},
    "fastapi": {"serve"},
    "starlette": {"serve"},
    "uvicorn": {"serve"},
    "click": {"cli"},
    "rich": {"cli"},
}

# A family file may import the shared layers and at most the family its paper extends.
FAMILY_MAY_IMPORT = {
    "i3d": {"layers"},
    # pathway: what a ResNet is made of, once or twice
    "pathway": {"nonlocal_block"},
    "resnet3d": {"layers", "nonlocal_block", "pathway"},
    "slowfast": {"layers", "nonlocal_block", "pathway", "resnet3d"},
    "x3d": {"layers"},
    # trunk: widths and grids of the blocks; positions and pooling_attention: what both families
    # add to tokens and attend with.
    "mvit": {"layers", "trunk", "positions", "pooling_attention"},
    "revmvit": {"layers", "trunk", "positions", "pooling_attention", "mvit", "reversible"},
    "trunk": set(),
    "positions": {"trunk"},
    "pooling_attention": {"layers", "trunk", "positions"},
    "reversible": set(),
    "nonlocal_block": {"layers"},
    "layers": set(),
    "two_stream": {"layers", "i3d"},
}

FILES = sorted(SRC.rglob("*.py"))


def imports(path):
    """(module, under TYPE_CHECKING) of every import of a file, relative ones resolved."""
    package = ["tubelet", *path.relative_to(SRC).parts[:-1]]
    found = []

    def visit(node, typing_only):
        for child in ast.iter_child_nodes(node):
            guarded = typing_only or (
                isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            )
            if isinstance(child, ast.Import):
                found.extend((alias.name, guarded) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else []
                module = ".".join([*base, *((child.module or "").split("."))]).strip(".")
                names = [f"{module}.{alias.name}" for alias in child.names]
                found.extend((name, guarded) for name in names)
            visit(child, guarded)

    visit(ast.parse(path.read_text()), False)
    return found


def unit_of(parts):
    return parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_go_down_the_ladder(path):
    unit = unit_of(path.relative_to(SRC).parts)
    if unit in ("__init__", "__main__"):
        return
    assert unit in RUNG, f"{unit} has no rung: add it to the ladder, with a reason in docs"
    for module, _ in imports(path):
        parts = module.split(".")
        if parts[0] == "tubelet" and len(parts) > 1 and parts[1] != "__version__":
            other = parts[1]
            if other == unit or other not in RUNG:
                continue
            assert RUNG[other] < RUNG[unit], f"{unit} (rung {RUNG[unit]}) imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_third_party_fences(path):
    unit = unit_of(path.relative_to(SRC).parts)
    for module, typing_only in imports(path):
        top = module.split(".")[0]
        if top in FENCES:
            assert unit in FENCES[top], f"{unit} imports {top}, which belongs to {FENCES[top]}"
        if unit in ("types", "errors", "config", "window") and top == "torch":
            assert typing_only, f"{unit} must not import torch"


@pytest.mark.parametrize("family", sorted(FAMILY_MAY_IMPORT))
def test_a_family_reads_alone(family):
    path = SRC / "models" / f"{family}.py"
    if not path.exists():
        return
    for module, _ in imports(path):
        parts = module.split(".")
        if parts[:2] == ["tubelet", "models"] and len(parts) > 2:
            assert parts[2] in FAMILY_MAY_IMPORT[family], f"{family} imports {module}"
