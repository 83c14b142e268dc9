"""Folders of images of any kind as arrays, or as rows that are decoded when they are indexed."""
