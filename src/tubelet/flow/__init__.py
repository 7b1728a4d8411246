"""Optical flow: pairs of frames -> how far every pixel moves. Start at `base.py`."""
