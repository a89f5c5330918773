"""The video network's training: what learns, noise, losses, batches, how it is saved.

Knows nothing of where clips come from.
"""
