"""A user's clips and pictures: the manifest, decoding, and batches of them.

Knows nothing of losses.
"""
