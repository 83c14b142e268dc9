"""The numerical base: trees of tensors, numerically stable functions, and randomness without state."""
