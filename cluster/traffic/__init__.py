"""Arrivals from a seed or a file, and the rows and figures that a run leaves.

Knows nothing of what serves them.
"""
