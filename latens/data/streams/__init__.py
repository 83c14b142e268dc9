"""Data larger than memory: blocks on disk, batches with exact positions, one pass that sees everything."""
