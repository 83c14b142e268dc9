"""Synthetic tables from latens and other systems: the systems that draw them, the measures, and the table of
figures."""
