"""The numerical base: trees of tensors, numerically stable functions, and stateless random numbers."""
