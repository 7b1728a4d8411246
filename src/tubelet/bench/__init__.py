"""Measuring on shared machines: `rounds` (subjects that take turns), `ceilings` (what the machine
can do), `measure` (networks and videos), `cost` (operations of a forward pass), `bars` (pictures);
and `check` (whether an installation computes the reference's numbers)."""
