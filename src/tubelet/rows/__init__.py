"""Looking at stored rows: sets, similarity, scores, comparison, annotations, search."""
