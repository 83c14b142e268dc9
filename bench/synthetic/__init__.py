"""Synthetic tables of latens and of others: the systems that draw them, the measures, and the table of figures."""
