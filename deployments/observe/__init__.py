"""Logs, metrics and traces: what is counted and how it leaves.

Knows nothing of who counts.
"""
