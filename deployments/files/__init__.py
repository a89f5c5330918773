"""Files kept whole or not at all: the artifact store, checkpoints and their keeper, mp4 and its fragments.

Knows nothing of the journal or of HTTP; it is told keys and digests.
"""
