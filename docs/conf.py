"""Sphinx: read by `python -m tools.site` from a copy of docs/ in build/docs."""

import os

import tubelet

project = "tubelet"
author = "The tubelet authors"
copyright = author
release = version = tubelet.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "sphinx.ext.intersphinx",
]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["deflist", "dollarmath"]
myst_fence_as_directive = {"math"}  # as GitHub writes formulas
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # generated pages may skip a level

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

# Links to Python, torch and numpy need their inventories: only where the network has them.
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
    }
    if "TUBELET_DOCS_ONLINE" in os.environ
    else {}
)

html_theme = "pydata_sphinx_theme"
html_title = "tubelet"
html_show_sourcelink = False
html_theme_options = {
    "github_url": "https://github.com/tubelet/tubelet",
    "navbar_align": "left",
    "show_toc_level": 2,
    "navigation_with_keys": False,
}
copybutton_prompt_text = "$ "
