"""Training loops, one per file: each builds a function that does one repetition of the same work."""
