"""Training: the tiny weights from nothing, and the parts of any preset on a user's own data, by the same code.

Nothing here is imported when a video is made.
"""
