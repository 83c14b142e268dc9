"""Lossless compression with a fitted model: bits back over an entropy coder of many lanes."""
