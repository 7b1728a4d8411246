"""The import ladder: a unit imports only from rungs below its own, read with ast."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "tubelet"

RUNGS = [
    {"types", "errors", "config"},
    {"machine"},
    {"decode", "flow", "store"},
    {"models"},
    {"clips", "inputs"},
    {"presets", "extraction"},
    {"rows", "run"},
    {"report", "serve", "train", "bench"},
    {"cli"},
]
RUNG = {unit: rung for rung, units in enumerate(RUNGS) for unit in units}

FENCES = {
    "av": {"decode"},
    "torchcodec": {"decode"},
    "ray": {"run"},
    "h5py": {"store"},
    "pyarrow": {"store"},
    "cv2": {"flow"},
    "faiss": {"rows"},
    "umap": {"report"},
    "matplotlib": {"rows"},
    "fastapi": {"serve"},
    "starlette": {"serve"},
    "uvicorn": {"serve"},
    "click": {"cli"},
    "rich": {"cli"},
}
WITHOUT_TORCH = {"types", "errors", "config", "clips/windows"}

# A family file may import the shared blocks and at most the family its paper extends.
FAMILY_MAY_IMPORT = {
    "i3d": {"blocks.layers"},
    "resnet3d": {"blocks.layers", "blocks.nonlocal_block", "blocks.resnet"},
    "slowfast": {"blocks.layers", "blocks.nonlocal_block", "blocks.resnet", "resnet3d"},
    "x3d": {"blocks.layers"},
    "mvit": {
        "blocks.layers",
        "blocks.mvit_schedule",
        "blocks.positions",
        "blocks.pooling_attention",
    },
    "revmvit": {
        "blocks.layers",
        "blocks.mvit_schedule",
        "blocks.positions",
        "blocks.pooling_attention",
        "blocks.reversible",
        "mvit",
    },
    "two_stream": {"blocks.layers", "i3d"},
    "videomae": {
        "blocks.layers",
        "blocks.mvit_schedule",
        "blocks.pooling_attention",
        "blocks.positions",
        "blocks.vit",
    },
    "internvideo2": {
        "blocks.layers",
        "blocks.mvit_schedule",
        "blocks.pooling_attention",
        "blocks.positions",
        "blocks.vit",
    },
    "vjepa2": {
        "blocks.layers",
        "blocks.mvit_schedule",
        "blocks.pooling_attention",
        "blocks.positions",
        "blocks.vit",
    },
    "blocks/layers": set(),
    "blocks/nonlocal_block": {"blocks.layers"},
    "blocks/resnet": {"blocks.nonlocal_block"},
    "blocks/mvit_schedule": set(),
    "blocks/positions": {"blocks.mvit_schedule"},
    "blocks/pooling_attention": {"blocks.layers", "blocks.mvit_schedule", "blocks.positions"},
    "blocks/reversible": set(),
    "blocks/vit": {"blocks.mvit_schedule", "blocks.pooling_attention", "blocks.positions"},
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


MODULES = {
    ".".join(("tubelet", *path.relative_to(SRC).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in FILES
}


def unit_of(path):
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def test_the_ladder_names_what_there_is():
    units = {unit_of(path) for path in FILES} - {"__init__", "__main__"}
    assert units == set(RUNG), "every room and file at the root has a rung, and no other name"
    assert set().union(*FENCES.values()) <= units
    named = [*(f"models/{family}" for family in FAMILY_MAY_IMPORT), *WITHOUT_TORCH]
    assert not [name for name in named if not (SRC / f"{name}.py").exists()]
    assert len([path for path in FILES if path.parent == SRC]) <= 5


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_go_down_the_ladder(path):
    unit = unit_of(path)
    if unit in ("__init__", "__main__"):
        return
    for module, _ in imports(path):
        parts = module.split(".")
        if parts[0] == "tubelet" and parts[1:] != ["__version__"]:
            other = parts[1]
            assert other in RUNG, f"{module}: no such room"
            if other != unit:
                assert RUNG[other] < RUNG[unit], f"{unit} (rung {RUNG[unit]}) imports {module}"


def test_no_two_files_import_each_other():
    """A circle of any length; `Features.plot` reaches the drawing, which draws Features."""
    arrows = {name: set() for name in MODULES}
    for name, path in MODULES.items():
        for module, _ in imports(path):
            target = module if module in MODULES else module.rpartition(".")[0]
            # The package itself only holds the version and names that are imported when used.
            if target in MODULES and target not in (name, "tubelet"):
                arrows[name].add(target)
    del arrows["tubelet"]
    arrows["tubelet.types"].discard("tubelet.rows.plots")
    left = dict(arrows)
    while ends := [name for name, to in left.items() if not to & left.keys()]:
        for name in ends:
            del left[name]
    assert not left, f"circles among {sorted(left)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_third_party_fences(path):
    unit = unit_of(path)
    name = str(path.relative_to(SRC)).removesuffix(".py")
    for module, typing_only in imports(path):
        top = module.split(".")[0]
        if top in FENCES:
            assert unit in FENCES[top], f"{unit} imports {top}, which belongs to {FENCES[top]}"
        if name in WITHOUT_TORCH and top == "torch":
            assert typing_only, f"{name} must not import torch"


@pytest.mark.parametrize("family", sorted(FAMILY_MAY_IMPORT))
def test_a_family_reads_alone(family):
    for module, _ in imports(SRC / "models" / f"{family}.py"):
        if module.startswith("tubelet.models."):
            block = ".".join(module.split(".")[2 : 4 if ".blocks." in module else 3])
            assert block in FAMILY_MAY_IMPORT[family], f"{family} imports {module}"
