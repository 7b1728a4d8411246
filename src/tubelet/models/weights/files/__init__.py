"""Bounded readers of every checkpoint file format."""
