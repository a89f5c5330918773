"""A served pipeline's own journal to a twin of it, the twin's error, another split's p95 and bill, and a new profile.

Reads a server through the client; starts nothing.
"""
