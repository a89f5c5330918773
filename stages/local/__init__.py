"""What runs without a server: all four stages in one process, the files they write, and the commands for it.

Knows nothing of how a stage computes.
"""
