"""Training loops, one a file: each makes a repetition of the same work."""
