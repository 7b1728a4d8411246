"""One file format each for the rows of a video."""
