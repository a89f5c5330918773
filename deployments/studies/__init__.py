"""Human studies: which of two videos is better. The frozen plan, raters' links and votes, and what the votes say.

Knows nothing of HTTP, Ray or how a video is made.
"""
