"""The files that other tools read."""
