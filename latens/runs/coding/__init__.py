"""Lossless compression with a fitted model: bits back, on an entropy coder with many lanes."""
