"""Long videos in parts that are read at once."""
