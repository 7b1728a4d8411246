"""FRAMES -> CLIPS: windows, the frames each one takes, and the tensor a network sees."""
