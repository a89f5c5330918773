"""The made-up world of the tiny weights: subjects, backgrounds, styles, captions, and where the animations come from.

Knows nothing of networks.
"""
