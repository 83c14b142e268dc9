"""Numbers under everything: trees of tensors, numerically stable functions, and randomness without state."""
