"""Folders of images in any format, as arrays, or as rows that are decoded when they are indexed."""
