"""Training loops, one per file: each makes a repetition of the same work."""
