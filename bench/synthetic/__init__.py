"""Synthetic tables beside those of others: what draws them, what is measured of them, and the table of the figures."""
