"""Measuring on shared machines: `timing` (subjects that take turns), `ceilings` (what the machine
can do), `networks` (what one forward pass costs), `chart` (pictures)."""
