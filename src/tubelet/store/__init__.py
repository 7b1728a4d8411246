"""FEATURES -> DISK. `base.py` is the folder, its codecs are the file formats."""
