"""Released weights: download, verify, keep."""
