"""Training and evaluation; see `loop.py` for the entry, `config.py` for what a recipe says."""
