"""Counts of many things: .h5ad files and sparse matrices, dense a batch at a time."""
