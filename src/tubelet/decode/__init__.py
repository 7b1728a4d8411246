"""PATH -> FRAMES: readers of videos and what they promise (base.py), one file per backend."""
