"""One video: the arrow from path to rows, several models at once, and what decides the numbers."""
