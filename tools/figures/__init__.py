"""The drawings of docs/figures. `python -m tools.figures` writes them all; a test compares them.

Every number in a drawing is read from a network (built on the meta device), from the multigrid
schedule or from the table of costs: a string in a drawing's source has no digit of its own, and
`tests/test_figures.py` holds that.
"""
